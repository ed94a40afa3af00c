#include "train/step_record.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/console.h"

namespace hone::train {

namespace {

using nlohmann::ordered_json;

constexpr std::string_view kEvalPrefix = "eval_";
constexpr std::string_view kLossSuffix = "loss";

/// What metrics.jsonl holds for a number that is not finite reads back as NaN.
double number_of(const ordered_json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

const std::vector<StepFigure>& step_figures() {
  using Of = StepFigure::Of;
  using R = StepRecord;
  static const std::vector<StepFigure> kFigures{{"step", &R::step, Of::kPlace},
                                                {"steps", &R::steps, Of::kPlace},
                                                {"epoch", &R::epoch, Of::kRun},
                                                {"progress", &R::progress, Of::kPlace},
                                                {"eta_s", &R::seconds_left, Of::kStep},
                                                {"loss", &R::loss, Of::kStep},
                                                {"avg_loss", &R::average_loss, Of::kStep},
                                                {"lm_loss", &R::lm_loss, Of::kStep},
                                                {"aux_loss", &R::aux_loss, Of::kStep},
                                                {"lr", &R::learning_rate, Of::kStep, "learning_rate"},
                                                {"grad_norm", &R::grad_norm, Of::kStep},
                                                {"tokens", &R::tokens, Of::kStep},
                                                {"supervised", &R::supervised, Of::kStep},
                                                {"loss_weight", &R::loss_weight, Of::kWeights},
                                                {"total_tokens", &R::total_tokens, Of::kStep},
                                                {"tok_s", &R::tokens_per_second, Of::kStep},
                                                {"step_ms", &R::step_ms, Of::kStep},
                                                {"fwd_ms", &R::forward_ms, Of::kStep},
                                                {"bwd_ms", &R::backward_ms, Of::kStep},
                                                {"opt_ms", &R::optimizer_ms, Of::kStep},
                                                {"sol", &R::speed_of_light, Of::kStep},
                                                {"mem_mib", &R::memory_mib, Of::kStep},
                                                {"skipped", &R::skipped, Of::kStep},
                                                {"expert_max_mean", &R::expert_imbalance, Of::kExperts},
                                                {"dead_experts", &R::dead_experts, Of::kExperts}};
  return kFigures;
}

bool has_figure(const StepRecord& record, const StepFigure& figure) {
  if (figure.of == StepFigure::Of::kPlace || figure.of == StepFigure::Of::kRun) return true;
  if (figure.of == StepFigure::Of::kWeights) return record.step > 0 && record.loss_weight > 0;
  return record.step > 0 && (figure.of == StepFigure::Of::kStep || record.has_experts);
}

std::string evaluation_key(const EvaluationRecord& evaluation, const char* figure) {
  return std::string(kEvalPrefix) + (evaluation.name.empty() ? "" : evaluation.name + "_") + figure;
}

ordered_json to_row(const StepRecord& record) {
  ordered_json row;
  for (const auto& figure : step_figures()) {
    if (has_figure(record, figure))
      std::visit([&](auto field) { row[figure.key] = record.*field; }, figure.field);
  }
  row["time"] = record.time;
  for (const auto& evaluation : record.evaluations) {
    row[evaluation_key(evaluation, "loss")] = evaluation.summary.loss;
    row[evaluation_key(evaluation, "perplexity")] = evaluation.summary.perplexity;
  }
  return row;
}

ordered_json to_row(std::int64_t step, const EvaluationRecord& evaluation, const Sample& sample) {
  ordered_json row{{"step", step}};
  if (!evaluation.name.empty()) row["set"] = evaluation.name;
  row.update({{"prompt", sample.prompt}, {"answer", sample.answer}, {"reference", sample.reference}});
  return row;
}

StepRecord from_row(const ordered_json& row) {
  StepRecord record;
  for (const auto& figure : step_figures()) {
    const auto found = row.find(figure.key);
    if (found == row.end()) continue;
    std::visit(
        [&](auto field) {
          using Field = std::remove_reference_t<decltype(record.*field)>;
          if constexpr (std::is_same_v<Field, double>)
            record.*field = number_of(*found);
          else if (found->is_number() || found->is_boolean())
            record.*field = found->template get<Field>();
        },
        figure.field);
    if (figure.of == StepFigure::Of::kExperts) record.has_experts = true;
  }
  record.time = row.value("time", "");
  for (const auto& [key, value] : row.items()) {
    if (!key.starts_with(kEvalPrefix) || !key.ends_with(kLossSuffix)) continue;
    EvaluationRecord evaluation;
    const std::size_t name = key.size() - kEvalPrefix.size() - kLossSuffix.size();
    if (name > 0) evaluation.name = key.substr(kEvalPrefix.size(), name - 1);
    evaluation.summary.loss = number_of(value);
    const auto perplexity = row.find(evaluation_key(evaluation, "perplexity"));
    if (perplexity != row.end()) evaluation.summary.perplexity = number_of(*perplexity);
    record.evaluations.push_back(std::move(evaluation));
  }
  return record;
}

std::string format_step_line(const StepRecord& r) {
  const auto width = std::to_string(r.steps).size();
  std::string text =
      fmt::format("step {:>{}}/{}  loss {:.4f} (avg {:.4f})", r.step, width, r.steps, r.loss, r.average_loss);
  if (r.aux_loss != 0) text += fmt::format("  aux {:.3f}", r.aux_loss);
  text +=
      fmt::format("  lr {:.2g}  |g| {}  {} tok/s", r.learning_rate,
                  r.grad_norm < 0.1 ? fmt::format("{:.2g}", r.grad_norm) : fmt::format("{:.2f}", r.grad_norm),
                  short_count(r.tokens_per_second));
  if (r.speed_of_light > 0) text += fmt::format("  sol {:.0f}%", 100 * r.speed_of_light);
  text += "  mem " + bytes_text(r.memory_mib * 0x1p20);
  if (r.has_experts)
    text += fmt::format("  experts max/mean {:.1f} dead {}", r.expert_imbalance, r.dead_experts);
  text += "  eta " + duration(r.seconds_left);
  if (r.skipped) text += "  SKIPPED: not finite";
  if (r.supervised == 0) text += "  NO UPDATE: nothing to learn";
  return text;
}

std::string format_evaluation(std::int64_t step, const EvaluationRecord& evaluation) {
  const auto quote = [](const std::string& text) {
    return ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  };
  const EvalSummary& summary = evaluation.summary;
  std::string text =
      fmt::format("eval{} after step {}: loss {:.4f}  perplexity {:.3f}  ({} rows in {})",
                  evaluation.name.empty() ? "" : " of " + evaluation.name, step, summary.loss,
                  summary.perplexity, with_commas(summary.examples), duration(summary.seconds));
  for (const auto& s : evaluation.samples)
    text += fmt::format("\n  {}\n    answer    {}\n    reference {}", quote(s.prompt), quote(s.answer),
                        quote(s.reference));
  return text;
}

}  // namespace hone::train
