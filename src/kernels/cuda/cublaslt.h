// Dense products by NVIDIA's cuBLASLt, which is loaded when the first product wants it. Who has no such
// library loses speed only.
#pragma once

#include <string>

#include "kernels/cuda/cuts.h"

namespace hone::kernels::cuda {

/// What its algorithms may take of scratch memory: NVIDIA's advice for Hopper.
inline constexpr std::int64_t kVendorScratchBytes = std::int64_t{32} << 20;

/// Puts the product into the stream, by the library; false, where it does not take it (why_not_vendor).
/// scratch: kVendorScratchBytes, 256-byte aligned.
bool vendor_matmul(const MatmulArgs& a, Stream& stream, void* scratch);

/// Why our own tiles take a product and not the library; "" where it does.
std::string why_not_vendor(const MatmulArgs& a, Stream& stream);

/// Why there is no such library; "" where there is.
std::string why_no_vendor_library();
/// "cuBLASLt 13.1.1 (PATH)", or why there is none and where it was looked for.
std::string describe_vendor_library();

}  // namespace hone::kernels::cuda
