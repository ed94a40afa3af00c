// The emulator's clusters: blocks that fetch for each other, right and wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/hopper_emulation.h"

namespace hone::kernels::cuda {
namespace {

using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;

enum class ClusterBug {
  kNone,
  kBeginsAlone,
  kEndsAlone,
  kReleasesItsOwnOnly,
  kReleasesTheOtherTwice,
  kExpectsItsOwnOnly,
  kFetchesForItself,
  kReadsBeforeTheWait,
  kBeyondTheCluster,
};
constexpr int kStages = 2, kHalf = 8 * 128, kBlocks = 2;

/// Of each block sums (32, a lane each) of `steps` boxes of 16 x 64, of which it fetches half for both.
__global__ void HONE_CLUSTER(kBlocks)
    sums_of_boxes(const __grid_constant__ CUtensorMap map, int steps, ClusterBug bug, float* sums) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  HONE_SHARED(std::uint64_t, full, [kStages]);
  HONE_SHARED(std::uint64_t, empty, [kStages]);
  const int t = static_cast<int>(threadIdx.x), rank = rank_in_cluster();
  if (t == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_mbarrier(full + i, 1);
      init_mbarrier(empty + i, kBlocks);
    }
    fence_mbarriers();
  }
  if (bug == ClusterBug::kBeginsAlone)
    __syncthreads();
  else
    meet_cluster();
  if (t == 32)
    for (int step = 0; step < steps; ++step) {
      const int stage = step % kStages;
      wait_for(empty + stage, static_cast<unsigned>(step / kStages + 1) & 1);
      arrive_expecting(full + stage, bug == ClusterBug::kExpectsItsOwnOnly ? kHalf : 2 * kHalf);
      load_box_to(bug == ClusterBug::kFetchesForItself   ? 1U << rank
                  : bug == ClusterBug::kBeyondTheCluster ? 7
                                                         : 3,
                  memory + stage * 2 * kHalf + rank * kHalf, map, full + stage, 0, 16 * step + 8 * rank);
    }
  if (t < 32) {
    float sum = 0;
    for (int step = 0; step < steps; ++step) {
      const int stage = step % kStages;
      if (bug != ClusterBug::kReadsBeforeTheWait)
        wait_for(full + stage, static_cast<unsigned>(step / kStages) & 1);
      const auto* numbers = reinterpret_cast<const Number*>(memory + stage * 2 * kHalf);
      for (int i = 0; i < 32; ++i) sum += float(numbers[32 * i + t]);
      __syncwarp();
      if (t != 0) continue;
      if (bug != ClusterBug::kReleasesTheOtherTwice) arrive(empty + stage);
      for (int other = 0; other < kBlocks; ++other)
        if (other != rank && bug != ClusterBug::kReleasesItsOwnOnly)
          for (int times = bug == ClusterBug::kReleasesTheOtherTwice ? 2 : 1; times > 0; --times)
            arrive_in(other, empty + stage);
    }
    sums[blockIdx.x * 32 + threadIdx.x] = sum;
  }
  if (bug != ClusterBug::kEndsAlone) meet_cluster();
}

class Clusters : public HopperEmulation {
 protected:
  static constexpr int kSteps = 9, kGrid = 6;
  std::string run(ClusterBug bug) {
    has_clusters(sums_of_boxes, kBlocks);
    HONE_LAUNCH(sums_of_boxes, kGrid, 64, kStages * 2 * kHalf, nullptr,
                map_of(from_, {64, 16 * kSteps}, {128}, {64, 8}), kSteps, bug, sums_);
    return outcome();
  }
  Number* from_ = random_numbers(64 * 16 * kSteps, 11);
  float* sums_ = managed<float>(32 * kGrid);
};

TEST_F(Clusters, GetWhatTheirBlocksFetch) {
  float want = 0;
  for (int i = 0; i < 64 * 16 * kSteps; ++i) want += float(from_[i]);
  for (int again = 0; again < 20; ++again) {
    ASSERT_EQ(run(ClusterBug::kNone), "");
    for (int block = 0; block < kGrid; ++block) {
      float sum = 0;
      for (int lane = 0; lane < 32; ++lane) sum += sums_[block * 32 + lane];
      ASSERT_EQ(sum, want) << block;
    }
  }
}

TEST_F(Clusters, BeginAndEndTogether) {
  EXPECT_THAT(run(ClusterBug::kBeginsAlone),
              AnyOf(HasSubstr("no mbarrier was initialised"), HasSubstr("may not have come before"),
                    HasSubstr("initialisation may come later")));
  // Each launch has its own order of threads: in some the blocks end together by chance.
  std::string ended;
  for (int again = 0; again < 50 && ended.empty(); ++again) ended = run(ClusterBug::kEndsAlone);
  EXPECT_THAT(ended, AnyOf(HasSubstr("of the cluster, which has exited"), HasSubstr("exits with")));
  EXPECT_THAT(run(ClusterBug::kBeyondTheCluster), HasSubstr("TMA to blocks 0x7 of a cluster of 2"));
}

TEST_F(Clusters, WriteOnlyWhatTheOtherHasReleased) {
  const auto hazard = AnyOf(HasSubstr("race"), HasSubstr("on its way"), HasSubstr("uninitialised"),
                            HasSubstr("arrivals"), HasSubstr("missing"));
  EXPECT_THAT(run(ClusterBug::kReleasesItsOwnOnly), HasSubstr("1 arrivals and 0 bytes are missing"));
  EXPECT_THAT(run(ClusterBug::kReleasesTheOtherTwice), hazard);
  EXPECT_THAT(run(ClusterBug::kExpectsItsOwnOnly), hazard);
  EXPECT_THAT(run(ClusterBug::kFetchesForItself),  // as it was when the thread began to wait
              ContainsRegex("deadlock: waits for phase 0 of .* full, byte 0, which [01] arrivals and"));
  EXPECT_THAT(run(ClusterBug::kReadsBeforeTheWait), hazard);
}

TEST_F(Clusters, AreWhole) {
  has_clusters(sums_of_boxes, kBlocks);
  EXPECT_EQ(cuda_emulation::launch("sums_of_boxes", sums_of_boxes, dim3(5), dim3(64), kStages * 2 * kHalf,
                                   nullptr, false, map_of(from_, {64, 16 * kSteps}, {128}, {64, 8}), kSteps,
                                   ClusterBug::kNone, sums_),
            cudaErrorInvalidConfiguration);
  EXPECT_THAT(cuda_emulation::last_report(), HasSubstr(", in clusters of 2"));
  cudaGetLastError();
}

}  // namespace
}  // namespace hone::kernels::cuda
