// Products by cuBLASLt where the machine has it: of sizes whose algorithms are those of training steps, with
// parts of k and every epilogue that hone asks for. (The table's cases are too small for the library.)
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/cuda/cublaslt.h"
#include "tests/cuda/card_memory.h"
#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {
namespace {

using kernels::MatmulArgs;

/// What is asked for besides the product.
enum class More { kNothing, kBias, kResidual, kAccumulate };

/// f32 sums of bf16 products: tensor cores align each 8 or 16 products to the largest of them and of the sum,
/// and cut off what is below (Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores",
/// PeerJ CS 7, 2021), which loses half a unit in the last place towards 0 each time.
double tolerance_of(DType dtype, DType out, std::int64_t k) {
  const bool cuts = dtype == DType::kBF16 && out == DType::kF32;
  return tolerance(out, k) + (cuts ? 0x1p-24 * static_cast<double>(k) / 16 : 0);
}

class CudaProducts : public CardMemory {};

TEST_F(CudaProducts, OfTheLibraryAgreeWithTheReference) {
  if (const auto library = kernels::cuda::describe_vendor_library(); !library.starts_with("cuBLASLt"))
    GTEST_SKIP() << library;
  constexpr std::int64_t kShapes[][3] = {{256, 512, 384}, {64, 128, 4096}, {200, 264, 136}};
  constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16;
  constexpr std::pair<DType, DType> kTypes[] = {{kBF16, kBF16}, {kBF16, kF32}, {kF32, kF32}};
  device::CpuStream host = make_stream(2);
  for (const auto& [m, n, k] : kShapes)
    for (const auto& [dtype, out] : kTypes)
      for (const bool transpose_a : {false, true})
        for (const bool transpose_b : {false, true})
          for (const More more : {More::kNothing, More::kBias, More::kResidual, More::kAccumulate}) {
            if (more == More::kBias && dtype != out) continue;
            const auto product = [&](Arena& arena) {
              MatmulArgs a;
              a.a = transpose_a ? arena.input(k, m, dtype) : arena.input(m, k, dtype);
              a.b = transpose_b ? arena.input(n, k, dtype, 8) : arena.input(k, n, dtype, 8);
              a.transpose_a = transpose_a;
              a.transpose_b = transpose_b;
              a.has_bias = more == More::kBias;
              if (a.has_bias) a.bias = arena.input(1, n, dtype).data;
              if (more == More::kResidual) a.residual = arena.input(m, n, out);
              a.accumulate = more == More::kAccumulate;
              a.c = arena.output("c", m, n, out, a.accumulate, tolerance_of(dtype, out, k), 8);
              return a;
            };
            const auto what =
                fmt::format("{}x{}x{} {}->{}{}{} and {}", m, n, k, name_of(dtype), name_of(out),
                            transpose_a ? " at" : "", transpose_b ? " bt" : "", static_cast<int>(more));
            Arena arena, expected;
            void* scratch = card().shared_workspace(kernels::cuda::kVendorScratchBytes);
            ASSERT_TRUE(kernels::cuda::vendor_matmul(product(arena), card(), scratch)) << what;
            const Outputs got = arena.outputs();
            kernels::cpu_kernels(kernels::CpuIsa::kReference).matmul(product(expected), host);
            expect_near(got, expected.outputs(), what);
            ASSERT_FALSE(HasFailure()) << what;
          }
}

}  // namespace
}  // namespace hone::test
