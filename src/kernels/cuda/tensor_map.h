// Tensors of bf16 and of bytes as TMA reads them.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>
#include <string>

namespace hone::kernels::cuda {

/// "" where the driver makes tensor maps, else why not.
std::string why_no_tensor_maps();

/// Boxes of `box` numbers of bf16, the first 64: rows of 128 bytes in shared memory, swizzled. dims,
/// innermost first, are in numbers, strides of all but the first in bytes: multiples of 16, as is `data`; the
/// kernels' callers have looked (Error(kInternal) otherwise).
CUtensorMap tensor_map(const void* data, std::span<const std::uint64_t> dims,
                       std::span<const std::uint64_t> strides, std::span<const std::uint32_t> box);
/// Of bytes, 128 a row of a box.
CUtensorMap byte_map(const void* data, std::span<const std::uint64_t> dims,
                     std::span<const std::uint64_t> strides, std::span<const std::uint32_t> box);

}  // namespace hone::kernels::cuda
