// The head sizes that the attention kernels for NVIDIA cards take. (Not in attention.cuh: nvcc 13 does not
// take fmt 9's format strings.)
#pragma once

#include <cstdint>

namespace hone::kernels::cuda {

inline constexpr std::int64_t kMostHeadDim = 256;

/// Throws Error(kUser) where a head is longer than that.
void check_head_size(std::int64_t head_dim, std::int64_t v_dim);

}  // namespace hone::kernels::cuda
