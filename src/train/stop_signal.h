// SIGINT and SIGTERM during a run: the first asks for a clean end, the second aborts.
#pragma once

namespace hone::train {

/// While it lives, the first SIGINT or SIGTERM only sets requested(); the next one has the system's default
/// effect.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  bool requested() const;
};

}  // namespace hone::train
