// Updates in a stream of their own: what they see and leave is what one stream would, with memory that goes
// from hand to hand; and each event that orders the two streams is needed.
#include "train/update_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tensor/transfer.h"
#include "tests/train/forgetful_stream.h"

namespace hone::train {
namespace {

constexpr std::size_t kBytes = 10'000;  // of a gradient
constexpr int kGradients = 12;

/// On the CPU a guarded one, whose memory is as far from the host as a card's; on a card memory that is
/// pooled, so that what comes too early or too late is found in the numbers.
class UpdateStreamTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* value = std::getenv("HONE_GUARDED")) before_ = value;
    ::setenv("HONE_GUARDED", on_cpu() ? "1" : "0", 1);
  }
  void TearDown() override {
    before_ ? ::setenv("HONE_GUARDED", before_->c_str(), 1) : ::unsetenv("HONE_GUARDED");
  }
  static bool on_cpu() { return device::default_device().type == device::DeviceType::kCpu; }

 private:
  std::optional<std::string> before_;
};

struct Setting {
  std::size_t most_bytes = 0;
  int rounds = 5;
  /// When the host waits for the updates of a round besides.
  enum class Wait { kNever, kBeforeReading, kAfterReading } wait = Wait::kNever;
};
struct Outcome {
  std::vector<std::byte> left;  // of every round by every update: all of its bytes
  std::int64_t most_gradient_bytes = 0;
};

/// Gradients of one number each, which their updates leave in their weights.
Outcome updates(const Setting& run, Forgetful::Of forgotten = {}) {
  ops::Context context(device::default_device(), 1);
  const Shape shape{static_cast<std::int64_t>(kBytes)};
  std::vector<Tensor> weights;
  for (int i = 0; i < kGradients; ++i)
    weights.push_back(context.zeros(shape, DType::kU8, device::Purpose::kWeights));
  device::Stream* stream = nullptr;
  UpdateStream beside(context, run.most_bytes, [&] {
    auto made = std::make_unique<Forgetful>(context.device(), forgotten);
    stream = made.get();
    return made;
  });
  context.stream().synchronize();
  forgotten.active = true;
  Outcome outcome;
  for (int round = 0; round < run.rounds; ++round) {
    for (int i = 0; i < kGradients; ++i) {
      Tensor gradient = context.empty(shape, DType::kU8, device::Purpose::kGradients);
      const void* at = gradient.data();
      context.stream().fill(gradient.data(), static_cast<std::uint8_t>(1 + round * kGradients + i), kBytes);
      beside.put(std::move(gradient), [&](ops::Context& updates) {
        updates.stream().copy(at, weights[static_cast<std::size_t>(i)].data(), kBytes);
      });
    }
    beside.join();
    if (run.wait == Setting::Wait::kBeforeReading) {  // and the context's stream runs ahead of them
      context.stream().synchronize();
      stream->synchronize();
    }
    for (int i = kGradients - 1; i >= 0; --i) {  // what was updated last first
      const HostView view(context.stream(), weights[static_cast<std::size_t>(i)]);
      outcome.left.insert(outcome.left.end(), view.bytes().begin(), view.bytes().end());
    }
    if (run.wait == Setting::Wait::kAfterReading) stream->synchronize();
  }
  outcome.most_gradient_bytes = context.ledger().peak(device::Purpose::kGradients);
  EXPECT_EQ(context.ledger().current(device::Purpose::kGradients), 0) << "let go of after their updates";
  stream->synchronize();
  return outcome;
}
std::vector<std::byte> expected(int rounds) {
  std::vector<std::byte> left;
  for (int round = 0; round < rounds; ++round)
    for (int i = kGradients; i > 0; --i)
      left.insert(left.end(), kBytes, static_cast<std::byte>(round * kGradients + i));
  return left;
}

TEST_F(UpdateStreamTest, LeavesWhatOneStreamWould) {
  for (const std::size_t most : {std::size_t{0}, 3 * kBytes + 1, std::size_t{1} << 30}) {
    const Outcome outcome = updates({.most_bytes = most});
    EXPECT_EQ(outcome.left, expected(5)) << most;
    // The next one is made while the last ones, as many as may be, are under way.
    const std::size_t gradients = most == 0 ? 2 : std::min<std::size_t>(most / kBytes + 1, kGradients);
    EXPECT_EQ(outcome.most_gradient_bytes, static_cast<std::int64_t>(gradients * kBytes)) << most;
  }
}

TEST_F(UpdateStreamTest, EachEventIsNeeded) {
  if (on_cpu()) GTEST_SKIP() << "there all is done at once";
  const auto is_seen = [](const Setting& run, const Forgetful::Of& forgotten) {
    return updates(run, forgotten).left != expected(run.rounds);
  };
  EXPECT_TRUE(is_seen({}, {.waits = true})) << "updated before the gradient is there";
  EXPECT_TRUE(is_seen({.wait = Setting::Wait::kBeforeReading}, {.records = true}))
      << "a gradient's memory is another's before its update is done";
  EXPECT_TRUE(
      is_seen({.most_bytes = std::size_t{1} << 30, .wait = Setting::Wait::kAfterReading}, {.records = true}))
      << "a weight is read before its update";
}

TEST_F(UpdateStreamTest, IsJoinedWhenAnUpdateThrows) {
  ops::Context context(device::default_device(), 1);
  {
    UpdateStream beside(context, kBytes);
    Tensor gradient =
        context.empty(Shape{static_cast<std::int64_t>(kBytes)}, DType::kU8, device::Purpose::kGradients);
    EXPECT_THROW(
        beside.put(std::move(gradient), [](ops::Context&) { throw std::runtime_error("an update"); }),
        std::runtime_error);
    beside.join();
    EXPECT_EQ(context.ledger().current(device::Purpose::kGradients), 0);
  }
}

}  // namespace
}  // namespace hone::train
