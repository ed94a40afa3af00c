// The model of a card's time (kernels/card_work.h) against what is put into the stream, and the profile's
// clock.
#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "device/clock.h"
#include "device/graph.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/register.h"
#include "kernels/profile.h"
#include "tests/cuda/card_cases.h"
#include "tests/cuda/card_memory.h"

namespace hone::test {
namespace {

using kernels::cuda::HeadLimits;
using testing::HasSubstr;
using testing::StartsWith;

/// Where every launch, copy and fill takes a millisecond.
class CardClock : public CardMemory {
 protected:
  CardClock() { ::setenv("HONE_CUDA_EMULATED_CLOCK", "1", 1); }
  ~CardClock() override { ::unsetenv("HONE_CUDA_EMULATED_CLOCK"); }
};

TEST_F(CardClock, AGraphsTimesStayWhereItIsLaunchedAgain) {
  ::setenv("HONE_GUARDED", "0", 1);
  const auto stream = device::make_stream({device::DeviceType::kCuda, 0}, 1);
  const auto memory = stream->allocator().allocate(64, device::Purpose::kData);
  std::shared_ptr<const device::TimedEvent> begin, end;
  const auto captured = device::capture(*stream, [&] {
    begin = record_time(*stream);
    for (int i = 0; i < 3; ++i) stream->fill(memory->data(), 1, 64);
    end = record_time(*stream);
  });
  ASSERT_NE(captured.graph, nullptr) << captured.why_none;
  captured.graph->launch();
  const auto first_begin = begin->of_last_launch(), first_end = end->of_last_launch();
  for (int i = 0; i < 5; ++i) stream->fill(memory->data(), 2, 64);
  captured.graph->launch();
  const auto second_begin = begin->of_last_launch(), second_end = end->of_last_launch();
  EXPECT_DOUBLE_EQ(first_end->seconds_since(*first_begin), 4e-3);  // three fills and its own place
  EXPECT_DOUBLE_EQ(second_end->seconds_since(*second_begin), 4e-3);
  EXPECT_GE(second_begin->seconds_since(*first_begin), 5e-3);
  captured.graph->launch();  // of which nobody keeps the times
  captured.graph->launch();
  EXPECT_GE(end->seconds_since(*second_end), 2e-3);
  ::setenv("HONE_GUARDED", "1", 1);
}

TEST_F(CardClock, AProfileChargesEachSlotWithItsOwnLaunches) {
  const std::size_t size = 64 << 10;
  const auto from = card().allocator().allocate(size, device::Purpose::kData);
  const auto to = card().allocator().allocate(size, device::Purpose::kData);
  const std::vector<std::byte> bytes(size);
  kernels::CopyArgs copy{};
  copy.x = {from->data(), DType::kF32, 16, 1024, 1024};
  copy.y = {to->data(), DType::kF32, 16, 1024, 1024};
  kernels::ColumnSumArgs sum{};
  sum.x = copy.x;
  sum.out = to->data();
  kernels::Profile profile(kernels::target_of(card().device()));
  const auto time = [&](const auto& args) {
    const auto kernel =
        kernels::cuda_kernels().*kernels::slot_of<std::remove_cvref_t<decltype(args)>>().member;
    profile.time(args, card(), [&] { kernel(args, card()); });
  };
  card().upload(bytes, from->data());
  time(copy);
  card().upload(bytes, from->data());  // two operations that are no slot's
  card().fill(to->data(), 0, size);
  profile.begin(kernels::Phase::kBackward);
  time(copy);
  time(sum);
  const auto slots = profile.slots({});
  ASSERT_EQ(slots.size(), 2u);
  for (const auto& slot : slots) {
    EXPECT_EQ(slot.path, "row kernel");
    EXPECT_DOUBLE_EQ(slot.seconds, 2e-3) << slot.name << ": two calls of a launch, one of two";
    EXPECT_EQ(slot.calls, slot.name == "copy" ? 2 : 1);
    EXPECT_DOUBLE_EQ(slot.seconds_in[0], slot.name == "copy" ? 1e-3 : 0) << slot.name;
  }
}

const kernels::CardTarget& emulated_card() {
  static const kernels::CardTarget kTarget = kernels::target_of({device::DeviceType::kCuda, 0});
  return kTarget;
}
/// Runs a kernel, which has to launch what its work says, where there is something to do.
template <typename Args, typename Run>
void expect_launches(const Args& a, Stream& stream, std::int64_t scratch_bytes, const kernels::Work& work,
                     const Run& run) {
  constexpr std::string_view kSlot = kernels::slot_of<Args>().name;
  stream.shared_workspace(static_cast<std::size_t>(scratch_bytes));  // grown before
  const auto begin = record_time(stream);
  run();
  const double launched = std::round(1e3 * record_time(stream)->seconds_since(*begin));
  const bool only_moves = kSlot == "moe_plan" || kSlot == "take_rows" || kSlot == "mla_keys_values";
  const kernels::Cost cost = kernels::cost(a);
  if ((only_moves ? cost.bytes : cost.flops) == 0) return;
  double said = 0;
  for (const auto& launch : work) said += launch.kernels;
  // Few queries are cut into parts that one launch more puts together, as in generation.
  const double joins = kSlot == "attention" ? 1 : 0;
  EXPECT_GE(launched, said) << kSlot;
  EXPECT_LE(launched, said + joins) << kSlot;
}
template <typename Args>
void run_counted(const Args& a, Stream& stream) {
  expect_launches(a, stream, kernels::cuda_scratch_bytes(a), kernels::card_work(a, emulated_card()),
                  [&] { (kernels::cuda_kernels().*kernels::slot_of<Args>().member)(a, stream); });
}

TEST_F(CardClock, EachSlotLaunchesWhatItsWorkSays) {
  KernelTable table = kernels::cuda_kernels();
  kernels::for_each_slot(table, []<typename Args>(std::string_view, kernels::Kernel<Args>& kernel) {
    kernel = run_counted<Args>;
  });
  std::map<std::string, int> cases;  // a few of each slot, which take some seconds
  for (const Case& c : all_cases()) {
    if (++cases[c.slot] > 10) continue;
    SCOPED_TRACE(c.name);
    c.run(table, card());
  }
}

// The head, which no case of all_cases() cuts, in chunks of rows whose gradients are kept, whose weight's is
// summed up, and neither, and in ranges of words.
void run_head(const kernels::LinearCrossEntropyArgs& a, Stream& stream, const HeadLimits& limits) {
  kernels::cuda::linear_cross_entropy(a, stream, limits);
}
void run_head(const kernels::HeadStatisticsArgs& a, Stream& stream, const HeadLimits& limits) {
  kernels::cuda::head_statistics(a, stream, limits);
}
void run_head(const kernels::HeadGradArgs& a, Stream& stream, const HeadLimits& limits) {
  kernels::cuda::head_grad(a, stream, limits);
}
template <HeadLimits kLimits>
void expect_head_launches(Stream& card) {
  KernelTable table;
  const auto set = []<typename Args>(kernels::Kernel<Args>& kernel) {
    kernel = [](const Args& a, Stream& stream) {
      expect_launches(a, stream, kernels::cuda::scratch_bytes_of(a, kLimits),
                      kernels::card_work(a, emulated_card(), kLimits), [&] { run_head(a, stream, kLimits); });
    };
  };
  set(table.linear_cross_entropy);
  set(table.head_statistics);
  set(table.head_grad);
  int cases = 0;
  for (const Case& c : matrix_cases()) {
    if (c.slot != "linear_cross_entropy" && !c.slot.starts_with("head_")) continue;
    if (++cases % 23 != 0) continue;
    SCOPED_TRACE(c.name);
    c.run(table, card);
  }
}

TEST_F(CardClock, TheHeadLaunchesWhatItsWorkSaysHoweverItIsCut) {
  constexpr HeadLimits kChunks{.gradient_bytes = 60'000,
                               .statistics_bytes = 30'000,
                               .least_rows = 1,
                               .kept_bytes = 0,
                               .summed_bytes = 0,
                               .beside_kept_bytes = 20'000,
                               .statistics_rows = 64,
                               .least_words = 8};
  constexpr HeadLimits kKept = [](HeadLimits limits) {
    limits.kept_bytes = 1 << 20;
    return limits;
  }(kChunks);
  constexpr HeadLimits kSummed = [](HeadLimits limits) {
    limits.summed_bytes = 1 << 20;
    return limits;
  }(kChunks);
  constexpr HeadLimits kRanges = [](HeadLimits limits) {
    limits.least_rows = 1'000'000;
    return limits;
  }(kChunks);
  expect_head_launches<kChunks>(card());
  expect_head_launches<kKept>(card());
  expect_head_launches<kSummed>(card());
  expect_head_launches<kRanges>(card());
}

TEST(CardPaths, AreToldOfTheCardThatIsHere) {
  const auto why_not = [](std::string_view slot) {
    for (const auto& path : kernels::slot_paths(kernels::target_of({device::DeviceType::kCuda, 0})))
      if (path.slot == slot) return std::string(path.path) + "|" + path.why_not;
    return std::string();
  };
  EXPECT_EQ(why_not("matmul"), "cuBLASLt|") << "the emulated one";
  EXPECT_EQ(why_not("rms_norm"), "row kernel|");
  EXPECT_EQ(why_not("experts"), "wgmma tiles 128 x 256|");
  EXPECT_THAT(why_not("attention_grad"), StartsWith("wgmma by keys, queries|cuDNN"));
  const auto in_fp8 = [] { return kernels::fp8_paths(kernels::target_of({device::DeviceType::kCuda, 0})); };
  EXPECT_EQ(in_fp8().front().path, "wgmma e4m3 128 x 128");
  ::setenv("HONE_CUDA_PATHS", "portable", 1);
  EXPECT_EQ(why_not("experts"), "mma.sync tiles 128 x 128|HONE_CUDA_PATHS=portable");
  EXPECT_EQ(why_not("attention_grad"), "mma.sync by keys, queries|HONE_CUDA_PATHS=portable");
  EXPECT_EQ(in_fp8().front().why_not, "HONE_CUDA_PATHS=portable");
  ::unsetenv("HONE_CUDA_PATHS");
  ::setenv("HONE_CUDA_EMULATED_SM", "80", 1);
  EXPECT_THAT(why_not("experts"), HasSubstr("compute capability 8.0: no wgmma"));
  ::unsetenv("HONE_CUDA_EMULATED_SM");
}

}  // namespace
}  // namespace hone::test
