// Where records of steps go.
#pragma once

#include <memory>
#include <vector>

#include "train/run_directory.h"
#include "train/step_record.h"

namespace hone::train {

class RecordSink {
 public:
  virtual ~RecordSink() = default;
  /// A step has ended; evaluations that are due after it are still to come. Not called for step 0.
  virtual void step(const StepRecord&) {}
  /// The record is complete.
  virtual void record(const StepRecord& record) = 0;
  /// Waits until all records are on the disk: a checkpoint never knows of steps that the logs do not.
  virtual void sync() {}
};

/// The sinks of a run in this directory, for the records after `last_step` (what a killed run wrote beyond
/// its last checkpoint is dropped): the terminal and metrics.jsonl. Throw Error(kUser) for a file that cannot
/// be written.
std::vector<std::unique_ptr<RecordSink>> make_sinks(const RunDirectory& directory, std::int64_t last_step);

}  // namespace hone::train
