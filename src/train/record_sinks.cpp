#include "train/record_sinks.h"

#include <nlohmann/json.hpp>

#include "base/console.h"
#include "train/step_log.h"

namespace hone::train {

namespace {

class ConsoleSink : public RecordSink {
 public:
  void step(const StepRecord& record) override { say("{}\n", format_step_line(record)); }
  void record(const StepRecord& record) override {
    for (const auto& evaluation : record.evaluations) say("{}\n", format_evaluation(record.step, evaluation));
  }
};

class MetricsSink : public RecordSink {
 public:
  MetricsSink(const std::filesystem::path& path, std::int64_t last_step) : log_(path, last_step) {}
  void record(const StepRecord& record) override { log_.write(to_row(record)); }
  void sync() override { log_.sync(); }

 private:
  StepLog log_;
};

}  // namespace

std::vector<std::unique_ptr<RecordSink>> make_sinks(const RunDirectory& directory, std::int64_t last_step) {
  std::vector<std::unique_ptr<RecordSink>> sinks;
  sinks.push_back(std::make_unique<ConsoleSink>());
  sinks.push_back(std::make_unique<MetricsSink>(directory.metrics(), last_step));
  return sinks;
}

}  // namespace hone::train
