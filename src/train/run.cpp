#include "train/run.h"

#include <algorithm>
#include <cmath>

#include "base/console.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "hub/staged_directory.h"
#include "text/moment.h"
#include "train/preflight.h"
#include "train/resume.h"
#include "train/run_forecast.h"
#include "train/run_key.h"
#include "train/step_record.h"

namespace hone::train {

namespace {

std::int64_t seq_len_of(const Recipe& recipe, const model::DecoderSpec& spec) {
  return recipe.seq_len > 0 ? recipe.seq_len : std::min<std::int64_t>(2048, spec.context_length());
}

/// config.json first: the cheapest thing that can be wrong.
model::ModelDescription check_recipe(const Recipe& recipe) {
  check_paths(recipe);
  check_device(recipe);
  for (const auto& note : recipe.notes) log_warning("{}", note);
  auto description = model::describe(recipe.model_path);
  model::check_runs(description.spec);
  const std::int64_t seq_len = seq_len_of(recipe, description.spec);
  model::check_context(description.spec, seq_len,
                       fmt::format("{} is {}", recipe.place("data.seq_len"), seq_len));
  check_shapes(recipe, description, seq_len);
  return description;
}

/// By train.early_stopping.metric.
void find_deciding_set(Run& run) {
  const std::string& metric = run.recipe.early_stopping.metric;
  if (metric.empty()) return;
  std::string known;
  for (std::size_t i = 0; i < run.evaluation_sets.size(); ++i) {
    const std::string key =
        evaluation_key({.name = run.evaluation_sets[i].name, .summary = {}, .samples = {}}, "loss");
    if (key == metric) {
      run.deciding_set = i;
      return;
    }
    known += (known.empty() ? "" : ", ") + key;
  }
  fail("{} is {}, expected {}", run.recipe.place("train.early_stopping.metric"), metric,
       known.empty() ? "none: there is no data.eval" : "one of " + known);
}

void open_data(Run& run, std::int64_t vocab, const StopRequested& stop) {
  const Recipe& recipe = run.recipe;
  if (std::filesystem::exists(std::filesystem::path(recipe.model_path) / "tokenizer.json"))
    run.tokenizer = text::PretrainedTokenizer::from_pretrained(recipe.model_path);
  std::optional<Progress> progress;
  std::string reading;
  auto data = load_data(recipe, run.tokenizer ? &*run.tokenizer : nullptr,
                        {.seq_len = run.seq_len,
                         .packing = recipe.packing,
                         .shuffle = recipe.shuffle,
                         .overlong = recipe.overlong,
                         .on_dropped = recipe.on_dropped,
                         .seed = recipe.seed,
                         .vocab = vocab,
                         .for_training = true,
                         .now = text::parse_moment(run.state.started, recipe.output)},
                        [&](const std::string& what, std::int64_t rows, double share) {
                          if (stop()) throw Stopped{};
                          if (what != reading)
                            progress.emplace("reading " + what, run.recipe.reports_to("console"));
                          reading = what;
                          progress->update(share, with_commas(rows) + " rows");
                        });
  run.train_data = std::move(data.train);
  run.evaluation_sets = std::move(data.evaluation_sets);
  run.steps_per_epoch = run.train_data->steps_per_epoch(recipe.global_batch);
  find_deciding_set(run);
}

/// Epochs count passes over the present data.
void count_steps(Run& run) {
  const Recipe& recipe = run.recipe;
  const double steps = recipe.epochs * static_cast<double>(run.steps_per_epoch);
  run.steps = recipe.steps.value_or(run.state.data_since + std::max<std::int64_t>(1, std::llround(steps)));
  if (run.steps < run.state.step)
    fail("{} asks for {} steps, and the run in {} has done {} already",
         recipe.place(recipe.steps ? "train.steps" : "train.epochs"), run.steps, recipe.output,
         run.state.step);
}

/// Of this recipe with its data.
std::string key_of(const Run& run) {
  std::string evaluation;
  for (const auto& set : run.evaluation_sets) evaluation += fmt::format("{:016x}", set.data.fingerprint());
  return run_key(run.recipe, *run.train_data, evaluation);
}

/// Throws where the output's run was begun with another key, and is not to be extended or cannot be.
void check_key(const Run& run, const std::string& key, bool extend) {
  const auto changes = key_changes(run.state.run_key, key);
  if (extend && changes.empty()) log_info("--extend: the recipe asks for nothing else than before");
  for (const auto& change : changes) {
    const bool can_be = change.bearing == Bearing::kNumbers;
    if (extend && can_be) continue;
    fail("output {}: holds another run ({}); {}", run.recipe.output, describe(change),
         extend   ? "a run cannot be extended with that: choose another output"
         : can_be ? "choose another output, give the same recipe to continue it, or add --extend to go on "
                    "with the new values"
                  : "choose another output, or give the same recipe to continue it");
  }
}

/// Gives a state the run's key. In what it differs from its own goes into its history: the run is extended.
void take_key(TrainState& state, const std::string& key) {
  const auto changes = state.run_key.empty() ? std::vector<KeyChange>() : key_changes(state.run_key, key);
  state.run_key = key;
  if (changes.empty()) return;
  state.history.push_back({.step = state.step, .changes = {}});
  for (const auto& change : changes) {
    state.history.back().changes.push_back(arrow(change));
    if (reorders_data(change)) {
      state.cursor = {};
      state.data_since = state.step;
    }
    if (change.key == "eval") {  // the old losses say nothing of the new ones
      state.best_eval_loss.reset();
      state.best_step = -1;
    }
  }
  state.evaluations_without_gain = 0;
  state.stopped_early = false;
  state.finished = false;
}

/// Comments for the resolved recipe.
std::string history_text(const TrainState& state) {
  std::string text = state.history.empty() ? "" : "# extended:\n";
  for (const auto& extension : state.history)
    for (const auto& change : extension.changes)
      text += fmt::format("#   after step {}: {}\n", extension.step, change);
  return text;
}

void open_model(Run& run) {
  const Recipe& recipe = run.recipe;
  run.model = model::CausalLM::open(*run.context, recipe.model_path, recipe.dtype, recipe.quantized);
  auto& decoder = run.model->decoder();
  run.frozen = decoder.parameters().set_trainable(recipe.freeze, recipe.gradient_dtype(decoder.dtype()));
  decoder.parameters().multiply_in_fp8(recipe.fp8);
  run.optimizer = std::make_unique<Optimizer>(*run.context, decoder.parameters(), recipe.optimizer);
  {
    Progress progress("reading weights", recipe.reports_to("console"));
    run.model->load(*run.context,
                    {.progress = [&](double share) { progress.update(share, ""); },
                     .master = [&](const model::Parameter& p) { return run.optimizer->separate_master(p); }});
  }
  run.aux_coefficient = aux_coefficient_of(recipe, decoder.spec());
}

void rehearse_saves(const Run& run) {
  hub::rehearse_save(run.directory.checkpoints() / "step-rehearsal",
                     CheckpointStore::size_bytes(*run.optimizer), hub::IfExists::kReplace);
  hub::rehearse_save(run.directory.model(), run.model->plan().total_bytes(), hub::IfExists::kMerge);
}

}  // namespace

Run open_run(const Recipe& recipe, const TrainOptions& options, const StopRequested& stop) {
  const auto description = check_recipe(recipe);
  RunDirectory directory(recipe.output);
  CheckpointStore checkpoints(directory.checkpoints());
  checkpoints.clean_up();
  ResumePoint resume(checkpoints);
  if (!resume.exists() && (options.require_checkpoint || options.extend))
    fail("output {}: holds no checkpoint to {}", recipe.output, options.extend ? "extend" : "resume from");

  Run run{.recipe = recipe,
          .directory = std::move(directory),
          .checkpoints = checkpoints,
          .state = resume.state()};
  if (run.state.started.empty()) run.state.started = text::moment_text(text::local_time());
  run.seq_len = seq_len_of(recipe, description.spec);
  run.context = std::make_unique<ops::Context>(recipe.device, recipe.threads);
  open_data(run, description.spec.vocab, stop);
  const std::string key = key_of(run);
  if (resume.exists()) check_key(run, key, options.extend);
  take_key(run.state, key);
  count_steps(run);
  if (run.is_complete()) return run;

  check_fits(run);
  try {
    open_model(run);
    rehearse_saves(run);
    if (resume.exists()) resume.restore(*run.context, *run.optimizer);
  } catch (const device::OutOfMemory& error) {
    explain(run, error);
  }
  if (resume.exists()) {
    run.state = resume.state();  // an older one's, where the newest could not be read
    take_key(run.state, key);
    count_steps(run);
  }
  write_file_atomically(run.directory.recipe(), recipe.resolved + history_text(run.state));
  return run;
}

}  // namespace hone::train
