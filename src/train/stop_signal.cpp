#include "train/stop_signal.h"

#include <array>
#include <atomic>
#include <csignal>

namespace hone::train {

namespace {

constexpr std::array<int, 4> kSignals{SIGINT, SIGTERM, SIGHUP, SIGPIPE};
std::atomic<bool> g_requested{false};  // a signal handler can reach nothing else

void handle(int signal) {
  g_requested = true;
  if (signal == SIGPIPE || signal == SIGHUP) return;  // may come with every line: they ask, and never abort
  std::signal(SIGINT, SIG_DFL);                       // the next one aborts
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal() {
  g_requested = false;
  for (const int signal : kSignals)
    if (std::signal(signal, handle) == SIG_IGN) std::signal(signal, SIG_IGN);  // as under nohup
}

StopSignal::~StopSignal() {
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
}

bool StopSignal::requested() const {
  return g_requested;
}

}  // namespace hone::train
