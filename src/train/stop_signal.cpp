#include "train/stop_signal.h"

#include <atomic>

namespace hone::train {

namespace {

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
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &action, &before_[i]);
    // As nohup does with SIGHUP; but a shell ignores SIGINT for whatever it starts with &, without being
    // asked.
    if (kSignals[i] == SIGHUP && before_[i].sa_handler == SIG_IGN) ::sigaction(SIGHUP, &before_[i], nullptr);
  }
}

StopSignal::~StopSignal() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
}

bool StopSignal::requested() const {
  return g_requested;
}

}  // namespace hone::train
