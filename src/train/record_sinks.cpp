#include "train/record_sinks.h"

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "train/event_file.h"
#include "train/step_log.h"

namespace hone::train {

namespace {

class ConsoleSink : public RecordSink {
 public:
  void step(const StepRecord& record) override { log_info("{}", format_step_line(record)); }
  void record(const StepRecord& record) override {
    for (const auto& evaluation : record.evaluations)
      log_info("{}", format_evaluation(record.step, evaluation));
  }
};

class MetricsSink : public RecordSink {
 public:
  MetricsSink(const RunDirectory& directory, std::int64_t last_step)
      : steps_(directory.metrics(), last_step), samples_(directory.samples(), last_step) {}
  void record(const StepRecord& record) override {
    for (const auto& evaluation : record.evaluations)
      for (const auto& sample : evaluation.samples) samples_.write(to_row(record.step, evaluation, sample));
    steps_.write(to_row(record));
  }
  void sync() override {
    steps_.sync();
    samples_.sync();
  }

 private:
  StepLog steps_, samples_;
};

/// Tags as Transformers writes them: train/loss, train/learning_rate, eval/loss, eval/NAME_loss.
class TensorBoardSink : public RecordSink {
 public:
  TensorBoardSink(const RunDirectory& directory, std::int64_t last_step)
      : events_(directory.tensorboard(), last_step + 1) {}

  void record(const StepRecord& record) override {
    std::vector<std::pair<std::string, double>> scalars;
    for (const auto& figure : step_figures()) {
      if (figure.of == StepFigure::Of::kPlace || !has_figure(record, figure)) continue;
      const double value =
          std::visit([&](auto field) { return static_cast<double>(record.*field); }, figure.field);
      scalars.emplace_back(std::string("train/") + figure.long_name(), value);
    }
    for (const auto& evaluation : record.evaluations) {
      const std::string prefix = "eval/" + (evaluation.name.empty() ? "" : evaluation.name + "_");
      scalars.emplace_back(prefix + "loss", evaluation.summary.loss);
      scalars.emplace_back(prefix + "perplexity", evaluation.summary.perplexity);
      std::string text;
      for (const auto& s : evaluation.samples)
        text += fmt::format("{}**{}**\n\nanswer: {}\n\nreference: {}\n", text.empty() ? "" : "\n---\n",
                            s.prompt, s.answer, s.reference);
      if (!text.empty()) events_.add_text(record.step, prefix + "samples", text);
    }
    events_.add_scalars(record.step, scalars);
  }
  void sync() override { events_.sync(); }

 private:
  EventFile events_;
};

}  // namespace

std::vector<std::unique_ptr<RecordSink>> make_sinks(const Recipe& recipe, const RunDirectory& directory,
                                                    std::int64_t last_step) {
  std::vector<std::unique_ptr<RecordSink>> sinks;
  if (recipe.reports_to("console")) sinks.push_back(std::make_unique<ConsoleSink>());
  if (recipe.reports_to("metrics")) sinks.push_back(std::make_unique<MetricsSink>(directory, last_step));
  if (recipe.reports_to("tensorboard"))
    sinks.push_back(std::make_unique<TensorBoardSink>(directory, last_step));
  return sinks;
}

}  // namespace hone::train
