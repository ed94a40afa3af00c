#include "kernels/peak.h"

#include <gtest/gtest.h>

namespace hone::kernels {
namespace {

TEST(Peak, OfComputeIsThatOfSomeRealProcessor) {
  const ComputePeak one = measure_compute_peak(choose_cpu_isa(), 1);
  EXPECT_GT(one.f32, 1);     // GFLOP/s: slower than any machine of this century
  EXPECT_LT(one.f32, 2000);  // faster than any core: the loop was optimised away
  EXPECT_GT(one.bf16, 1);
  EXPECT_LT(one.bf16, 8000);
}

TEST(Peak, OfMemoryIsThatOfSomeRealMachine) {
  const MemoryPeak two = measure_memory_peak(choose_cpu_isa(), 2);
  for (const double rate : {two.read, two.copy, two.triad}) {
    EXPECT_GT(rate, 0.2);
    EXPECT_LT(rate, 5000);
  }
}

TEST(Peak, FractionIsThatOfTheNearerCeiling) {
  const Cost cost{.flops = 2e9, .bytes = 1e9};
  EXPECT_DOUBLE_EQ(fraction_of_peak(cost, 1, 10, 100), 0.2);
  EXPECT_DOUBLE_EQ(fraction_of_peak(cost, 1, 100, 2), 0.5);
  EXPECT_DOUBLE_EQ(fraction_of_peak(cost, 0, 100, 2), 0);
}

}  // namespace
}  // namespace hone::kernels
