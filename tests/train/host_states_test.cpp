// States in the host's memory: what comes back is what an update of states on the device would have left, and
// each event that orders the three streams is needed.
#include "train/host_states.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "device/out_of_memory.h"
#include "ops/launch.h"
#include "tensor/transfer.h"
#include "tests/device/forgetful_stream.h"
#include "train/forecast.h"

namespace hone::train {
namespace {

using device::DeviceType;
using device::Forgetful;

/// On the CPU a guarded one, whose memory is as far from the host as a card's.
class HostStatesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (device::default_device().type == DeviceType::kCpu) ::setenv("HONE_GUARDED", "1", 1);
  }
  void TearDown() override {
    if (device::default_device().type == DeviceType::kCpu) ::unsetenv("HONE_GUARDED");
  }
};

struct Sum {
  std::vector<float> master, first;
  bool operator==(const Sum&) const = default;
};

/// Rounds in which master = 2 master + gradient, first = first + master, of parameters of these sizes; in
/// round r those are left out whose number is r modulo 7. On the host's side; and by HostStates.
std::vector<Sum> expected_sums(const std::vector<std::int64_t>& sizes, int rounds) {
  std::vector<Sum> sums;
  for (const auto n : sizes)
    sums.push_back(
        {std::vector<float>(static_cast<std::size_t>(n)), std::vector<float>(static_cast<std::size_t>(n))});
  for (int round = 0; round < rounds; ++round)
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      if (p % 7 == static_cast<std::size_t>(round % 7)) continue;
      for (std::size_t i = 0; i < sums[p].master.size(); ++i) {
        sums[p].master[i] += static_cast<float>((i + p) % 13 + static_cast<std::size_t>(round));
        sums[p].first[i] += sums[p].master[i];
      }
    }
  return sums;
}

std::vector<Sum> sums(const std::vector<std::int64_t>& sizes, int rounds, std::size_t piece_bytes,
                      Forgetful::Of there = {}, Forgetful::Of back = {}) {
  ops::Context context(device::default_device(), 1);
  bool first = true;
  HostStates states(context, piece_bytes, [&]() -> std::unique_ptr<device::Stream> {
    return std::make_unique<Forgetful>(context.device(), std::exchange(first, false) ? there : back);
  });
  std::vector<States> all;
  for (const auto n : sizes) {
    all.push_back({.master = states.zeros(hone::Shape{n}, DType::kF32),
                   .first = states.zeros(hone::Shape{n}, DType::kF32)});
    EXPECT_EQ(states.add(all.back(), n), all.size() - 1);
  }
  states.allocate();
  for (int round = 0; round < rounds; ++round) {
    there.active = back.active = round > 0;  // by then all buffers hold something
    std::vector<Tensor> gradients;
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      std::vector<float> values(static_cast<std::size_t>(sizes[p]));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>((i + p) % 13 + static_cast<std::size_t>(round));
      gradients.push_back(context.upload(values));
    }
    states.begin_round();
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      if (p % 7 == static_cast<std::size_t>(round % 7)) continue;
      states.update(p, context.stream(), [&](std::int64_t begin, std::int64_t end, const States& here) {
        EXPECT_EQ(here.master.numel(), end - begin);
        ops::copy(context, "test", gradients[p].rows(begin, end), here.master, true);
        ops::copy(context, "test", here.master, here.first, true);
      });
    }
    context.stream().synchronize();  // as a step does, which reads its norm
  }
  states.wait();
  std::vector<Sum> result;
  for (const auto& of : all) {
    const auto values = [&](const Tensor& tensor) {
      const HostView view(context.stream(), tensor);
      std::vector<float> numbers(static_cast<std::size_t>(tensor.numel()));
      std::memcpy(numbers.data(), view.data(), tensor.size_bytes());
      return numbers;
    };
    result.push_back({values(of.master), values(of.first)});
  }
  return result;
}

/// Small ones, large ones in several pieces of 256 elements and more, and none.
const std::vector<std::int64_t> kSizes{3, 5000, 256, 257, 0, 1, 70'001, 512, 4096, 33};

TEST_F(HostStatesTest, AreWhatUpdatesOnTheDeviceWouldLeave) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{8192}, HostStates::kPieceBytes})
    EXPECT_EQ(sums(kSizes, 9, piece), expected_sums(kSizes, 9)) << piece;
  EXPECT_EQ(sums({300}, 3, HostStates::kPieceBytes), expected_sums({300}, 3)) << "one buffer";
}

TEST_F(HostStatesTest, EachEventIsNeeded) {
  const auto want = expected_sums(kSizes, 9);
  const auto is_seen = [&](Forgetful::Of there, Forgetful::Of back) {
    return sums(kSizes, 9, 8192, there, back) != want;
  };
  EXPECT_TRUE(is_seen({.waits = true}, {}))
      << "brought before the last piece in its place, or its state, is back";
  if (device::default_device().type == DeviceType::kCpu) return;  // where all but downloads is done at once
  EXPECT_TRUE(is_seen({.records = true}, {})) << "updated before it is there";
  EXPECT_TRUE(is_seen({}, {.waits = true})) << "taken back before it is updated";
  EXPECT_TRUE(is_seen({}, {.records = true})) << "brought into a place whose piece has not left";
}

TEST_F(HostStatesTest, AreCountedWhereTheyLie) {
  ops::Context context(device::default_device(), 1);
  {
    HostStates states(context, 8192);
    (void)states.add({.master = states.zeros(hone::Shape{50, 100}, DType::kF32)}, 5000);
    (void)states.add({.first = states.zeros(hone::Shape{300}, DType::kF32)}, 300);
    states.allocate();
    EXPECT_EQ(context.stream().host_ledger().current(device::Purpose::kOptimizer), 4 * 5300);
    EXPECT_EQ(context.ledger().current(device::Purpose::kOptimizer), 3 * 8192);
  }
  EXPECT_EQ(context.stream().host_ledger().current_total(), 0);
  EXPECT_EQ(context.ledger().current_total(), 0);
}

}  // namespace
}  // namespace hone::train
