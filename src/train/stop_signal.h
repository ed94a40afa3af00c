// Signals during a run: the first SIGINT or SIGTERM asks for a clean end, the second aborts. A terminal that
// hangs up and a pipe that nobody reads any more (`hone train | tee log`, and Ctrl-C, which ends tee at once)
// ask for the same end.
#pragma once

#include <array>
#include <csignal>

namespace hone::train {

/// While it lives, SIGHUP, SIGPIPE and the first SIGINT or SIGTERM only set requested(); the next SIGINT or
/// SIGTERM has the system's default effect. A SIGHUP that was ignored before stays so (nohup). What was done
/// with these signals before is done again when it dies. One at a time.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  bool requested() const;

  static constexpr std::array<int, 4> kSignals{SIGINT, SIGTERM, SIGHUP, SIGPIPE};

 private:
  std::array<struct sigaction, kSignals.size()> before_{};
};

}  // namespace hone::train
