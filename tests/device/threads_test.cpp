#include "device/threads.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>

#include "device/stream.h"

namespace hone::device {
namespace {

/// The cores that each thread of a team may run on.
std::vector<std::vector<int>> cores_of_team(int num_threads) {
  std::vector<std::vector<int>> cores(static_cast<std::size_t>(num_threads));
#pragma omp parallel num_threads(num_threads)
  cores[static_cast<std::size_t>(omp_get_thread_num())] = allowed_cores();
  return cores;
}

void expect_pinned(int num_threads, const std::vector<int>& allowed) {
  const auto team = cores_of_team(num_threads);
  EXPECT_EQ(team[0], allowed) << "the calling thread is not held";
  for (std::size_t i = 1; i < team.size(); ++i) EXPECT_EQ(team[i], std::vector<int>{allowed[i]});
}

void expect_free(int num_threads, const std::vector<int>& allowed) {
  for (const auto& cores : cores_of_team(num_threads)) EXPECT_EQ(cores, allowed);
}

class PinThreads : public testing::Test {
 protected:
  void SetUp() override {
    if (allowed_.size() < 2) GTEST_SKIP() << "needs two cores";
  }
  void TearDown() override { unpin_threads(2); }
  const std::vector<int> allowed_ = allowed_cores();
};

TEST_F(PinThreads, GivesEveryThreadACoreOfItsOwn) {
  EXPECT_TRUE(pin_threads(2));
  expect_pinned(2, allowed_);
  unpin_threads(2);
  expect_free(2, allowed_);
}

TEST_F(PinThreads, SurvivesTeamsOfOtherSizes) {
  EXPECT_TRUE(pin_threads(2));
  for (const int size : {1, 3, 5, 2}) cores_of_team(size);
  // Threads made anew may run anywhere, never on the core of another alone.
  for (const auto& cores : cores_of_team(3)) EXPECT_TRUE(cores == allowed_ || cores.size() == 1);
  EXPECT_TRUE(pin_threads(2));
  expect_pinned(2, allowed_);
}

TEST_F(PinThreads, MayBeCalledInTurnWithDifferentSizes) {
  for (const int size : {2, 1, 2, static_cast<int>(allowed_.size()), 2}) {
    EXPECT_EQ(pin_threads(size), size > 1);
    if (size > 1) expect_pinned(size, allowed_);
  }
}

TEST_F(PinThreads, LeavesChildProcessesFree) {
  EXPECT_TRUE(pin_threads(2));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(allowed_cores() == allowed_ ? 0 : 1);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(PinThreads, LeavesTheTeamsOfOtherThreadsFree) {
  EXPECT_TRUE(pin_threads(2));
  std::thread([&] { expect_free(2, allowed_); }).join();
  expect_pinned(2, allowed_);
}

TEST_F(PinThreads, DoesNothingForMoreThreadsThanCores) {
  EXPECT_FALSE(pin_threads(static_cast<int>(allowed_.size()) + 1));
  EXPECT_FALSE(pin_threads(2, static_cast<int>(allowed_.size()) - 1));
  EXPECT_FALSE(pin_threads(2, -1));
  EXPECT_FALSE(pin_threads(1));
  expect_free(2, allowed_);
}

TEST_F(PinThreads, IsSwitchedOffByTheEnvironment) {
  ::setenv("HONE_PIN", "0", 1);
  EXPECT_FALSE(pin_threads(2));
  ::unsetenv("HONE_PIN");
  expect_free(2, allowed_);
}

TEST(AllowedCores, AreAsManyAsAvailableOnes) {
  EXPECT_EQ(static_cast<int>(allowed_cores().size()), available_cores());
}

TEST(ShortSpins, DoNotOverrideTheEnvironment) {
  ::setenv("GOMP_SPINCOUNT", "7", 1);
  char name[] = "never executed";
  char* argv[] = {name, nullptr};
  restart_with_short_spins(argv);  // would not return
  EXPECT_STREQ(std::getenv("GOMP_SPINCOUNT"), "7");
  ::unsetenv("GOMP_SPINCOUNT");
}

TEST(ShortSpins, RestartTheProgramWithItsArguments) {
  // The child executes this test program again, listing one test, with GOMP_SPINCOUNT set.
  const pid_t child = ::fork();
  if (child == 0) {
    ::unsetenv("OMP_WAIT_POLICY");
    ::unsetenv("GOMP_SPINCOUNT");
    ::setenv("HONE_TEST_SPINS", "1", 1);
    char name[] = "test_device", filter[] = "--gtest_filter=ShortSpinsChild.*";
    char skipped[] = "--gtest_also_run_disabled_tests";
    char* argv[] = {name, filter, skipped, nullptr};
    restart_with_short_spins(argv);
    ::_exit(3);  // not restarted
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}
TEST(ShortSpinsChild, DISABLED_HasTheSpinCount) {
  ASSERT_NE(std::getenv("HONE_TEST_SPINS"), nullptr) << "run by ShortSpins only";
  EXPECT_STREQ(std::getenv("GOMP_SPINCOUNT"), "4000");
}

}  // namespace
}  // namespace hone::device
