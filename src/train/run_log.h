// What a run shows and writes down as it goes: the start card, records of its steps, loads of experts, the
// report.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.h"
#include "kernels/peak.h"
#include "train/forecast.h"
#include "train/record_sinks.h"
#include "train/run.h"
#include "train/step.h"
#include "train/step_log.h"

namespace hone::train {

class RunLog {
 public:
  /// Opens the run's logs for what comes after its state; measures the machine's peak. `each` is one more
  /// sink, or null.
  RunLog(const Run& run, std::function<void(const StepRecord&)> each);

  void show_start_card(const Run& run) const;
  /// What this start of the run will need.
  const MemoryForecast& memory() const { return memory_; }
  /// A line on stderr for who watches.
  template <typename... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) const {
    if (is_watched_) log_info(format, std::forward<Args>(args)...);
  }
  /// The record of the step that was just counted in run.state, before its evaluations.
  StepRecord record_of(const Run& run, const StepResult& result, double learning_rate, double seconds);
  /// The record in which the evaluations before the first step go.
  static StepRecord record_before_first_step(const Run& run);
  void step(const StepRecord& record);
  void record(const StepRecord& record);
  /// Adds a step's loads, and from time to time writes a row of their sums to experts.jsonl.
  void count_experts(TrainState& state, const StepResult& result, std::int64_t steps);
  void sync();

 private:
  bool is_watched_ = true;  // train.report_to names the console
  std::vector<std::unique_ptr<RecordSink>> sinks_;
  std::function<void(const StepRecord&)> each_;
  std::optional<StepLog> experts_;  // none: a model without experts
  void measure_ceilings(const device::Stream& stream);
  kernels::Ceilings ceilings_;
  double peak_gflops_ = 0;                 // of the model's dtype
  double least_seconds_per_token_ = 0;     // of the next micro-batch
  double least_update_seconds_ = 0;        // of the optimizer
  std::int64_t peak_resident_before_ = 0;  // before the ceilings were measured
  MemoryForecast memory_;
  std::int64_t steps_here_ = 0;  // by this start
  double seconds_here_ = 0;
};

}  // namespace hone::train
