// What a run says of a step, once: the line at the terminal, metrics.jsonl and the report are made from it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "train/evaluation.h"

namespace hone::train {

/// An evaluation set's figures after a step.
struct EvaluationRecord {
  std::string name;  // of the set; "" for the only one
  EvalSummary summary;
  std::vector<Sample> samples;
};

/// One step and the evaluations after it; step 0 is what was evaluated before the first.
struct StepRecord {
  std::int64_t step = 0, steps = 0;  // done, and of the whole run
  std::string time = {};             // UTC, ISO 8601: when the step ended
  double epoch = 0;                  // passes over the data so far
  double progress = 0;               // share of the steps, 0 to 1
  double seconds_left = 0;           // as fast as the steps of this start were

  // Of the step; all 0 where step is.
  double loss = 0;  // lm_loss + coefficient * aux_loss
  double average_loss = 0, lm_loss = 0, aux_loss = 0, learning_rate = 0;
  double grad_norm = 0;                                       // before clipping
  std::int64_t tokens = 0, supervised = 0, total_tokens = 0;  // total: since the run began
  double tokens_per_second = 0, step_ms = 0, forward_ms = 0, backward_ms = 0, optimizer_ms = 0;
  double speed_of_light = 0;  // the least time by the machine's measured ceilings, as a share of the step's
  double memory_mib = 0;      // the most this process has had resident
  bool skipped = false;       // the loss or a gradient was not finite: nothing was changed

  /// The sum of the supervised tokens' weights, where rows have some; 0: none has.
  double loss_weight = 0;

  // Of models with experts.
  bool has_experts = false;
  double expert_imbalance = 0;  // busiest expert over the mean, worst layer
  std::int64_t dead_experts = 0;

  std::vector<EvaluationRecord> evaluations = {};
};

/// A figure of a record.
struct StepFigure {
  enum class Of { kPlace, kRun, kStep, kWeights, kExperts };
  const char* key;  // in metrics.jsonl
  std::variant<double StepRecord::*, std::int64_t StepRecord::*, bool StepRecord::*> field;
  Of of;  // kPlace: where in the run; kStep: of records after step 0; kWeights, kExperts: of those that have
          // weights or experts, too
  const char* longer = nullptr;  // Transformers' word, where the key is a shorter one
  const char* long_name() const { return longer != nullptr ? longer : key; }
};
/// All of them, in the order of metrics.jsonl.
const std::vector<StepFigure>& step_figures();
bool has_figure(const StepRecord& record, const StepFigure& figure);

/// "eval_loss", or "eval_NAME_loss" where the set has a name (as Transformers writes several sets).
std::string evaluation_key(const EvaluationRecord& evaluation, const char* figure);

/// The row of metrics.jsonl: every figure that the record has, its time, and of every evaluation loss and
/// perplexity. What is not finite is null.
nlohmann::ordered_json to_row(const StepRecord& record);
/// A row of samples.jsonl.
nlohmann::ordered_json to_row(std::int64_t step, const EvaluationRecord& evaluation, const Sample& sample);
/// The record of a row, of this or an older hone: what the row lacks is 0, and evaluations hold only their
/// losses and perplexities.
StepRecord from_row(const nlohmann::ordered_json& row);

/// "step 120/450  loss 1.1823 (avg 1.2011)  lr 9.1e-5 …".
std::string format_step_line(const StepRecord& record);
/// "eval after step 120: loss …", and the answers below it.
std::string format_evaluation(std::int64_t step, const EvaluationRecord& evaluation);

}  // namespace hone::train
