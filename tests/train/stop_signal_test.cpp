#include "train/stop_signal.h"

#include <gtest/gtest.h>

#include <csignal>

namespace hone::train {
namespace {

int g_seen = 0;  // by the handler that was there before

TEST(StopSignal, GivesSignalsBackToWhoHadThemBefore) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    g_seen = 0;
    struct sigaction own {};
    own.sa_handler = [](int) { ++g_seen; };
    struct sigaction before {};
    ASSERT_EQ(::sigaction(signal, &own, &before), 0);
    {
      const StopSignal stop;
      EXPECT_FALSE(stop.requested());
      std::raise(signal);
      EXPECT_TRUE(stop.requested());
      EXPECT_EQ(g_seen, 0);
    }
    std::raise(signal);
    EXPECT_EQ(g_seen, 1) << "signal " << signal;
    ::sigaction(signal, &before, nullptr);
  }
}

TEST(StopSignal, LeavesAnIgnoredHangupIgnored) {
  auto* before = std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignal stop;
    std::raise(SIGHUP);
    EXPECT_FALSE(stop.requested());
  }
  EXPECT_EQ(std::signal(SIGHUP, before), SIG_IGN);
}

}  // namespace
}  // namespace hone::train
