// Products by cuBLASLt, whose twin (emulation/cuda/cublaslt.cpp) refuses what NVIDIA says that it refuses.
#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cuda/cuda_stream.h"
#include "kernels/cuda/register.h"
#include "tests/cuda/card_cases.h"
#include "tests/cuda/card_memory.h"
#include "tests/tolerance.h"

namespace hone::test {
namespace {

using kernels::MatmulArgs;
using testing::HasSubstr;

struct Options {
  bool transpose_a, transpose_b, bias, residual, accumulate;
  std::int64_t pad;
};

class CublasLt : public CardMemory {
 protected:
  static MatmulArgs product(Arena& arena, std::int64_t m, std::int64_t n, std::int64_t k, DType dtype,
                            DType out, DType residual, const Options& o) {
    MatmulArgs a;
    a.a = o.transpose_a ? arena.input(k, m, dtype, o.pad) : arena.input(m, k, dtype, o.pad);
    a.b = o.transpose_b ? arena.input(n, k, dtype, o.pad) : arena.input(k, n, dtype, o.pad);
    a.transpose_a = o.transpose_a;
    a.transpose_b = o.transpose_b;
    a.has_bias = o.bias;
    if (o.bias) a.bias = arena.input(1, n, dtype).data;
    if (o.residual) a.residual = arena.input(m, n, residual, o.pad);
    a.accumulate = o.accumulate;
    a.c = arena.output("c", m, n, out, o.accumulate, tolerance(out, k), o.pad);
    return a;
  }

  device::Stream* const stream_ = &card();
};

TEST_F(CublasLt, AgreesWithTheReferenceOrLeavesItToOurTiles) {
  constexpr std::int64_t kShapes[][3] = {{1, 1, 1}, {5, 33, 7}, {64, 48, 96}, {70, 130, 31}};
  int taken = 0, left = 0;
  for (const auto& [m, n, k] : kShapes)
    for (unsigned bits = 0; bits < 32; ++bits)
      for (const std::int64_t pad : {0, 3, 8})
        for (const DType dtype : kBothDtypes)
          for (const DType out : kBothDtypes) {
            if (dtype == DType::kF32 && out != dtype) continue;
            const auto bit = [bits](unsigned i) { return (bits >> i & 1U) != 0; };
            const Options o{bit(0), bit(1), bit(2), bit(3), bit(4), pad};
            const DType residual = k % 2 == 0 ? out : DType::kF32;
            Arena arena, expected;
            const MatmulArgs a = product(arena, m, n, k, dtype, out, residual, o);
            void* scratch = stream_->shared_workspace(kernels::cuda::kVendorScratchBytes);
            const bool both = o.residual && o.accumulate;
            const bool may = !both && !(o.residual && residual != out) && !(o.bias && dtype != out);
            const auto what = fmt::format("{}x{}x{} {}->{} bits {} pad {}", m, n, k, name_of(dtype),
                                          name_of(out), bits, pad);
            ASSERT_EQ(kernels::cuda::vendor_matmul(a, *stream_, scratch), may) << what;
            ++(may ? taken : left);
            if (!may) continue;
            const Outputs got = arena.outputs();
            device::CpuStream host = make_stream(1);
            kernels::cpu_kernels(kernels::CpuIsa::kReference)
                .matmul(product(expected, m, n, k, dtype, out, residual, o), host);
            expect_near(got, expected.outputs(), what);
            ASSERT_FALSE(HasFailure()) << what;
          }
  EXPECT_GT(taken, 100);
  EXPECT_GT(left, 100);
}

// A plan is of the dtypes of both operands: a router's f32 weight may follow a bf16 one of the same shape.
TEST_F(CublasLt, DoesNotTakeAnotherDtypeForThePlannedOne) {
  Arena arena;
  const Options plain{false, true, false, false, false, 0};
  void* scratch = stream_->shared_workspace(kernels::cuda::kVendorScratchBytes);
  MatmulArgs a = product(arena, 64, 48, 96, DType::kBF16, DType::kF32, DType::kF32, plain);
  a.b = arena.input(48, 96, DType::kF32);
  a.b.dtype = DType::kBF16;  // at the same place
  EXPECT_TRUE(kernels::cuda::vendor_matmul(a, *stream_, scratch));
  a.b.dtype = DType::kF32;
  EXPECT_FALSE(kernels::cuda::vendor_matmul(a, *stream_, scratch));
}

TEST_F(CublasLt, IsAskedForLargeProductsAndSaysWhyNot) {
  using kernels::cuda::why_not_vendor;
  EXPECT_THAT(kernels::cuda::describe_vendor_library(), HasSubstr("13.1.1"));
  Arena arena;
  MatmulArgs a = product(arena, 8, 8, 8, DType::kBF16, DType::kBF16, DType::kBF16,
                         {false, true, false, false, false, 0});
  EXPECT_THAT(why_not_vendor(a, *stream_), HasSubstr("small"));
  EXPECT_EQ(kernels::cuda::scratch_bytes_of(a), 0);
  // only shapes and addresses are looked at
  a.a.rows = a.c.rows = 1024, a.b.rows = a.c.cols = 1024, a.a.cols = a.b.cols = 512;
  a.a.stride = a.b.stride = 512, a.c.stride = 1024;
  EXPECT_EQ(why_not_vendor(a, *stream_), "");
  EXPECT_EQ(kernels::cuda::scratch_bytes_of(a), kernels::cuda::kVendorScratchBytes);
  a.residual = a.c;
  a.accumulate = true;
  EXPECT_THAT(why_not_vendor(a, *stream_), HasSubstr("residual"));
  a.accumulate = false;
  a.residual.dtype = DType::kF32;
  EXPECT_THAT(why_not_vendor(a, *stream_), HasSubstr("residual"));
  a.residual = {};
  a.c.dtype = DType::kF32;
  a.has_bias = true;
  EXPECT_THAT(why_not_vendor(a, *stream_), HasSubstr("bias"));
}

TEST_F(CublasLt, LeavesABiasThatBeginsAnywhereToOurTiles) {
  Arena arena;
  MatmulArgs a = product(arena, 64, 48, 96, DType::kBF16, DType::kBF16, DType::kBF16,
                         {false, true, true, false, false, 0});
  void* scratch = stream_->shared_workspace(kernels::cuda::kVendorScratchBytes);
  EXPECT_TRUE(kernels::cuda::vendor_matmul(a, *stream_, scratch));
  a.bias = static_cast<const char*>(arena.input(1, 64, DType::kBF16).data) + 2;
  EXPECT_FALSE(kernels::cuda::vendor_matmul(a, *stream_, scratch));
}

/// A large product through the slot is the library's: it has written over the scratch memory.
TEST_F(CublasLt, TakesLargeProductsOfTheSlot) {
  Arena arena, expected;
  const Options o{false, true, true, false, false, 0};
  const auto args = [&](Arena& of) {
    return product(of, 128, 4096, 1024, DType::kBF16, DType::kBF16, DType::kBF16, o);
  };
  const MatmulArgs a = args(arena);
  auto* scratch = static_cast<unsigned char*>(stream_->shared_workspace(kernels::cuda::kVendorScratchBytes));
  stream_->fill(scratch, 0, 16);
  kernels::cuda_kernels().matmul(a, *stream_);
  const Outputs got = arena.outputs();
  auto seen = stream_->host_memory(16);
  stream_->download(scratch, seen);
  stream_->synchronize();
  EXPECT_EQ(static_cast<const unsigned char*>(seen->data())[0], 0xff);
  device::CpuStream host = make_stream(2);
  kernels::cpu_kernels(kernels::choose_cpu_isa()).matmul(args(expected), host);
  expect_near(got, expected.outputs(), "128x4096x1024");
}

TEST_F(CublasLt, TheTwinRefusesWhatTheLibraryRefuses) {
  cublasLtHandle_t handle = nullptr;
  ASSERT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulPreferenceCreate(&preference);
  const std::uint64_t workspace = 1 << 20;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, 8);
  const auto ask = [&](cudaDataType_t type, cudaDataType_t out, std::int64_t ld, std::uint64_t k_of_b,
                       cublasComputeType_t compute, cublasLtMatmulHeuristicResult_t& found) {
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulDescCreate(&desc, compute, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&a, type, 16, 8, ld);
    cublasLtMatrixLayoutCreate(&b, type, k_of_b, 24, 32);
    cublasLtMatrixLayoutCreate(&c, out, 16, 24, 16);
    int count = 0;
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, c, c, preference, 1, &found, &count);
    if (status == CUBLAS_STATUS_SUCCESS) {  // and then calls it wrongly
      void* memory = nullptr;
      cudaMalloc(&memory, 1 << 21);
      auto* at = static_cast<char*>(memory);
      const float one = 1, zero = 0;
      const auto call = [&](char* from, void* scratch, std::size_t size, const cublasLtMatmulAlgo_t* algo) {
        return cublasLtMatmul(handle, desc, &one, from, a, at, b, &zero, at, c, at, c, algo, scratch, size,
                              nullptr);
      };
      EXPECT_EQ(call(at, at, found.workspaceSize - 1, &found.algo), CUBLAS_STATUS_INVALID_VALUE);
      EXPECT_EQ(call(at, nullptr, found.workspaceSize, &found.algo), CUBLAS_STATUS_INVALID_VALUE);
      EXPECT_EQ(call(at, at + 16, found.workspaceSize, &found.algo), CUBLAS_STATUS_INVALID_VALUE);
      EXPECT_EQ(call(at, at, found.workspaceSize, nullptr), CUBLAS_STATUS_INVALID_VALUE);
      EXPECT_EQ(call(at + 128, at, found.workspaceSize, &found.algo), CUBLAS_STATUS_NOT_SUPPORTED);
      EXPECT_EQ(call(nullptr, at, found.workspaceSize, &found.algo), CUBLAS_STATUS_INVALID_VALUE);
      cudaFree(memory);
    }
    cublasLtMatrixLayoutDestroy(a);
    cublasLtMatrixLayoutDestroy(b);
    cublasLtMatrixLayoutDestroy(c);
    cublasLtMatmulDescDestroy(desc);
    return status;
  };
  cublasLtMatmulHeuristicResult_t found{};
  EXPECT_EQ(ask(CUDA_R_16BF, CUDA_R_16BF, 16, 8, CUBLAS_COMPUTE_32F, found), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(ask(CUDA_R_16BF, CUDA_R_32F, 16, 8, CUBLAS_COMPUTE_32F, found), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(ask(CUDA_R_32F, CUDA_R_16BF, 16, 8, CUBLAS_COMPUTE_32F, found), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(ask(CUDA_R_16BF, CUDA_R_16BF, 15, 8, CUBLAS_COMPUTE_32F, found), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(ask(CUDA_R_16BF, CUDA_R_16BF, 16, 9, CUBLAS_COMPUTE_32F, found), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(ask(CUDA_R_16BF, CUDA_R_16BF, 16, 8, CUBLAS_COMPUTE_32F_FAST_TF32, found),
            CUBLAS_STATUS_NOT_SUPPORTED);
  cublasLtMatmulPreferenceDestroy(preference);
  cublasLtDestroy(handle);
}

}  // namespace
}  // namespace hone::test
