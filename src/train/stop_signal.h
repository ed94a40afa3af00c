// Signals during a run: the first SIGINT or SIGTERM asks for a clean end, the second aborts. A terminal that
// hangs up and a pipe that nobody reads any more (`hone train | tee log`, and Ctrl-C, which ends tee at once)
// ask for the same end.
#pragma once

namespace hone::train {

/// While it lives, SIGHUP, SIGPIPE and the first SIGINT or SIGTERM only set requested(); the next SIGINT or
/// SIGTERM has the system's default effect. A SIGHUP that was ignored before stays so (nohup).
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  bool requested() const;
};

}  // namespace hone::train
