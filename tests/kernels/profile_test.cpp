#include "kernels/profile.h"

#include <gtest/gtest.h>

namespace hone::kernels {
namespace {

TEST(Profile, SumsTheCallsOfASlot) {
  const auto stream = device::make_stream({device::DeviceType::kCpu, 0}, 1);
  Profile profile;
  int runs = 0;
  const Cost cost{.flops = 3e9, .bytes = 1e9};
  for (int i = 0; i < 3; ++i) profile.time("matmul", cost, *stream, [&] { ++runs; });
  const Stopwatch watch;
  profile.time("copy", {.flops = 1e9, .bytes = 2e9}, *stream, [] {
    for (const Stopwatch spin; spin.seconds() < 2e-3;) continue;
  });
  const double outside = watch.seconds();
  EXPECT_EQ(runs, 3);

  const auto slots = profile.slots({.f32_gflops = 1, .gb_s = 1});
  ASSERT_EQ(slots.size(), 2u);
  EXPECT_EQ(slots[0].name, "copy") << "the longest first";
  EXPECT_GE(slots[0].seconds, 2e-3);
  EXPECT_LE(slots[0].seconds, outside);
  EXPECT_DOUBLE_EQ(slots[0].least_seconds, 2);
  EXPECT_EQ(slots[1].calls, 3);
  EXPECT_DOUBLE_EQ(slots[1].flops, 9e9);
  EXPECT_DOUBLE_EQ(slots[1].bytes, 3e9);
  EXPECT_DOUBLE_EQ(slots[1].least_seconds, 9) << "each call's";
}

}  // namespace
}  // namespace hone::kernels
