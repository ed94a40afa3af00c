// What the tests of emulated tensor maps share.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/hopper.cuh"

namespace hone::kernels::cuda {

using Number = __nv_bfloat16;

/// Of bf16, boxes of 64 numbers a row, swizzled.
inline CUtensorMap map_of(const void* data, const std::vector<cuuint64_t>& dims,
                          const std::vector<cuuint64_t>& strides, const std::vector<cuuint32_t>& box) {
  CUtensorMap map{};
  const std::vector<cuuint32_t> ones(dims.size(), 1);
  EXPECT_EQ(
      cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(dims.size()),
                             const_cast<void*>(data), dims.data(), strides.data(), box.data(), ones.data(),
                             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
      CUDA_SUCCESS);
  return map;
}

class HopperEmulation : public testing::Test {
 protected:
  ~HopperEmulation() override {
    cudaDeviceReset();
    for (void* p : memory_) cudaFree(p);
  }
  template <typename T>
  T* managed(std::size_t n) {
    void* p = nullptr;
    EXPECT_EQ(cudaMallocManaged(&p, n * sizeof(T)), cudaSuccess);
    memory_.push_back(p);
    return static_cast<T*>(p);
  }
  Number* random_numbers(std::size_t n, unsigned seed) {
    auto* p = managed<Number>(n);
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < n; ++i) p[i] = Number(static_cast<float>(random() % 17) - 8);
    return p;
  }
  /// Runs what was launched; what was caught, "" if nothing.
  static std::string outcome() {
    if (cudaDeviceSynchronize() == cudaSuccess) return "";
    cudaDeviceReset();
    return cuda_emulation::last_report();
  }

 private:
  std::vector<void*> memory_;
};

}  // namespace hone::kernels::cuda
