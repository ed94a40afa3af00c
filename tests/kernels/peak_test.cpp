#include "kernels/peak.h"

#include <gtest/gtest.h>

namespace hone::kernels {
namespace {

TEST(Peak, OfComputeIsThatOfSomeRealProcessor) {
  Team alone(1);
  const ComputePeak one = measure_compute_peak(choose_cpu_isa(), alone);
  EXPECT_GT(one.f32, 1);     // GFLOP/s: slower than any machine of this century
  EXPECT_LT(one.f32, 2000);  // faster than any core: the loop was optimised away
  EXPECT_GT(one.bf16, 1);
  EXPECT_LT(one.bf16, 8000);
}

TEST(Peak, OfMemoryIsThatOfSomeRealMachine) {
  Team team(2);
  const MemoryPeak two = measure_memory_peak(choose_cpu_isa(), team);
  for (const double rate : {two.read, two.copy, two.triad}) {
    EXPECT_GT(rate, 0.2);
    EXPECT_LT(rate, 5000);
  }
}

TEST(Peak, OfACopyIsThatOfSomeRealMachine) {
  Team alone(1), team(2);
  EXPECT_GT(measure_copy_rate(choose_cpu_isa(), team), 0.2);
  EXPECT_LT(measure_copy_rate(choose_cpu_isa(), alone), 5000);
}

TEST(LeastSeconds, AreThoseOfTheNearerCeiling) {
  const Cost cost{.flops = 2e9, .bytes = 1e9};
  EXPECT_DOUBLE_EQ(least_seconds(cost, {.f32_gflops = 10, .gb_s = 100}), 0.2);
  EXPECT_DOUBLE_EQ(least_seconds(cost, {.f32_gflops = 100, .gb_s = 2}), 0.5);
  EXPECT_DOUBLE_EQ(least_seconds(cost, {}), 0) << "nothing is known";
}

TEST(LeastSeconds, GoByWhatIsMultiplied) {
  const Ceilings ceilings{.f32_gflops = 1, .bf16_gflops = 4, .gb_s = 100};
  EXPECT_DOUBLE_EQ(least_seconds(Cost{.flops = 8e9}, ceilings), 8);
  EXPECT_DOUBLE_EQ(least_seconds(Cost{.flops = 8e9, .dtype = DType::kBF16}, ceilings), 2);
}

TEST(LeastSeconds, OfSeveralKernelsAreEachOnesNotThoseOfTheSums) {
  const Ceilings ceilings{.f32_gflops = 1, .gb_s = 1};
  const std::vector<device::KernelCost> kernels{{"matmul", {.flops = 3e9, .bytes = 1e9}},
                                                {"copy", {.flops = 1e9, .bytes = 2e9}}};
  EXPECT_DOUBLE_EQ(least_seconds(kernels, ceilings), 5);  // 4e9 operations and 3e9 bytes would take 4
}

}  // namespace
}  // namespace hone::kernels
