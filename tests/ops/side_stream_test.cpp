// Work in a side stream: what it sees and leaves is what one stream would, with memory that goes from hand to
// hand; and each event that orders the two streams is needed.
#include "ops/side_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ops/autograd.h"
#include "tensor/transfer.h"
#include "tests/device/forgetful_stream.h"

namespace hone::ops {
namespace {

constexpr std::size_t kBytes = 10'000;  // of a gradient
constexpr int kGradients = 12;
using device::Forgetful;

/// On the CPU a guarded one, whose memory is as far from the host as a card's; on a card memory that is
/// pooled, so that what comes too early or too late is found in the numbers.
class SideStreamTest : public testing::Test {
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
  /// When the host waits for the side stream's work of a round besides. Before reading: the context's stream
  /// runs ahead of it, or it of that.
  enum class Wait { kNever, kBehindContext, kAheadOfContext, kAfterReading } wait = Wait::kNever;
};
struct Outcome {
  std::vector<std::byte> left;  // of every round by every update: all of its bytes
  std::int64_t most_gradient_bytes = 0;
};

/// Gradients of one number each, which their updates leave in their weights.
Outcome updates(const Setting& run, Forgetful::Of forgotten = {}) {
  Context context(device::default_device(), 1);
  const Shape shape{static_cast<std::int64_t>(kBytes)};
  std::vector<Tensor> weights;
  for (int i = 0; i < kGradients; ++i)
    weights.push_back(context.zeros(shape, DType::kU8, device::Purpose::kWeights));
  device::Stream* stream = nullptr;
  SideStream beside(context, run.most_bytes, [&] {
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
      std::vector<Tensor> reads;
      reads.push_back(std::move(gradient));
      beside.put(std::move(reads), {}, [at, &weights, i](Context& updates) {
        updates.stream().copy(at, weights[static_cast<std::size_t>(i)].data(), kBytes);
      });
    }
    beside.join();
    if (run.wait == Setting::Wait::kBehindContext) {
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

TEST_F(SideStreamTest, LeavesWhatOneStreamWould) {
  for (const std::size_t most : {std::size_t{0}, 3 * kBytes + 1, std::size_t{1} << 30}) {
    const Outcome outcome = updates({.most_bytes = most});
    EXPECT_EQ(outcome.left, expected(5)) << most;
    // The next one is made while the last ones, as many as may be, are under way.
    const std::size_t gradients = most == 0 ? 2 : std::min<std::size_t>(most / kBytes + 1, kGradients);
    EXPECT_EQ(outcome.most_gradient_bytes, static_cast<std::int64_t>(gradients * kBytes)) << most;
  }
}

TEST_F(SideStreamTest, EachEventIsNeeded) {
  if (on_cpu()) GTEST_SKIP() << "there all is done at once";
  const auto is_seen = [](const Setting& run, const Forgetful::Of& forgotten) {
    return updates(run, forgotten).left != expected(run.rounds);
  };
  EXPECT_TRUE(is_seen({}, {.waits = true})) << "updated before the gradient is there";
  EXPECT_TRUE(is_seen({.wait = Setting::Wait::kBehindContext}, {.records = true}))
      << "a gradient's memory is another's before its update is done";
  EXPECT_TRUE(
      is_seen({.most_bytes = std::size_t{1} << 30, .wait = Setting::Wait::kAfterReading}, {.records = true}))
      << "a weight is read before its update";
}

/// A leaf's gradient in backward, of each of `rounds` passes: one contribution in the side stream
/// (Backward::later) and one in the context's, which stand for additions: the later one is what is left.
/// Bytes of every pass.
std::vector<std::byte> contributions(bool main_last, const Setting& run, Forgetful::Of forgotten = {}) {
  Context context(device::default_device(), 1);
  const Shape shape{static_cast<std::int64_t>(kBytes / 4)};
  Tensor weight = context.empty(shape, DType::kF32, device::Purpose::kWeights);
  const auto slot = require_grad(weight, DType::kF32);
  device::Stream* stream = nullptr;
  SideStream beside(context, run.most_bytes, [&] {
    auto made = std::make_unique<Forgetful>(context.device(), forgotten);
    stream = made.get();
    return made;
  });
  const auto give = [](Context& to, const Tensor& dy, const GradTarget& target) {
    to.stream().copy(dy.data(), target.grad.data(), kBytes);
  };
  const auto in_side_stream = [&give](Backward& b) {
    b.later(
        {0}, [dy = b.take_grad()](Context&) { return std::vector<Tensor>{dy}; },
        [&give](Context& there, const std::vector<Tensor>& of, const std::vector<GradTarget>& to) {
          give(there, of[0], to[0]);
        });
  };
  const auto in_turn = [&give](Backward& b) { give(b.context(), b.grad(), b.target(0)); };
  context.stream().synchronize();
  forgotten.active = true;
  std::vector<std::byte> left;
  for (int round = 0; round < run.rounds; ++round) {
    slot->reset();
    Tape tape;
    const TapeScope recording(context, &tape);
    std::vector<std::pair<Tensor, Tensor>> seeds;
    for (const bool is_main : {main_last, !main_last}) {  // what is recorded last is differentiated first
      Tensor y = context.empty(shape, DType::kF32);
      is_main ? record(context, "test", {&weight}, {&y}, in_turn)
              : record(context, "test", {&weight}, {&y}, in_side_stream);
      seeds.emplace_back(y, context.empty(shape, DType::kF32));
      const int value = 1 + 2 * round + (is_main == main_last ? 1 : 0);
      context.stream().fill(seeds.back().second.data(), static_cast<std::uint8_t>(value), kBytes);
    }
    tape.backward(context, std::move(seeds), nullptr, &beside);
    if (run.wait == Setting::Wait::kAheadOfContext) stream->synchronize();
    if (run.wait == Setting::Wait::kBehindContext) {
      context.stream().synchronize();
      stream->synchronize();
    }
    const HostView view(context.stream(), slot->grad());
    left.insert(left.end(), view.bytes().begin(), view.bytes().end());
    if (run.wait == Setting::Wait::kAfterReading) stream->synchronize();
  }
  return left;
}
std::vector<std::byte> expected_contributions(int rounds) {
  std::vector<std::byte> left;
  for (int round = 0; round < rounds; ++round)
    left.insert(left.end(), kBytes, static_cast<std::byte>(2 + 2 * round));
  return left;
}

TEST_F(SideStreamTest, GradientsOfOneWeightComeInTheirTurn) {
  for (const bool main_last : {false, true})
    for (const std::size_t most : {std::size_t{0}, std::size_t{1} << 30})
      EXPECT_EQ(contributions(main_last, {.most_bytes = most}), expected_contributions(5)) << main_last;
}

TEST_F(SideStreamTest, EachEventOfBackwardIsNeeded) {
  if (on_cpu()) GTEST_SKIP() << "there all is done at once";
  const auto is_seen = [](bool main_last, const Setting& run, const Forgetful::Of& forgotten) {
    return contributions(main_last, run, forgotten) != expected_contributions(run.rounds);
  };
  EXPECT_TRUE(is_seen(false, {.wait = Setting::Wait::kAheadOfContext}, {.waits = true}))
      << "made before what it is made of is there";
  EXPECT_TRUE(is_seen(true, {.wait = Setting::Wait::kBehindContext}, {.records = true}))
      << "added to before the first contribution is there";
  EXPECT_TRUE(is_seen(false, {.wait = Setting::Wait::kAfterReading}, {.records = true}))
      << "read before it is there";
}

TEST_F(SideStreamTest, WaitsForWhatWritesATensorAndForNothingElse) {
  Context context(device::default_device(), 1);
  const Shape shape{static_cast<std::int64_t>(kBytes)};
  SideStream beside(context, std::size_t{1} << 30);
  const Tensor written = context.zeros(shape, DType::kU8, device::Purpose::kWeights),
               other = context.zeros(shape, DType::kU8, device::Purpose::kWeights);
  const auto gradient_bytes = [&] { return context.ledger().current(device::Purpose::kGradients); };
  const auto put = [&](const Tensor& to) {
    std::vector<Tensor> reads{context.empty(shape, DType::kU8, device::Purpose::kGradients)};
    context.stream().fill(reads[0].data(), 7, kBytes);
    const void* from = reads[0].data();
    beside.put(std::move(reads), {to},
               [from, to](Context& there) { there.stream().copy(from, to.data(), kBytes); });
  };
  for (const Tensor* to : {&other, &written, &other}) put(*to);
  EXPECT_EQ(gradient_bytes(), static_cast<std::int64_t>(3 * kBytes));
  beside.wait_for(context.empty(shape, DType::kU8));
  beside.wait_for({});
  EXPECT_EQ(gradient_bytes(), static_cast<std::int64_t>(3 * kBytes));
  beside.wait_for(written.rows(5, 9));
  EXPECT_EQ(gradient_bytes(), static_cast<std::int64_t>(kBytes)) << "with what came before it";
  const HostView view(context.stream(), written);
  EXPECT_EQ(std::ranges::count(view.bytes(), std::byte{7}), static_cast<std::ptrdiff_t>(kBytes));
}

TEST_F(SideStreamTest, IsJoinedWhenAnUpdateThrows) {
  Context context(device::default_device(), 1);
  {
    SideStream beside(context, kBytes);
    Tensor gradient =
        context.empty(Shape{static_cast<std::int64_t>(kBytes)}, DType::kU8, device::Purpose::kGradients);
    EXPECT_THROW(beside.put({std::exchange(gradient, {})}, {},
                            [](Context&) { throw std::runtime_error("an update"); }),
                 std::runtime_error);
    beside.join();
    EXPECT_EQ(context.ledger().current(device::Purpose::kGradients), 0);
  }
}

}  // namespace
}  // namespace hone::ops
