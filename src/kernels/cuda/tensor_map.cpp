#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include <array>

#include "base/error.h"

namespace hone::kernels::cuda {

namespace {

struct Driver {
  decltype(&::cuTensorMapEncodeTiled) encode = nullptr;
  std::string missing;
};

/// Asked when it is first needed, so that nothing is linked to the driver's library.
const Driver& driver() {
  static const Driver kDriver = [] {
    Driver driver;
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t status =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
    if (status == cudaSuccess && result == cudaDriverEntryPointSuccess && found != nullptr)
      driver.encode = reinterpret_cast<decltype(driver.encode)>(found);
    else
      driver.missing = "the driver has no cuTensorMapEncodeTiled";
    return driver;
  }();
  return kDriver;
}

CUtensorMap map_of(CUtensorMapDataType type, const void* data, std::span<const std::uint64_t> dims,
                   std::span<const std::uint64_t> strides, std::span<const std::uint32_t> box) {
  constexpr std::array<cuuint32_t, 5> kOnes{1, 1, 1, 1, 1};
  HONE_CHECK(driver().encode != nullptr, "[cuda] a tensor map is wanted, but {}", driver().missing);
  HONE_CHECK(dims.size() <= 5 && strides.size() + 1 == dims.size() && box.size() == dims.size(),
             "[cuda] a tensor map of {} dimensions, {} strides and a box of {}", dims.size(), strides.size(),
             box.size());
  CUtensorMap map{};
  const CUresult status = driver().encode(
      &map, type, static_cast<cuuint32_t>(dims.size()), const_cast<void*>(data), dims.data(), strides.data(),
      box.data(), kOnes.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  HONE_CHECK(status == CUDA_SUCCESS,
             "[cuda] the driver makes no tensor map of {} x {} numbers at {} (error {})", dims[0], dims[1],
             fmt::ptr(data), static_cast<int>(status));
  return map;
}

}  // namespace

std::string why_no_tensor_maps() {
  return driver().missing;
}

CUtensorMap tensor_map(const void* data, std::span<const std::uint64_t> dims,
                       std::span<const std::uint64_t> strides, std::span<const std::uint32_t> box) {
  return map_of(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, data, dims, strides, box);
}

CUtensorMap byte_map(const void* data, std::span<const std::uint64_t> dims,
                     std::span<const std::uint64_t> strides, std::span<const std::uint32_t> box) {
  return map_of(CU_TENSOR_MAP_DATA_TYPE_UINT8, data, dims, strides, box);
}

}  // namespace hone::kernels::cuda
