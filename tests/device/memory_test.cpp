// The CPU allocator: freed blocks are used again, and never hoarded.
#include "device/memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace hone::device {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

std::int64_t bound(std::int64_t most_in_use) {
  return most_in_use + Allocator::reserve_bytes(most_in_use) + kMiB;  // a MiB for what is rounded up
}

TEST(CpuAllocator, UsesAFreedBlockAgain) {
  const auto allocator = make_allocator(Device{});
  auto first = allocator->allocate(10 * kMiB, Purpose::kActivations);
  void* const data = first->data();
  first.reset();
  EXPECT_EQ(allocator->allocate(10 * kMiB, Purpose::kActivations)->data(), data);
  EXPECT_EQ(allocator->allocate(9 * kMiB, Purpose::kActivations)->data(), data);
  EXPECT_EQ(allocator->held_bytes(), 10 * kMiB);
}

TEST(CpuAllocator, AlignsToCacheLinesAndHugePages) {
  const auto allocator = make_allocator(Device{});
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{100'000}, std::size_t{3} << 20, std::size_t{9} << 20}) {
    const auto buffer = allocator->allocate(size, Purpose::kData);
    const std::size_t alignment = size >= (std::size_t{4} << 20) ? std::size_t{2} << 20 : 64;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % alignment, 0U) << size;
    std::memset(buffer->data(), 1, size);
  }
}

// Batches of ever new sizes, as ragged rows make them: at most one step's worth is in use, and that is about
// all that may be held. (It was a quarter more, and blocks of sizes that never came again stayed for ever.)
TEST(CpuAllocator, HoldsNoMoreThanTheLargestStepNeeds) {
  const auto allocator = make_allocator(Device{});
  const auto weights = allocator->allocate(100 * kMiB, Purpose::kWeights);
  std::int64_t most = 0;
  for (std::int64_t step = 0; step < 200; ++step) {
    const std::int64_t unit = (step * 7919 % 97 + 20) * 16'411;
    std::vector<std::shared_ptr<Buffer>> forward, backward;
    for (std::int64_t layer = 1; layer <= 6; ++layer)
      forward.push_back(allocator->allocate(static_cast<std::size_t>(unit * layer), Purpose::kActivations));
    while (!forward.empty()) {
      backward = {allocator->allocate(static_cast<std::size_t>(unit * 3 + 77'777), Purpose::kActivations)};
      forward.pop_back();
    }
    most = allocator->ledger().peak_total();
    ASSERT_LE(allocator->held_bytes(), bound(most)) << step;
  }
}

// A kept block may serve a request of up to a quarter less; where all do, what is lost has the same bound.
TEST(CpuAllocator, LosesNoMoreInLargerBlocksThanItMayKeep) {
  const auto allocator = make_allocator(Device{});
  const auto step = [&](std::int64_t count, std::int64_t size) {
    std::vector<std::shared_ptr<Buffer>> held;
    for (std::int64_t i = 0; i < count; ++i)
      held.push_back(allocator->allocate(static_cast<std::size_t>(size), Purpose::kActivations));
  };
  step(100, 5 * kMiB);
  step(125, 4 * kMiB);
  EXPECT_LE(allocator->held_bytes(), bound(allocator->ledger().peak_total()));
}

TEST(CpuAllocator, GivesEverythingBackWhenTrimmed) {
  const auto allocator = make_allocator(Device{});
  const auto kept = allocator->allocate(5 * kMiB, Purpose::kWeights);
  for (const std::int64_t size : {1, 3, 20})
    allocator->allocate(static_cast<std::size_t>(size * kMiB), Purpose::kData);
  allocator->trim();
  EXPECT_EQ(allocator->held_bytes(), 5 * kMiB);
}

}  // namespace
}  // namespace hone::device
