// The sweeps reach both sides of every threshold below which a kernel takes one thread.
#include <gtest/gtest.h>

#include <set>

#include "tests/kernels/cases.h"
#include "tests/kernels/watched_threads.h"

namespace hone::test {
namespace {

TEST(KernelCases, ReachBothSidesOfEveryThreadThreshold) {
  threads_used.clear();
  const KernelTable table = watched(kernels::cpu_kernels(kernels::available_cpu_isas().back()));
  device::CpuStream stream = make_stream(2);
  for (const Case& c : all_cases()) c.run(table, stream);
  // One number for all layers; scalars.
  const std::set<std::string> never{"load_balancing", "finish_norm", "next_step"};
  // They have no threshold: a layer of experts and a head are never small.
  const std::set<std::string> always{"experts", "experts_grad", "linear_cross_entropy", "head_statistics",
                                     "head_grad"};
  for (const auto& [slot, used] : threads_used) {
    EXPECT_EQ(used.most, never.contains(slot) ? 1 : 2) << slot;
    if (!always.contains(slot)) {
      EXPECT_EQ(used.fewest, 1) << slot;
    }
  }
}

}  // namespace
}  // namespace hone::test
