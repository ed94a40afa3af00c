#include "train/stop_signal.h"

#include <atomic>
#include <csignal>

namespace hone::train {

namespace {

std::atomic<bool> g_requested{false};  // a signal handler can reach nothing else

void handle(int signal) {
  g_requested = true;
  std::signal(signal, SIG_DFL);  // the next one aborts
}

}  // namespace

StopSignal::StopSignal() {
  g_requested = false;
  std::signal(SIGINT, handle);
  std::signal(SIGTERM, handle);
}

StopSignal::~StopSignal() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool StopSignal::requested() const {
  return g_requested;
}

}  // namespace hone::train
