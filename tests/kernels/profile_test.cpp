#include "kernels/profile.h"

#include <gtest/gtest.h>

namespace hone::kernels {
namespace {

CopyArgs copy_of(std::int64_t rows) {
  CopyArgs a{};
  a.x = a.y = {nullptr, DType::kF32, rows, 1000, 1000};
  return a;
}
constexpr SumOfSquaresArgs kSum{.n = 1'000'000'000};

TEST(Profile, SumsTheCallsOfASlot) {
  const auto stream = device::make_stream({device::DeviceType::kCpu, 0}, 1);
  Profile profile;
  int runs = 0;
  for (int i = 0; i < 3; ++i) profile.time(kSum, *stream, [&] { ++runs; });
  const Stopwatch watch;
  profile.begin(Phase::kBackward);
  profile.time(copy_of(250'000), *stream, [] {
    for (const Stopwatch spin; spin.seconds() < 2e-3;) continue;
  });
  const double outside = watch.seconds();
  EXPECT_EQ(runs, 3);

  const auto slots = profile.slots({.f32_gflops = 1, .gb_s = 1});
  ASSERT_EQ(slots.size(), 2u);
  EXPECT_EQ(slots[0].name, "copy") << "the longest first";
  EXPECT_EQ(slots[0].path, "") << "no card's";
  EXPECT_GE(slots[0].seconds, 2e-3);
  EXPECT_LE(slots[0].seconds, outside);
  EXPECT_DOUBLE_EQ(slots[0].seconds_in[1], slots[0].seconds) << "all of it in the backward pass";
  EXPECT_DOUBLE_EQ(slots[0].least_seconds, 2);
  EXPECT_EQ(slots[1].calls, 3);
  EXPECT_DOUBLE_EQ(slots[1].flops, 6e9);
  EXPECT_DOUBLE_EQ(slots[1].bytes, 12e9);
  EXPECT_DOUBLE_EQ(slots[1].least_seconds, 12) << "each call's";
  EXPECT_DOUBLE_EQ(slots[1].seconds_in[2], slots[1].seconds)
      << "updates are the optimizer's whenever they come";
}

TEST(Profile, OnTheMetaDeviceIsTheModelOfItsCard) {
  device::MetaStream stream(1, device::DeviceType::kCuda);
  const CardTarget h200{.card = find_card("H200")};
  Profile profile(h200);
  int runs = 0;
  const CopyArgs copy = copy_of(1'000'000);
  profile.time(copy, stream, [&] { ++runs; });
  profile.begin(Phase::kBackward);
  profile.time(copy, stream, [&] { ++runs; });
  EXPECT_EQ(runs, 2) << "what takes scratch memory there";
  const auto slots = profile.slots(ceilings_of(h200.card));
  ASSERT_EQ(slots.size(), 1u);
  EXPECT_EQ(slots[0].path, "row kernel");
  const double once = work_time(card_work(copy, h200), cost(copy), h200.card).total();
  EXPECT_DOUBLE_EQ(slots[0].seconds, 2 * once);
  EXPECT_DOUBLE_EQ(slots[0].seconds_in[0], once);
  EXPECT_DOUBLE_EQ(slots[0].seconds_in[1], once);
  EXPECT_DOUBLE_EQ(slots[0].model.total(), 2 * once);
  EXPECT_DOUBLE_EQ(slots[0].model.least, slots[0].least_seconds);
}

}  // namespace
}  // namespace hone::kernels
