// The emulator's stores by TMA: what right kernels leave in a tensor, and that it says what is wrong with
// others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/hopper_emulation.h"

namespace hone::kernels::cuda {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

enum class StoreBug {
  kNone,
  kNoProxyFence,
  kNoBarrier,
  kWritesBeforeTheWait,
  kWaitsForOneTooFew,
  kNoBarrierAfterTheWait,
  kDoesNotCommit,
  kLeavesEarly,
  kReadsTheTensorEarly,
  kStoresTwice,
  kFillsHalf,
  kWithinARow,
};
struct Place {
  int c0, c1, c2;
};
constexpr int kBoxRows = 16, kBoxBytes = kBoxRows * 128, kThreadsOfStore = 64;

/// What is number `i` of the box of round `round`.
__host__ __device__ float number_of(int round, int i) {
  return static_cast<float>((round * 37 + i) % 255 + 1);
}

/// A box of 16 x 64 to each of `rounds` places, by two buffers in turn; then what the tensor
/// has at `at` goes to *seen.
__global__ void store_boxes(const __grid_constant__ CUtensorMap map, const Place* places, int rounds,
                            StoreBug bug, const Number* at, float* seen) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  const int t = static_cast<int>(threadIdx.x);
  for (int round = 0; round < rounds; ++round) {
    unsigned char* box = memory + round % 2 * kBoxBytes;
    if (t == 0 && bug != StoreBug::kWritesBeforeTheWait) {
      if (bug == StoreBug::kWaitsForOneTooFew)
        wait_stores_read<2>();
      else
        wait_stores_read<1>();
    }
    if (bug != StoreBug::kNoBarrierAfterTheWait) __syncthreads();
    for (int i = t; i < kBoxRows * 64 / (bug == StoreBug::kFillsHalf ? 2 : 1); i += kThreadsOfStore)
      reinterpret_cast<Number*>(box + i / 64 * 128 + (i % 64 / 8 ^ i / 64 % 8) * 16)[i % 8] =
          Number(number_of(round, i));
    if (bug != StoreBug::kNoProxyFence) fence_for_async();
    if (bug != StoreBug::kNoBarrier) __syncthreads();
    if (t == 0) {
      const Place& p = places[round];
      store_box(map, box + (bug == StoreBug::kWithinARow ? 64 : 0), p.c0, p.c1, p.c2);
      if (bug == StoreBug::kStoresTwice) store_box(map, box, p.c0, p.c1, p.c2);
      if (bug != StoreBug::kDoesNotCommit) commit_stores();
    }
  }
  if (t != 0 || bug == StoreBug::kLeavesEarly) return;
  if (bug == StoreBug::kReadsTheTensorEarly)
    wait_stores_read<0>();
  else
    wait_stores<0>();
  *seen = float(*at);
}

class Stores : public HopperEmulation {
 protected:
  static constexpr int kWide = 72, kHigh = 24, kDeep = 2, kSize = kWide * kHigh * kDeep;
  std::string run(const std::vector<Place>& places, StoreBug bug) {
    auto* list = managed<Place>(places.size());
    for (std::size_t i = 0; i < places.size(); ++i) list[i] = places[i];
    for (int i = 0; i < kSize; ++i) to_[i] = Number(-1.0F);
    const CUtensorMap map =
        map_of(to_, {kWide, kHigh, kDeep}, {kWide * 2, kWide * kHigh * 2}, {64, kBoxRows, 1});
    HONE_LAUNCH(store_boxes, 1, kThreadsOfStore, 2 * kBoxBytes, nullptr, map, list,
                static_cast<int>(places.size()), bug, to_ + kWide + 3, seen_);
    return outcome();
  }
  Number* to_ = managed<Number>(kSize);
  float* seen_ = managed<float>(1);
};

TEST_F(Stores, LeaveOutWhatIsBeyondTheTensor) {
  // whole, beyond the last column, beyond the last row of matrix 0 (which matrix 1 does not get), before the
  // first column and row, beyond all of it
  const std::vector<Place> places{{0, 0, 0}, {64, 0, 1}, {8, 16, 0}, {-16, -4, 1}, {0, 0, 2}, {72, 3, 0}};
  for (int again = 0; again < 5; ++again) {
    ASSERT_EQ(run(places, StoreBug::kNone), "");
    std::vector<float> want(kSize, -1.0F);
    for (int round = 0; round < static_cast<int>(places.size()); ++round)
      for (int i = 0; i < kBoxRows * 64; ++i) {
        const Place& p = places[static_cast<std::size_t>(round)];
        const int col = p.c0 + i % 64, row = p.c1 + i / 64;
        if (col < 0 || col >= kWide || row < 0 || row >= kHigh || p.c2 >= kDeep) continue;
        want[static_cast<std::size_t>((p.c2 * kHigh + row) * kWide + col)] = number_of(round, i);
      }
    for (int i = 0; i < kSize; ++i) ASSERT_EQ(float(to_[i]), want[static_cast<std::size_t>(i)]) << i;
    EXPECT_EQ(*seen_, number_of(0, 64 + 3));
  }
}

TEST_F(Stores, ReadSharedMemoryLate) {
  const std::vector<Place> places{{0, 0, 0}, {0, 0, 1}, {0, 16, 0}, {0, 16, 1}};
  EXPECT_EQ(run(places, StoreBug::kNone), "");
  const auto early = HasSubstr("which a store by TMA on its way still reads");
  EXPECT_THAT(run(places, StoreBug::kWritesBeforeTheWait), early);
  EXPECT_THAT(run(places, StoreBug::kWaitsForOneTooFew), early);
  EXPECT_THAT(run(places, StoreBug::kDoesNotCommit), early);
  EXPECT_THAT(run(places, StoreBug::kNoBarrierAfterTheWait), AnyOf(early, HasSubstr("race: write")));
  EXPECT_THAT(run(places, StoreBug::kLeavesEarly),
              HasSubstr("exits with 2 stores by TMA that have yet to read shared memory"));
}

TEST_F(Stores, TakeWhatWasWrittenFencedAndHandedOver) {
  const std::vector<Place> places{{0, 0, 0}};
  EXPECT_THAT(run(places, StoreBug::kNoProxyFence), HasSubstr("without a fence.proxy.async between"));
  EXPECT_THAT(run(places, StoreBug::kNoBarrier), AnyOf(HasSubstr("without a fence.proxy.async"),
                                                       HasSubstr("uninitialised"), HasSubstr("still reads")));
  EXPECT_THAT(run(places, StoreBug::kFillsHalf), HasSubstr("uninitialised"));
  EXPECT_THAT(run(places, StoreBug::kWithinARow), HasSubstr("not at a multiple of 128 bytes"));
}

TEST_F(Stores, AreInTheTensorWhenTheyAreWaitedForWhole) {
  const std::vector<Place> places{{0, 0, 0}};
  EXPECT_THAT(run(places, StoreBug::kReadsTheTensorEarly),
              HasSubstr("while an asynchronous copy is on its way"));
  EXPECT_THAT(run(places, StoreBug::kStoresTwice), HasSubstr("while an asynchronous copy is on its way"));
}

/// Blocks whose boxes have a row in common.
TEST_F(Stores, OfTwoBlocksRace) {
  auto* list = managed<Place>(1);
  list[0] = {0, 0, 0};
  const CUtensorMap map = map_of(to_, {kWide, kHigh, 1}, {kWide * 2, kWide * kHigh * 2}, {64, kBoxRows, 1});
  HONE_LAUNCH(store_boxes, 2, kThreadsOfStore, 2 * kBoxBytes, nullptr, map, list, 1, StoreBug::kNone, to_,
              seen_);
  EXPECT_THAT(outcome(), AnyOf(HasSubstr("of the grid wrote"), HasSubstr("on its way there")));
}

}  // namespace
}  // namespace hone::kernels::cuda
