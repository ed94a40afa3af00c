#include "train/trainer.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "device/threads.h"
#include "hub/staged_directory.h"
#include "kernels/peak.h"
#include "model/causal_lm.h"
#include "text/moment.h"
#include "text/pretrained_tokenizer.h"
#include "train/batches.h"
#include "train/checkpoint.h"
#include "train/console.h"
#include "train/evaluation.h"
#include "train/forecast.h"
#include "train/preflight.h"
#include "train/report.h"
#include "train/run_directory.h"
#include "train/run_key.h"
#include "train/start_card.h"
#include "train/step.h"
#include "train/stop_signal.h"

namespace hone::train {

namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kMostSkips = 3;
constexpr double kAverageDecay = 0.98;  // of the loss average on the step line

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double resident_peak_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

/// Thrown where a signal arrives before the first step: there is nothing to save.
struct StoppedBeforeTheFirstStep {};

/// Thrown where a signal arrives in an evaluation after a step: it is done again by the next start.
struct StoppedInEvaluation {};

/// Everything a run holds, from the recipe to the last step.
class Trainer {
 public:
  Trainer(const Recipe& recipe, const TrainOptions& options);
  TrainOutcome run();

 private:
  bool is_complete() const {
    return state_.finished && std::filesystem::exists(directory_->model() / "config.json");
  }
  bool take_checkpoint();
  void refuse_checkpoint(const Error& error);
  void open_data();
  void open_model();
  void open_output(bool continues);
  void restore();
  void show_start_card();
  TrainOutcome loop();
  /// Prints the step's line and prepares its row of metrics.jsonl.
  void show_step(const StepResult& result, double learning_rate, double seconds);
  /// Evaluates and saves where it is due, and writes the row. False where a signal asks for the end; one that
  /// comes during an evaluation leaves the row waiting for it.
  bool end_step();
  void log_row();
  /// Saves and says so.
  TrainOutcome stop();
  void log_experts(const StepResult& result);
  [[noreturn]] void stop_for_nonfinite(const StepResult& result, const StepBatches& batches);
  void warn_nonfinite(const StepResult& result, const StepBatches& batches) const;
  std::string rows_text(const StepResult& result, const StepBatches& batches) const;
  EvalSummary run_evaluation();
  void show_samples();
  void save_checkpoint();
  /// Writes model/; where that fails, a checkpoint first.
  model::CausalLM::SaveReport save_model();
  void finish();
  double elapsed() const { return state_.seconds; }

  StopSignal stop_;  // first: a signal that comes while data or weights are read ends the run before a step
  Recipe recipe_;
  std::optional<model::ModelDescription> description_;
  std::unique_ptr<ops::Context> context_;
  std::optional<model::CausalLM> model_;
  std::optional<text::PretrainedTokenizer> tokenizer_;
  std::optional<data::Dataset> train_data_, eval_data_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<RunDirectory> directory_;
  std::unique_ptr<CheckpointStore> checkpoints_;
  std::unique_ptr<StepLog> metrics_, experts_;
  std::vector<std::filesystem::path>
      candidates_;  // checkpoints to continue from: the first one's state is state_
  std::vector<std::filesystem::path> broken_;  // newer ones that could not be read
  TrainState state_;
  std::vector<std::int64_t> frozen_;
  std::int64_t steps_ = 0, steps_per_epoch_ = 0, seq_len_ = 0;
  double aux_coefficient_ = 0;
  double peak_gflops_ = 0, flops_per_token_ = 0;
  std::int64_t steps_done_here_ = 0;
  double seconds_here_ = 0;
  double last_loss_ = 0;
};

Trainer::Trainer(const Recipe& recipe, const TrainOptions& options) : recipe_(recipe) {
  check_paths(recipe_);
  for (const auto& note : recipe_.notes) log_warning("{}", note);
  description_ =
      model::describe(recipe_.model_path);  // config.json first: the cheapest thing that can be wrong
  seq_len_ = recipe_.seq_len > 0 ? recipe_.seq_len
                                 : std::min<std::int64_t>(2048, description_->spec.context_length());
  model::check_context(description_->spec, seq_len_,
                       fmt::format("{} is {}", recipe_.place("data.seq_len"), seq_len_));
  check_shapes(recipe_, *description_);
  directory_ = std::make_unique<RunDirectory>(recipe_.output);
  checkpoints_ = std::make_unique<CheckpointStore>(directory_->checkpoints());
  checkpoints_->clean_up();
  const bool continues = take_checkpoint();
  if (!continues && options.require_checkpoint)
    fail("output {}: holds no checkpoint to resume from", recipe_.output);
  if (state_.started.empty()) state_.started = text::moment_text(text::local_time());
  const int threads = recipe_.threads > 0 ? recipe_.threads : device::available_cores();
  device::pin_threads(threads);
  context_ = std::make_unique<ops::Context>(device::Device{}, threads);
  open_data();
  const std::string key = run_key(recipe_, *train_data_);
  if (continues)
    for (const auto& change : key_changes(state_.run_key, key))
      fail("output {}: holds another run ({}); choose another output, or give the same recipe to continue it",
           recipe_.output, describe(change));
  state_.run_key = key;
  if (is_complete()) return;
  open_model();
  open_output(continues);
}

bool Trainer::take_checkpoint() {
  if (candidates_.empty()) candidates_ = checkpoints_->all();
  while (!candidates_.empty()) {
    try {
      state_ = CheckpointStore::load_state(candidates_.front());
      return true;
    } catch (const NewerCheckpoint&) {
      throw;  // not broken: neither skipped nor renamed
    } catch (const Error& e) {
      refuse_checkpoint(e);
    }
  }
  return false;
}

void Trainer::refuse_checkpoint(const Error& error) {
  if (error.kind() != ErrorKind::kUser) throw error;
  log_warning("{}; trying the checkpoint before it", error.what());
  broken_.push_back(candidates_.front());
  candidates_.erase(candidates_.begin());
  if (candidates_.empty())
    fail(
        "{}: none of the checkpoints can be continued from (the warnings above say why); delete the "
        "directory "
        "to start anew",
        directory_->checkpoints().string());
}

void Trainer::open_data() {
  // Without a tokenizer rows of input_ids can still be trained on.
  if (std::filesystem::exists(std::filesystem::path(recipe_.model_path) / "tokenizer.json"))
    tokenizer_ = text::PretrainedTokenizer::from_pretrained(recipe_.model_path);
  const auto load = [&](const std::string& path, const std::string& split, const char* what) {
    Progress progress(std::string("reading ") + what);
    return data::Dataset::load(path, split, tokenizer_ ? &*tokenizer_ : nullptr,
                               {.seq_len = seq_len_,
                                .packing = recipe_.packing,
                                .shuffle = recipe_.shuffle,
                                .overlong = recipe_.overlong,
                                .seed = recipe_.seed,
                                .vocab = description_->spec.vocab,
                                .for_training = true,
                                .now = text::parse_moment(state_.started, recipe_.output)},
                               [&](std::int64_t rows, double share) {
                                 if (stop_.requested()) throw StoppedBeforeTheFirstStep{};
                                 progress.update(share, with_commas(rows) + " rows");
                               });
  };
  train_data_ = load(recipe_.train_data, "train", "training data");
  if (!recipe_.eval_data.empty()) eval_data_ = load(recipe_.eval_data, "valid", "evaluation data");
  steps_per_epoch_ = train_data_->steps_per_epoch(recipe_.global_batch);
  steps_ = recipe_.steps.value_or(
      std::max<std::int64_t>(1, std::llround(recipe_.epochs * static_cast<double>(steps_per_epoch_))));
}

void Trainer::open_model() {
  {
    Progress progress("reading weights");
    model_ = model::CausalLM::from_pretrained(
        *context_, recipe_.model_path,
        {.dtype = recipe_.dtype, .progress = [&](double share) { progress.update(share, ""); }});
  }
  auto& decoder = model_->decoder();
  // Gradients of one micro-batch are rounded once, to the weight's dtype; sums over several are kept in f32.
  const bool accumulates = recipe_.global_batch > recipe_.micro_batch;
  frozen_ = decoder.parameters().set_trainable(recipe_.freeze, accumulates ? DType::kF32 : decoder.dtype());
  const auto& spec = decoder.spec();
  aux_coefficient_ = recipe_.aux_coefficient.value_or(spec.output_router_logits ? spec.aux_coefficient : 0.0);
  if (spec.num_moe_layers() == 0) aux_coefficient_ = 0;
  optimizer_ = std::make_unique<Optimizer>(*context_, *model_, recipe_.optimizer);
}

void Trainer::open_output(bool continues) {
  hub::rehearse_save(directory_->checkpoints() / "step-rehearsal", CheckpointStore::size_bytes(*optimizer_),
                     hub::IfExists::kReplace);
  hub::rehearse_save(directory_->model(), model_->plan().total_bytes(), hub::IfExists::kMerge);
  if (continues) restore();
  write_file_atomically(directory_->recipe(), recipe_.resolved);
  metrics_ = std::make_unique<StepLog>(directory_->metrics(),
                                       state_.waiting_row.empty() ? state_.step : state_.step - 1);
  if (model_->spec().num_moe_layers() > 0)
    experts_ = std::make_unique<StepLog>(directory_->experts(), state_.step);
}

void Trainer::restore() {
  for (;;) {
    try {
      CheckpointStore::load_tensors(candidates_.front(), *context_, *optimizer_);
      break;
    } catch (const Error& e) {
      refuse_checkpoint(e);
    }
    take_checkpoint();
  }
  optimizer_->set_updates(state_.updates);
  checkpoints_->set_aside(broken_);
}

void Trainer::show_start_card() {
  const bool bf16 = model_->decoder().dtype() == DType::kBF16;
  const auto peak =
      kernels::measure_compute_peak(kernels::choose_cpu_isa(), context_->stream().num_threads());
  peak_gflops_ = bf16 ? peak.bf16 : peak.f32;
  data::Cursor first;
  auto batches =
      make_batches(*train_data_, train_data_->next_batch(first, recipe_.micro_batch), recipe_.micro_batch);
  const auto forecast =
      forecast_micro_batch(model_->spec(), model_->decoder().dtype(), batches.micro_batches.front(),
                           recipe_.recompute, aux_coefficient_);
  flops_per_token_ = forecast.flops / static_cast<double>(batches.micro_batches.front().tokens());
  const auto& ledger = context_->ledger();
  const auto gradient_size =
      static_cast<std::int64_t>(recipe_.global_batch > recipe_.micro_batch || !bf16 ? 4 : 2);
  StartCardFacts facts{
      .recipe = &recipe_,
      .model = &*model_,
      .train = &*train_data_,
      .eval = eval_data_ ? &*eval_data_ : nullptr,
      .frozen_by_pattern = frozen_,
      .steps = steps_,
      .steps_per_epoch = steps_per_epoch_,
      .first_step = state_.step,
      .seq_len = seq_len_,
      .threads = context_->stream().num_threads(),
      .isa = std::string(kernels::name_of(kernels::choose_cpu_isa())),
      .peak_gflops = peak_gflops_,
      .aux_coefficient = aux_coefficient_,
      .held_bytes = {ledger.current(device::Purpose::kWeights), ledger.current(device::Purpose::kOptimizer),
                     model_->decoder().parameters().num_elements(true) * gradient_size},
      .activation_bytes = forecast.activation_bytes,
      .save_bytes = CheckpointStore::size_bytes(*optimizer_) + model_->plan().total_bytes()};
  say("{}\n", start_card(facts));
}

TrainOutcome Trainer::run() {
  if (is_complete()) {
    say("this run is finished: {} steps, model in {}; nothing to do\n", state_.step,
        directory_->model().string());
    return {.already_finished = true,
            .steps = state_.step,
            .model = directory_->model(),
            .report = directory_->report()};
  }
  show_start_card();
  return loop();
}

TrainOutcome Trainer::loop() {
  if (stop_.requested()) throw StoppedBeforeTheFirstStep{};
  if (eval_data_ && state_.step == 0) run_evaluation();
  if (!state_.waiting_row.empty() && !end_step()) return stop();
  while (state_.step < steps_) {
    // Teams that other work made (reading data, short loops) have left the cores of ours.
    device::pin_threads(context_->stream().num_threads());
    const double started = now_seconds();
    const auto batches = make_batches(
        *train_data_, train_data_->next_batch(state_.cursor, recipe_.global_batch), recipe_.micro_batch);
    const double learning_rate =
        recipe_.learning_rate * schedule_factor(recipe_.schedule, state_.step, steps_);
    const StepResult result = train_step(*context_, model_->decoder(), *optimizer_, batches.micro_batches,
                                         {.learning_rate = learning_rate,
                                          .clip = recipe_.clip.value_or(0.0),
                                          .recompute = recipe_.recompute,
                                          .aux_coefficient = aux_coefficient_});
    const double seconds = now_seconds() - started;
    ++state_.step;
    state_.updates = optimizer_->updates();
    state_.tokens += result.tokens;
    state_.supervised += result.supervised;
    state_.seconds += seconds;
    state_.consecutive_skips = result.skipped ? state_.consecutive_skips + 1 : 0;
    if (!result.skipped)
      state_.average_loss = state_.average_loss
                                ? kAverageDecay * *state_.average_loss + (1 - kAverageDecay) * result.loss
                                : result.loss;
    ++steps_done_here_;
    seconds_here_ += seconds;
    last_loss_ = result.loss;

    show_step(result, learning_rate, seconds);
    log_experts(result);
    if (result.skipped) warn_nonfinite(result, batches);
    if (state_.consecutive_skips >= kMostSkips) stop_for_nonfinite(result, batches);
    if (!end_step()) return stop();
  }
  finish();
  return {
      .steps = state_.step, .loss = last_loss_, .model = directory_->model(), .report = directory_->report()};
}

bool Trainer::end_step() {
  const bool last = state_.step == steps_;
  bool is_best = false;
  if (eval_data_ && (last || (recipe_.eval_every > 0 && state_.step % recipe_.eval_every == 0))) {
    try {
      const auto eval = run_evaluation();
      auto row = ordered_json::parse(state_.waiting_row);
      row["eval_loss"] = eval.loss;
      row["eval_perplexity"] = eval.perplexity;
      state_.waiting_row = row.dump();
    } catch (const StoppedInEvaluation&) {
      return false;
    }
    is_best = state_.best_step == state_.step;
  }
  log_row();
  if (stop_.requested() && !last) return false;
  if (!last && recipe_.checkpoint_every > 0 && (is_best || state_.step % recipe_.checkpoint_every == 0)) {
    save_checkpoint();
    write_report(*directory_);
  }
  return true;
}

void Trainer::log_row() {
  metrics_->write(ordered_json::parse(state_.waiting_row));
  state_.waiting_row.clear();
}

TrainOutcome Trainer::stop() {
  save_checkpoint();
  write_report(*directory_);
  say("stopped after step {}; the same command continues from here\n", state_.step);
  return {.interrupted = true,
          .steps = state_.step,
          .loss = last_loss_,
          .model = {},
          .report = directory_->report()};
}

void Trainer::show_step(const StepResult& result, double learning_rate, double seconds) {
  const double tokens_per_second = static_cast<double>(result.tokens) / seconds;
  StepLine line{
      .step = state_.step,
      .steps = steps_,
      .loss = result.loss,
      .average_loss = state_.average_loss.value_or(result.loss),
      .aux_loss = result.aux_loss,
      .learning_rate = learning_rate,
      .grad_norm = result.grad_norm,
      .tokens_per_second = tokens_per_second,
      .speed_of_light = peak_gflops_ > 0 ? tokens_per_second * flops_per_token_ / (peak_gflops_ * 1e9) : 0,
      .memory_bytes = resident_peak_bytes(),
      .has_experts = !result.expert_counts.empty(),
      .seconds_left =
          seconds_here_ / static_cast<double>(steps_done_here_) * static_cast<double>(steps_ - state_.step),
      .skipped = result.skipped};
  for (const auto& counts : result.expert_counts) {
    const auto sum = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    const auto most = *std::max_element(counts.begin(), counts.end());
    if (sum > 0)
      line.expert_imbalance =
          std::max(line.expert_imbalance,
                   static_cast<double>(most) * static_cast<double>(counts.size()) / static_cast<double>(sum));
    line.dead_experts += std::count(counts.begin(), counts.end(), 0);
  }
  say("{}\n", format_step_line(line));

  ordered_json row{{"step", state_.step},
                   {"epoch", static_cast<double>(state_.step) / static_cast<double>(steps_per_epoch_)},
                   {"loss", result.loss},
                   {"lm_loss", result.lm_loss},
                   {"aux_loss", result.aux_loss},
                   {"lr", line.learning_rate},
                   {"grad_norm", result.grad_norm},
                   {"tokens", result.tokens},
                   {"supervised", result.supervised},
                   {"total_tokens", state_.tokens},
                   {"tok_s", line.tokens_per_second},
                   {"step_ms", 1e3 * seconds},
                   {"fwd_ms", result.forward_ms},
                   {"bwd_ms", result.backward_ms},
                   {"opt_ms", result.optimizer_ms},
                   {"sol", line.speed_of_light},
                   {"mem_mib", line.memory_bytes / 0x1p20},
                   {"skipped", result.skipped}};
  if (line.has_experts) {
    row["expert_max_mean"] = line.expert_imbalance;
    row["dead_experts"] = line.dead_experts;
  }
  state_.waiting_row = row.dump();
}

void Trainer::log_experts(const StepResult& result) {
  if (!experts_ || result.expert_counts.empty()) return;
  auto& sums = state_.expert_counts;
  sums.resize(result.expert_counts.size());
  for (std::size_t layer = 0; layer < sums.size(); ++layer) {
    sums[layer].resize(result.expert_counts[layer].size());
    for (std::size_t e = 0; e < sums[layer].size(); ++e) sums[layer][e] += result.expert_counts[layer][e];
  }
  // At most about 100 rows: one for every hundredth of the run.
  const std::int64_t window = std::max<std::int64_t>(1, (steps_ + 99) / 100);
  if (state_.step % window != 0 && state_.step != steps_) return;
  experts_->write({{"step", state_.step}, {"counts", sums}});
  sums.clear();
}

std::string Trainer::rows_text(const StepResult& result, const StepBatches& batches) const {
  std::string text;
  std::size_t shown = 0;
  std::vector<std::int64_t> documents = result.nonfinite_documents;
  if (documents.empty()) {
    documents.resize(batches.examples.size());
    std::iota(documents.begin(), documents.end(), 0);
  }
  for (const auto d : documents) {
    if (shown++ == 4) {
      text += fmt::format(" and {} more", documents.size() - 4);
      break;
    }
    const auto source = train_data_->source(batches.examples.at(static_cast<std::size_t>(d)));
    text += (text.empty() ? "" : ", ") + source.where();
  }
  return text;
}

void Trainer::warn_nonfinite(const StepResult& result, const StepBatches& batches) const {
  log_warning("step {}: {} is not finite; the update was skipped and the weights are unchanged; rows {}",
              state_.step, result.nonfinite == "loss" ? "the loss" : "the gradient of " + result.nonfinite,
              rows_text(result, batches));
}

void Trainer::stop_for_nonfinite(const StepResult& result, const StepBatches& batches) {
  log_row();
  state_.consecutive_skips = 0;  // a continued run goes on with the next batch
  save_checkpoint();
  fail(
      "{} steps in a row were not finite, first in {}, last on rows {}; the weights are those before them "
      "(checkpoint in {}); "
      "lower train.optimizer.lr, or look at the data",
      kMostSkips, result.nonfinite, rows_text(result, batches), directory_->checkpoints().string());
}

EvalSummary Trainer::run_evaluation() {
  EvalSummary summary;
  {
    Progress progress("evaluating");
    summary = evaluate_dataset(*context_, model_->decoder(), *eval_data_, seq_len_ * recipe_.micro_batch,
                               [&](std::int64_t done, std::int64_t of) {
                                 if (stop_.requested() && state_.step == 0) throw StoppedBeforeTheFirstStep{};
                                 if (stop_.requested()) throw StoppedInEvaluation{};
                                 progress.update(static_cast<double>(done) / static_cast<double>(of),
                                                 fmt::format("{} of {} rows", done, of));
                               });
  }
  say("eval after step {}: loss {:.4f}  perplexity {:.3f}  ({} rows in {})\n", state_.step, summary.loss,
      summary.perplexity, with_commas(summary.examples), duration(summary.seconds));
  if (tokenizer_) show_samples();
  if (std::isfinite(summary.loss) && (!state_.best_eval_loss || summary.loss < *state_.best_eval_loss)) {
    state_.best_eval_loss = summary.loss;
    state_.best_step = state_.step;
  }
  return summary;
}

void Trainer::show_samples() {
  const auto quote = [](const std::string& text) {
    return ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  };
  for (const auto& s :
       sample_answers(*context_, model_->decoder(), *eval_data_, *tokenizer_, recipe_.eval_samples))
    say("  {}\n    answer    {}\n    reference {}\n", quote(s.prompt), quote(s.answer), quote(s.reference));
}

void Trainer::save_checkpoint() {
  metrics_->sync();  // a checkpoint never knows of steps that the logs do not
  if (experts_) experts_->sync();
  const double started = now_seconds();
  checkpoints_->save(state_, *optimizer_);
  say("saved {}/step-{}, {} in {:.1f}s\n", directory_->checkpoints().string(), state_.step,
      bytes_text(static_cast<double>(CheckpointStore::size_bytes(*optimizer_))), now_seconds() - started);
  checkpoints_->prune(recipe_.keep_last, state_.best_step);
}

model::CausalLM::SaveReport Trainer::save_model() {
  try {
    return model_->save_pretrained(directory_->model(),
                                   [&](const model::Parameter& p) { return optimizer_->master_of(p); });
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    save_checkpoint();  // a full disk, or a base model that was rewritten: what was learnt is not lost with
                        // it
    fail("{}; what was trained is in {}/step-{}: mend this, and the same command writes the model",
         error.what(), directory_->checkpoints().string(), state_.step);
  }
}

void Trainer::finish() {
  // The model first: a run counts as finished only when its last checkpoint says so, so a kill in between
  // writes the model again.
  const auto report = save_model();
  state_.finished = true;
  save_checkpoint();
  write_report(*directory_);
  for (const auto& name : report.overflowed)
    log_warning("{}: beyond the range of the f16 it is stored as; written as infinity", name);
  if (!report.left_out.empty())
    log_info("not copied (weights in other formats): {}", fmt::join(report.left_out, ", "));
  if (const auto& links = model_->other_files().not_followed(); !links.empty())
    log_warning("not copied, no file of the model's directory or a link that leaves it: {}",
                fmt::join(links, ", "));
  if (!report.kept.empty())
    log_info("{}: kept as they were: {}", directory_->model().string(), fmt::join(report.kept, ", "));
  say("done: {} steps, {} tokens in {}\nmodel    {}\nreport   {}\n", with_commas(state_.step),
      with_commas(state_.tokens), duration(elapsed()), directory_->model().string(),
      directory_->report().string());
}

}  // namespace

TrainOutcome train(const Recipe& recipe, const TrainOptions& options) {
  try {
    return Trainer(recipe, options).run();
  } catch (const StoppedBeforeTheFirstStep&) {
    say("stopped before a step was done; the same command starts again\n");
    return {.interrupted = true, .model = {}, .report = {}};
  }
}

}  // namespace hone::train
