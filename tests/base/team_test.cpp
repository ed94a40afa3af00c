#include "base/team.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/cores.h"
#include "base/error.h"

namespace hone {
namespace {

using std::chrono::microseconds;

/// 0 + 1 + … + n-1, by the team.
std::int64_t sum_below(Team& team, std::int64_t n) {
  std::atomic<std::int64_t> sum = 0;
  team.parallel_for(team.num_threads(), n, [&](std::int64_t i, int) { sum += i; });
  return sum;
}

/// Threads of this process.
std::ptrdiff_t count_threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

/// Whether f() came true: what the system does behind a thread that was joined takes a moment.
template <class F>
bool becomes_true(const F& f) {
  for (int i = 0; i < 2000; ++i) {
    if (f()) return true;
    std::this_thread::sleep_for(microseconds(1000));
  }
  return false;
}

/// Runs f in a forked child; whether it returned true.
template <class F>
bool is_true_in_child(const F& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);  // a child that hangs fails
    ::_exit(f() ? 0 : 1);
  }
  int status = -1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

TEST(Team, CallsEveryIndexOnce) {
  for (const int size : {1, 2, 3, 5}) {
    Team team(size);
    EXPECT_EQ(team.num_threads(), size);
    for (const int threads : {1, 2, size, size + 3}) {
      for (const std::int64_t n : {0, 1, 2, 3, 7, 64, 1000}) {
        for (const std::int64_t chunk : {1, 3, 100}) {
          std::vector<std::atomic<int>> calls(static_cast<std::size_t>(n));
          std::atomic<bool> is_known = true;
          team.parallel_for(
              threads, n,
              [&](std::int64_t i, int thread) {
                calls[static_cast<std::size_t>(i)]++;
                if (thread < 0 || thread >= std::min(size, threads)) is_known = false;
              },
              chunk);
          for (const auto& count : calls) ASSERT_EQ(count, 1) << size << " " << threads << " " << n;
          EXPECT_TRUE(is_known);
        }
      }
    }
  }
}

TEST(Team, GivesEvenRangesInTheOrderOfThreads) {
  for (const int size : {1, 2, 3, 5}) {
    Team team(size);
    for (const std::int64_t n : {1, 2, 3, 7, 64, 1001}) {
      std::vector<std::pair<std::int64_t, std::int64_t>> ranges(static_cast<std::size_t>(size));
      team.parallel_ranges(size, n, [&](std::int64_t begin, std::int64_t end, int thread) {
        ranges[static_cast<std::size_t>(thread)] = {begin, end};
      });
      std::int64_t next = 0;
      for (int thread = 0; thread < std::min<std::int64_t>(size, n); ++thread) {
        const auto [begin, end] = ranges[static_cast<std::size_t>(thread)];
        EXPECT_EQ(begin, next);
        EXPECT_LE(end - begin, n / std::min<std::int64_t>(size, n) + 1);
        EXPECT_GT(end, begin);
        next = end;
      }
      EXPECT_EQ(next, n);
    }
  }
}

TEST(Team, UsesAllItsThreads) {
  Team team(3);
  std::atomic<int> here = 0;
  // No thread can leave before all are there.
  team.parallel_for(3, 3, [&](std::int64_t, int) {
    ++here;
    while (here < 3) std::this_thread::yield();
  });
  EXPECT_EQ(team.take_most_threads(), 3);
  EXPECT_EQ(team.take_most_threads(), 1);
  team.parallel_for(2, 100, [](std::int64_t, int) {});
  EXPECT_EQ(team.take_most_threads(), 2);
  team.parallel_for(1, 100, [](std::int64_t, int thread) { EXPECT_EQ(thread, 0); });
  EXPECT_EQ(team.take_most_threads(), 1);
}

TEST(Team, TakesManyShortLoops) {
  Team team(2);
  std::int64_t counts[2] = {0, 0};
  for (int i = 0; i < 100'000; ++i) {
    team.parallel_ranges(2, 2, [&](std::int64_t begin, std::int64_t end, int) {
      for (auto at = begin; at < end; ++at) ++counts[at];
    });
  }
  EXPECT_EQ(counts[0], 100'000);
  EXPECT_EQ(counts[1], 100'000);
}

TEST(Team, WakesWhoFellAsleep) {
  Team team(3);
  for (int i = 0; i < 2000; ++i) {  // pauses around the moment in which a worker falls asleep
    EXPECT_EQ(sum_below(team, 100), 4950);
    std::this_thread::sleep_for(Team::kAwake / 4 + microseconds(i % 100));
  }
  for (int i = 0; i < 500; ++i) {  // and shares of work around that in which the caller does
    team.parallel_ranges(3, 3, [&](std::int64_t, std::int64_t, int thread) {
      if (thread > 0) std::this_thread::sleep_for(Team::kAwake / 4 + microseconds(thread * (i % 50)));
    });
  }
}

TEST(Team, OfMoreThreadsThanCoresFinishesSoon) {
  Team team(available_cores() + 3);
  for (int i = 0; i < 2000; ++i) ASSERT_EQ(sum_below(team, 100), 4950);
}

TEST(Team, WorksBesideOthers) {
  std::vector<std::thread> callers;
  std::atomic<int> wrong = 0;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      Team team(available_cores() + 1);
      for (int i = 0; i < 1000; ++i)
        if (sum_below(team, 100) != 4950) ++wrong;
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Team, MayBeCalledByOneThreadAfterAnother) {
  Team team(2);
  for (int i = 0; i < 20; ++i) std::thread([&] { EXPECT_EQ(sum_below(team, 100), 4950); }).join();
}

TEST(Team, RunsALoopInsideALoopOnItsCaller) {
  Team team(3);
  std::atomic<std::int64_t> calls = 0, elsewhere = 0;
  team.parallel_for(3, 30, [&](std::int64_t, int) {
    const auto self = std::this_thread::get_id();
    team.parallel_for(3, 10, [&](std::int64_t, int thread) {
      ++calls;
      if (std::this_thread::get_id() != self || thread != 0) ++elsewhere;
    });
  });
  EXPECT_EQ(calls, 300);
  EXPECT_EQ(elsewhere, 0);
}

TEST(Team, LetsASecondCallerWorkAlone) {
  Team team(2);
  std::atomic<bool> is_running = false, is_done = false;
  std::thread other([&] {
    while (!is_running) std::this_thread::yield();
    EXPECT_EQ(sum_below(team, 100), 4950);
    is_done = true;
  });
  team.parallel_for(2, 2, [&](std::int64_t, int) {
    is_running = true;
    while (!is_done) std::this_thread::yield();
  });
  other.join();
}

TEST(Team, ThrowsWhatAnyOfItsThreadsThrew) {
  Team team(3);
  for (const int thrower : {0, 1, 2}) {
    for (int i = 0; i < 20; ++i) {
      try {
        team.parallel_ranges(3, 3, [&](std::int64_t, std::int64_t, int thread) {
          if (thread == thrower) throw std::out_of_range(std::to_string(thread));
        });
        FAIL() << "nothing was thrown";
      } catch (const std::out_of_range& error) {
        EXPECT_EQ(error.what(), std::to_string(thrower));
      }
      ASSERT_EQ(sum_below(team, 100), 4950);
    }
  }
  EXPECT_THROW(team.parallel_ranges(3, 3, [](auto, auto, int thread) { throw thread; }), int);
  EXPECT_THROW(team.parallel_for(1, 3, [](auto, int thread) { throw thread; }), int);
  EXPECT_EQ(sum_below(team, 100), 4950);
}

TEST(Team, HandsOutNothingMoreAfterAnException) {
  Team team(2);
  std::atomic<std::int64_t> calls = 0;
  EXPECT_THROW(team.parallel_for(2, 1'000'000'000,
                                 [&](std::int64_t, int) {
                                   ++calls;
                                   throw 1;
                                 }),
               int);
  EXPECT_LE(calls, 2);
}

TEST(Team, MakesThreadsOnlyWhenItNeedsThemAndEndsThem) {
  const auto before = count_threads();
  {
    Team team(4);
    sum_below(team, 1);
    team.parallel_for(1, 100, [](std::int64_t, int) {});
    EXPECT_EQ(count_threads(), before);
    sum_below(team, 100);
    EXPECT_EQ(count_threads(), before + 3);
    sum_below(team, 100);
    EXPECT_EQ(count_threads(), before + 3);
  }
  EXPECT_TRUE(becomes_true([&] { return count_threads() == before; }));
}

TEST(Team, OfAForkedChildHasThreadsOfItsOwn) {
  Team team(3);
  ASSERT_EQ(sum_below(team, 100), 4950);
  EXPECT_TRUE(is_true_in_child([&] {
    const bool is_right = sum_below(team, 100) == 4950 && count_threads() == 3;
    return is_right && is_true_in_child([&] { return sum_below(team, 100) == 4950; });
  }));
  {
    std::optional<Team> mine(std::in_place, 3);
    sum_below(*mine, 100);
    EXPECT_TRUE(is_true_in_child([&] {
      mine.reset();  // must not wait for threads that are not there
      return sum_below(team, 100) == 4950;
    }));
  }
  std::atomic<int> right = 0;
  team.parallel_for(3, 3, [&](std::int64_t, int) {
    if (is_true_in_child([&] { return sum_below(team, 100) == 4950; })) ++right;
  });
  EXPECT_EQ(right, 3);
  EXPECT_EQ(sum_below(team, 100), 4950);
}

#ifndef __SANITIZE_ADDRESS__  // which needs memory of its own for every thread
TEST(Team, SaysWhenThreadsCannotBeStarted) {
  EXPECT_TRUE(is_true_in_child([] {
    const rlimit limit{std::size_t{1} << 30, std::size_t{1} << 30};
    ::setrlimit(RLIMIT_AS, &limit);  // hundreds of stacks of 8 MiB
    Team team(1000);
    try {
      sum_below(team, 10'000);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kUser &&
             std::string(error.what()).find("1000 threads") != std::string::npos;
    }
    return false;
  }));
}
#endif

/// The cores that each thread of a team may run on.
std::vector<std::vector<int>> cores_of(Team& team) {
  const int threads = team.num_threads();
  std::vector<std::vector<int>> cores(static_cast<std::size_t>(threads));
  team.parallel_ranges(threads, threads, [&](std::int64_t, std::int64_t, int thread) {
    cores[static_cast<std::size_t>(thread)] = allowed_cores();
  });
  return cores;
}

class PinnedTeam : public testing::Test {
 protected:
  void SetUp() override {
    if (allowed_.size() < 2) GTEST_SKIP() << "needs two cores";
    ::unsetenv("HONE_PIN");
  }
  void TearDown() override {
    allow_calling_thread(allowed_);
    ::setenv("HONE_PIN", "0", 1);
  }
  std::vector<std::vector<int>> free(std::size_t threads) const { return {threads, allowed_}; }
  const std::vector<int> allowed_ = allowed_cores();
  const int all_ = static_cast<int>(allowed_.size());
};

TEST_F(PinnedTeam, HasACoreForEveryThread) {
  Team team(all_);
  const auto cores = cores_of(team);
  EXPECT_EQ(cores[0], allowed_) << "the caller is not held";
  for (std::size_t i = 1; i < cores.size(); ++i) EXPECT_EQ(cores[i], std::vector<int>{allowed_[i]});
  EXPECT_EQ(allowed_cores(), allowed_);
}

TEST_F(PinnedTeam, LeavesOthersFree) {
  Team team(2);
  sum_below(team, 100);
  EXPECT_TRUE(is_true_in_child([&] { return allowed_cores() == allowed_; }));
  std::thread([&] { EXPECT_EQ(allowed_cores(), allowed_); }).join();
}

TEST_F(PinnedTeam, BeginsAtItsFirstCore) {
  if (all_ < 3) GTEST_SKIP() << "needs three cores";
  Team team(2, 1);
  EXPECT_EQ(cores_of(team)[1], std::vector<int>{allowed_[2]});
}

TEST_F(PinnedTeam, IsFreeWhereThereAreNotEnoughCores) {
  Team more(all_ + 1), late(2, all_ - 1), nowhere(2, -1);
  EXPECT_EQ(cores_of(more), free(static_cast<std::size_t>(all_) + 1));
  EXPECT_EQ(cores_of(late), free(2));
  EXPECT_EQ(cores_of(nowhere), free(2));
}

TEST_F(PinnedTeam, IsFreeWhereTheEnvironmentSaysSo) {
  ::setenv("HONE_PIN", "0", 1);
  Team team(2);
  EXPECT_EQ(cores_of(team), free(2));
}

TEST_F(PinnedTeam, MovesItsCallerOffTheCoreOfAnother) {
  Team team(2);
  sum_below(team, 100);
  int apart = 0;
  for (int i = 0; i < 100; ++i) {
    allow_calling_thread({allowed_[1]});
    allow_calling_thread(allowed_);
    team.parallel_ranges(2, 2, [&](std::int64_t, std::int64_t, int thread) {
      if (thread == 0 && current_core() != allowed_[1]) ++apart;
    });
  }
  EXPECT_GT(apart, 50);  // the system may move it back
}

TEST_F(PinnedTeam, LeavesACallerWhereItIsHeld) {
  Team team(2);
  sum_below(team, 100);
  allow_calling_thread({allowed_[1]});
  EXPECT_EQ(sum_below(team, 100), 4950);
  EXPECT_EQ(allowed_cores(), std::vector<int>{allowed_[1]});
}

TEST(Cores, AreCounted) {
  const auto cores = allowed_cores();
  EXPECT_EQ(static_cast<int>(cores.size()), available_cores());
  EXPECT_TRUE(std::is_sorted(cores.begin(), cores.end()));
  EXPECT_EQ(Team().num_threads(), available_cores());
}

}  // namespace
}  // namespace hone
