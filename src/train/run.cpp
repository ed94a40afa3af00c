#include "train/run.h"

#include <algorithm>
#include <cmath>

#include "base/console.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "device/threads.h"
#include "hub/staged_directory.h"
#include "text/moment.h"
#include "train/preflight.h"
#include "train/resume.h"
#include "train/run_key.h"

namespace hone::train {

namespace {

std::int64_t seq_len_of(const Recipe& recipe, const model::DecoderSpec& spec) {
  return recipe.seq_len > 0 ? recipe.seq_len : std::min<std::int64_t>(2048, spec.context_length());
}

/// config.json first: the cheapest thing that can be wrong.
model::ModelDescription check_recipe(const Recipe& recipe) {
  check_paths(recipe);
  for (const auto& note : recipe.notes) log_warning("{}", note);
  auto description = model::describe(recipe.model_path);
  const std::int64_t seq_len = seq_len_of(recipe, description.spec);
  model::check_context(description.spec, seq_len,
                       fmt::format("{} is {}", recipe.place("data.seq_len"), seq_len));
  check_shapes(recipe, description);
  return description;
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
                         .seed = recipe.seed,
                         .vocab = vocab,
                         .for_training = true,
                         .now = text::parse_moment(run.state.started, recipe.output)},
                        [&](const std::string& what, std::int64_t rows, double share) {
                          if (stop()) throw Stopped{};
                          if (what != reading) progress.emplace("reading " + what);
                          reading = what;
                          progress->update(share, with_commas(rows) + " rows");
                        });
  run.train_data = std::move(data.train);
  run.evaluation_sets = std::move(data.evaluation_sets);
  run.steps_per_epoch = run.train_data->steps_per_epoch(recipe.global_batch);
  const double steps = recipe.epochs * static_cast<double>(run.steps_per_epoch);
  run.steps = recipe.steps.value_or(std::max<std::int64_t>(1, std::llround(steps)));
}

/// Gives the run its key. Throws where it was begun with another.
void check_run_key(Run& run, bool continues) {
  const std::string key = run_key(run.recipe, *run.train_data);
  if (continues)
    for (const auto& change : key_changes(run.state.run_key, key))
      fail("output {}: holds another run ({}); choose another output, or give the same recipe to continue it",
           run.recipe.output, describe(change));
  run.state.run_key = key;
}

void open_model(Run& run) {
  const Recipe& recipe = run.recipe;
  {
    Progress progress("reading weights");
    run.model = model::CausalLM::from_pretrained(
        *run.context, recipe.model_path,
        {.dtype = recipe.dtype, .progress = [&](double share) { progress.update(share, ""); }});
  }
  auto& decoder = run.model->decoder();
  // Gradients of one micro-batch are rounded once, to the weight's dtype; sums over several are kept in f32.
  const bool accumulates = recipe.global_batch > recipe.micro_batch;
  run.frozen = decoder.parameters().set_trainable(recipe.freeze, accumulates ? DType::kF32 : decoder.dtype());
  const auto& spec = decoder.spec();
  if (spec.num_moe_layers() > 0)
    run.aux_coefficient =
        recipe.aux_coefficient.value_or(spec.output_router_logits ? spec.aux_coefficient : 0.0);
  run.optimizer = std::make_unique<Optimizer>(*run.context, *run.model, recipe.optimizer);
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
  if (!resume.exists() && options.require_checkpoint)
    fail("output {}: holds no checkpoint to resume from", recipe.output);

  Run run{.recipe = recipe,
          .directory = std::move(directory),
          .checkpoints = checkpoints,
          .state = resume.state()};
  if (run.state.started.empty()) run.state.started = text::moment_text(text::local_time());
  run.seq_len = seq_len_of(recipe, description.spec);
  const int threads = recipe.threads > 0 ? recipe.threads : device::available_cores();
  device::pin_threads(threads);
  run.context = std::make_unique<ops::Context>(device::Device{}, threads);
  open_data(run, description.spec.vocab, stop);
  check_run_key(run, resume.exists());
  if (run.is_complete()) return run;

  open_model(run);
  rehearse_saves(run);
  if (resume.exists()) {
    resume.restore(*run.context, *run.optimizer);
    const std::string key = run.state.run_key;
    run.state = resume.state();  // an older one's, where the newest could not be read
    run.state.run_key = key;
  }
  write_file_atomically(run.directory.recipe(), recipe.resolved);
  return run;
}

}  // namespace hone::train
