#include "device/stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/cores.h"

namespace hone::device {
namespace {

TEST(Stream, HasAThreadForEveryCoreUnlessToldOtherwise) {
  for (const Device device : {Device{}, Device{DeviceType::kMeta, 0}}) {
    EXPECT_EQ(make_stream(device)->num_threads(), available_cores());
    EXPECT_EQ(make_stream(device, 3)->num_threads(), 3);
    EXPECT_EQ(make_stream(device, 3)->team().num_threads(), 3);
  }
}

TEST(Stream, HasATeamOfItsOwnThatWorksBesideThoseOfOthers) {
  std::atomic<int> together = 0;
  const auto rank = [&](int first_core) {
    const auto stream = make_stream({}, 2, first_core);
    // Nobody leaves before all four threads of both streams are there.
    stream->team().parallel_for(2, 2, [&](std::int64_t, int thread) {
      *static_cast<int*>(stream->workspace(thread, sizeof(int))) = thread;
      ++together;
      while (together < 4) std::this_thread::yield();
    });
  };
  std::thread other(rank, 2);
  rank(0);
  other.join();
  EXPECT_EQ(together, 4);
}

}  // namespace
}  // namespace hone::device
