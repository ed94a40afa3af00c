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
  for (const int signal : kSignals) {
    const bool was_ignored = std::signal(signal, handle) == SIG_IGN;
    // As nohup does with SIGHUP; but a shell ignores SIGINT for whatever it starts with &, without being
    // asked.
    if (was_ignored && signal == SIGHUP) std::signal(signal, SIG_IGN);
  }
}

StopSignal::~StopSignal() {
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
}

bool StopSignal::requested() const {
  return g_requested;
}

}  // namespace hone::train
