#include "train/trainer.h"

#include <fmt/ranges.h>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "base/console.h"
#include "base/log.h"
#include "base/stopwatch.h"
#include "train/batches.h"
#include "train/evaluation.h"
#include "train/nonfinite.h"
#include "train/report.h"
#include "train/run_forecast.h"
#include "train/run_log.h"
#include "train/step_graphs.h"

namespace hone::train {

namespace {

constexpr std::int64_t kMostSkips = 3;
constexpr double kAverageDecay = 0.98;  // of the loss average on the step line

void count_step(TrainState& state, const StepResult& result, const Optimizer& optimizer, double seconds) {
  ++state.step;
  state.updates = optimizer.updates();
  state.last_norm = optimizer.last_norm();
  state.tokens += result.tokens;
  state.supervised += result.supervised;
  state.seconds += seconds;
  state.consecutive_skips = result.skipped ? state.consecutive_skips + 1 : 0;
  if (!result.skipped && result.supervised > 0)
    state.average_loss = state.average_loss
                             ? kAverageDecay * *state.average_loss + (1 - kAverageDecay) * result.loss
                             : result.loss;
}

bool evaluation_is_due(const Run& run, std::int64_t step) {
  if (run.evaluation_sets.empty()) return false;
  return step == 0 || step >= run.steps || (run.recipe.eval_every > 0 && step % run.recipe.eval_every == 0);
}

/// What the evaluation after a step means: whether the step is the best so far, and whether the run goes on.
/// As Transformers' EarlyStoppingCallback has it, a gain must exceed min_delta; any lower loss is the best.
void judge(TrainState& state, const Recipe::EarlyStopping& stopping, double loss) {
  const double before = state.best_eval_loss.value_or(std::numeric_limits<double>::infinity());
  const bool gained = std::isfinite(loss) && loss < before - stopping.min_delta;
  state.evaluations_without_gain = gained ? 0 : state.evaluations_without_gain + 1;
  state.stopped_early = stopping.patience > 0 && state.evaluations_without_gain >= stopping.patience;
  if (!std::isfinite(loss) || loss >= before) return;
  state.best_eval_loss = loss;
  state.best_step = state.step;
}

/// All sets, into the waiting record. The one before the first step is no candidate for the best: there is
/// nothing to keep of it. Throws Stopped with nothing changed.
void evaluate(Run& run, const StopRequested& stop) {
  std::vector<EvaluationRecord> evaluations;
  for (const auto& set : run.evaluation_sets) {
    Progress progress(set.name.empty() ? "evaluating" : "evaluating " + set.name,
                      run.recipe.reports_to("console"));
    auto& decoder = run.model->decoder();
    EvaluationRecord evaluation{.name = set.name, .summary = {}, .samples = {}};
    evaluation.summary = evaluate_dataset(
        *run.context, decoder, set.data, run.evaluation_tokens(), [&](std::int64_t done, std::int64_t of) {
          if (stop()) throw Stopped{};
          progress.update(static_cast<double>(done) / static_cast<double>(of),
                          fmt::format("{} of {} rows", done, of));
        });
    if (run.tokenizer)
      evaluation.samples =
          sample_answers(*run.context, decoder, set.data, *run.tokenizer, run.recipe.eval_samples);
    evaluations.push_back(std::move(evaluation));
  }
  if (run.state.step > 0)
    judge(run.state, run.recipe.early_stopping, evaluations.at(run.deciding_set).summary.loss);
  run.state.waiting->evaluations = std::move(evaluations);
}

bool checkpoint_is_due(const Run& run, std::int64_t step) {
  if (step == 0) return false;
  if (run.recipe.checkpoint_every == 0) return run.recipe.load_best && step == run.state.best_step;
  return step == run.state.best_step || step % run.recipe.checkpoint_every == 0;
}

void save_checkpoint(const Run& run, RunLog& log) {
  log.sync();
  const Stopwatch watch;
  run.checkpoints.save(*run.context, run.state, *run.optimizer);
  log.note("saved {}/step-{}, {} in {:.1f}s", run.directory.checkpoints().string(), run.state.step,
           bytes_text(static_cast<double>(CheckpointStore::size_bytes(*run.optimizer))), watch.seconds());
  run.checkpoints.prune(run.recipe.keep_last, run.state.best_step);
  if (run.recipe.reports_to("report")) write_report(run.directory);
}

[[noreturn]] void give_up(Run& run, RunLog& log, const StepResult& result, const StepBatches& batches) {
  log.record(*run.state.waiting);
  run.state.waiting.reset();
  run.state.consecutive_skips = 0;  // a continued run goes on with the next batch
  save_checkpoint(run, log);
  fail("{}", nonfinite_failure(run, result, batches, kMostSkips));
}

/// What follows a step, or comes before the first: evaluation, record, checkpoint, where they are due. False
/// where a stop was requested; one during an evaluation leaves the record waiting for it.
bool end_step(Run& run, RunLog& log, const StopRequested& stop) {
  TrainState& state = run.state;
  try {
    if (evaluation_is_due(run, state.step)) evaluate(run, stop);
  } catch (const Stopped&) {
    return false;
  }
  log.record(*state.waiting);
  state.waiting.reset();
  if (run.is_at_end()) return true;
  if (stop()) return false;
  if (checkpoint_is_due(run, state.step)) save_checkpoint(run, log);
  return true;
}

/// What a step computes, and where the next one's begins.
struct StepData {
  StepBatches batches;
  data::Cursor next;
};
StepData read_data(const Run& run, data::Cursor cursor) {
  const auto packs = run.train_data->next_batch(cursor, run.recipe.global_batch);
  return {make_batches(*run.train_data, packs, run.recipe.micro_batch), cursor};
}

/// A step that is in the stream, and has not been read.
struct UnreadStep {
  std::unique_ptr<const StepData> data;  // the same place as long as the step needs it
  double learning_rate = 0;
  PendingStep pending;
};

/// The steps of a run. On a card the next one is put into the stream before this one is read, so that the
/// card does not wait while the host hears of the one, writes its record and reads the data of another; but
/// where more than the next step follows it: an evaluation, a checkpoint, the end of the run, of too many
/// skipped ones too, or a caller who is shown each and may stop there (`is_shown`). The device goes by what
/// became of the step before (Optimizer::begin_update): the same bits.
class Steps {
 public:
  Steps(Run& run, RunLog& log, const StopRequested& stop, bool is_shown)
      : run_(run), log_(log), stop_(stop), is_shown_(is_shown) {
    if (run.recipe.cuda_graph) graphs_.emplace();
  }

  /// False where a stop was requested before the last step.
  bool run() {
    std::optional<UnreadStep> step;
    while (!run_.is_at_end()) {
      if (!step) {
        watch_ = {};
        step = begin(read_data(run_, run_.state.cursor), run_.state.step);
      }
      std::optional<UnreadStep> next = begin_ahead(*step);
      const bool goes_on = finish(*step);
      step = std::move(next);
      if (goes_on) continue;
      return step && finish(*step) && run_.is_at_end();
    }
    if (graphs_ && run_.recipe.device.type == device::DeviceType::kCuda) log_.note("{}", graphs_->text());
    return true;
  }

 private:
  /// Step `number` of the run, counted from 0.
  UnreadStep begin(StepData read, std::int64_t number) {
    const Recipe& recipe = run_.recipe;
    auto data = std::make_unique<const StepData>(std::move(read));
    const double learning_rate = recipe.learning_rate * schedule_factor(recipe.schedule, number, run_.steps);
    const StepOptions options{.learning_rate = learning_rate,
                              .clip = recipe.clip.value_or(0.0),
                              .recompute = recipe.recompute,
                              .aux_coefficient = run_.aux_coefficient,
                              .update_as_ready = recipe.update_as_ready,
                              .weight_gradients_beside = recipe.weight_gradients_beside};
    auto& decoder = run_.model->decoder();
    const auto& micro_batches = data->batches.micro_batches;
    auto pending = graphs_ ? graphs_->begin(*run_.context, decoder, *run_.optimizer, micro_batches, options)
                           : begin_step(*run_.context, decoder, *run_.optimizer, micro_batches, options);
    return {std::move(data), learning_rate, std::move(pending)};
  }

  /// The one after `step`, which is unread; nullopt where it has to wait for that.
  std::optional<UnreadStep> begin_ahead(UnreadStep& step) {
    const std::int64_t done = run_.state.step + 1;                                      // with `step`
    if (is_shown_ || run_.context->stream().shares_host_memory()) return std::nullopt;  // or all is done
    if (done >= run_.steps || evaluation_is_due(run_, done) || checkpoint_is_due(run_, done) ||
        run_.state.consecutive_skips + 1 >= kMostSkips || !run_.optimizer->may_begin_unread() || stop_())
      return std::nullopt;
    std::optional<StepData> data;
    try {
      data = read_data(run_, step.data->next);
    } catch (const Error&) {  // the next step meets it again
      return std::nullopt;
    }
    try {
      return begin(*std::move(data), done);
    } catch (const device::OutOfMemory&) {
      finish(step);  // which is no less done
      throw;
    }
  }

  /// Reads a step, counts it, and does what follows it. False where a stop was requested.
  bool finish(UnreadStep& step) {
    const StepResult result = step.pending.read();
    const double seconds = 1e-3 * watch_.lap_ms();
    TrainState& state = run_.state;
    state.cursor =
        step.data->next;  // not before: of a step that finds no memory the forecast is of its batches
    count_step(state, result, *run_.optimizer, seconds);
    state.waiting = log_.record_of(run_, result, step.learning_rate, seconds);
    log_.step(*state.waiting);
    log_.count_experts(state, result, run_.steps);
    const StepBatches& batches = step.data->batches;
    if (result.supervised == 0)
      log_warning("step {}: none of its rows has a token to learn from; no update", state.step);
    if (result.skipped) log_warning("{}", nonfinite_warning(run_, result, batches));
    if (state.consecutive_skips == kMostSkips) give_up(run_, log_, result, batches);
    return end_step(run_, log_, stop_);
  }

  Run& run_;
  RunLog& log_;
  const StopRequested& stop_;
  bool is_shown_;
  std::optional<StepGraphs> graphs_;
  Stopwatch watch_;  // laps of steps: from the end of one to that of the next, or from its own beginning
};

bool train_steps(Run& run, RunLog& log, const StopRequested& stop, bool is_shown) {
  TrainState& state = run.state;
  if (state.step == 0 && !run.evaluation_sets.empty()) state.waiting = RunLog::record_before_first_step(run);
  if (state.waiting && !end_step(run, log, stop)) return false;
  return Steps(run, log, stop, is_shown).run();
}

/// Writes model/: the last step's weights, or with train.load_best those of the best one's checkpoint. Where
/// that fails, a checkpoint first: what was learnt is not lost with a full disk, or a base model that was
/// rewritten.
model::CausalLM::SaveReport save_model(const Run& run, RunLog& log) {
  const bool is_last = run.model_step() == run.state.step;
  try {
    if (is_last)
      return run.model->save_pretrained(*run.context, run.directory.model(), [&](const model::Parameter& p) {
        return model::source_of(*run.context, run.optimizer->master_of(p));
      });
    const SavedTensors best = open_tensors(run.checkpoints.path_of(run.model_step()));
    return run.model->save_pretrained(*run.context, run.directory.model(), best.masters());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    save_checkpoint(run, log);
    fail("{}; what was trained is in {}/step-{}: mend this, and the same command writes the model{}",
         error.what(), run.directory.checkpoints().string(), run.state.step,
         is_last ? "" : " (train.load_best; with --extend train.load_best=false model/ is the last step)");
  }
}

/// Why the run ended before its last step; "" where it did not.
std::string early_text(const Run& run) {
  const TrainState& state = run.state;
  if (!state.stopped_early || state.step >= run.steps) return "";
  return fmt::format("stopped early: {} evaluations without a gain over step {} (loss {:.4f})\n",
                     state.evaluations_without_gain, state.best_step, state.best_eval_loss.value_or(NAN));
}

/// After the last step: the trained model as a Hugging Face directory.
void finish(Run& run, RunLog& log) {
  // The model and the report first: a run counts as finished only when its last checkpoint says so, so a kill
  // in between writes them again.
  const auto report = save_model(run, log);
  log.sync();
  if (run.recipe.reports_to("report")) write_report(run.directory);
  run.state.finished = true;
  save_checkpoint(run, log);
  for (const auto& name : report.overflowed)
    log_warning("{}: beyond the range of the f16 it is stored as; written as infinity", name);
  if (report.coding.tensors > 0) log.note("{}", hub::coding_text(report.coding));
  if (!report.left_out.empty())
    log.note("not copied (weights in other formats): {}", fmt::join(report.left_out, ", "));
  if (const auto& links = run.model->other_files().not_followed(); !links.empty())
    log_warning("not copied, no file of the model's directory or a link that leaves it: {}",
                fmt::join(links, ", "));
  if (!report.kept.empty())
    log.note("{}: kept as they were: {}", run.directory.model().string(), fmt::join(report.kept, ", "));
}

TrainOutcome outcome_of(const Run& run) {
  return {.stopped_early = run.state.stopped_early,
          .steps = run.state.step,
          .model_step = run.model_step(),
          .best_step = run.state.best_step,
          .best_eval_loss = run.state.best_eval_loss,
          .model = run.directory.model(),
          .report = run.directory.report()};
}

std::string summary_of(const Run& run) {
  const std::string which = run.recipe.load_best
                                ? fmt::format("  (step {}, the best: evaluation loss {:.4f})",
                                              run.model_step(), run.state.best_eval_loss.value_or(NAN))
                                : "";
  return fmt::format(
      "{}done: {} steps, {} tokens in {}\nmodel    {}{}\n{}", early_text(run), with_commas(run.state.step),
      with_commas(run.state.tokens), duration(run.state.seconds), run.directory.model().string(), which,
      run.recipe.reports_to("report") ? fmt::format("report   {}\n", run.directory.report().string()) : "");
}

TrainOutcome train_run(Run& run, const TrainOptions& options, const StopRequested& stop) {
  TrainOutcome outcome = outcome_of(run);
  if (run.is_complete()) {
    outcome.already_finished = true;
    outcome.summary = fmt::format("this run is finished: {} steps, model in {}; nothing to do\n",
                                  run.state.step, run.directory.model().string());
    return outcome;
  }
  RunLog log(run, options.each);
  log.show_start_card(run);
  if (stop()) throw Stopped{};
  const bool ended = train_steps(run, log, stop, options.each != nullptr);
  if (ended)
    finish(run, log);
  else if (run.state.step == 0)
    throw Stopped{};
  else
    save_checkpoint(run, log);
  outcome = outcome_of(run);
  outcome.memory_forecast_mib = static_cast<double>(log.memory().total()) / 0x1p20;
  outcome.interrupted = !ended;
  if (!ended) outcome.model.clear();
  outcome.summary =
      ended ? summary_of(run)
            : fmt::format("stopped after step {}; the same command continues from here\n", run.state.step);
  return outcome;
}

}  // namespace

TrainOutcome train(const Recipe& recipe, const TrainOptions& options) {
  const StopRequested stop = options.stop ? options.stop : StopRequested([] { return false; });
  try {
    Run run = open_run(recipe, options, stop);
    try {
      return train_run(run, options, stop);
    } catch (const device::OutOfMemory& error) {
      explain(run, error);
    }
  } catch (const Stopped&) {
    return {.interrupted = true,
            .model = {},
            .report = {},
            .summary = "stopped before a step was done; the same command starts again\n"};
  }
}

}  // namespace hone::train
