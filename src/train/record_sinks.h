// Where records of steps go.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "train/recipe.h"
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

/// The sinks that train.report_to names, for the records after `last_step` (what a killed run wrote beyond
/// its last checkpoint is dropped): "console", lines on stderr; "metrics", metrics.jsonl and samples.jsonl (a
/// row per answer); "tensorboard", event files. Throws Error(kUser) for a file that cannot be written.
/// ("report" is no sink: report.html is drawn from what "metrics" wrote.)
std::vector<std::unique_ptr<RecordSink>> make_sinks(const Recipe& recipe, const RunDirectory& directory,
                                                    std::int64_t last_step);

}  // namespace hone::train
