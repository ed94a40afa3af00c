#include "train/export.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "hub/staged_directory.h"
#include "model/causal_lm.h"
#include "train/checkpoint.h"
#include "train/recipe.h"
#include "train/run_key.h"

namespace hone::train {

namespace {

namespace fs = std::filesystem;

// As RunDirectory lays a run out; this does not open it, since opening locks it, and a run may be going on.
constexpr const char* kCheckpoints = "checkpoints";
constexpr const char* kRecipe = "recipe.yaml";

bool is_checkpoint(const fs::path& path) {
  return fs::exists(path / "index.json") && path.filename().string().starts_with("step-");
}

/// "step-8, step-12".
std::string names_of(std::vector<fs::path> checkpoints) {
  std::vector<std::string> names;
  std::reverse(checkpoints.begin(), checkpoints.end());
  for (const auto& path : checkpoints) names.push_back(path.filename().string());
  return fmt::format("{}", fmt::join(names, ", "));
}

/// The checkpoint that is asked for.
fs::path find_checkpoint(const fs::path& from, const std::string& step) {
  if (!fs::is_directory(from)) fail("{}: there is no such directory", from.string());
  fs::path path = from / "";  // without the slash that a shell's completion puts behind it
  path = path.parent_path();
  if (is_checkpoint(path)) {
    if (step != "last")
      fail("{}: is one checkpoint; --step chooses among those of a run's directory", path.string());
    return path;
  }
  const auto store = CheckpointStore(path / kCheckpoints);
  const auto all = store.all();
  if (all.empty()) {
    if (fs::exists(path / "config.json"))
      fail("{}: is a Hugging Face directory, not a run; there is nothing to export", path.string());
    fail(
        "{}: holds no checkpoints; expected a run's directory (the output of its recipe) or "
        "checkpoints/step-N in it",
        path.string());
  }
  if (step == "last") return all.front();
  std::int64_t number = -1;
  if (step == "best") {
    number = CheckpointStore::load_state(all.front()).best_step;
    if (number == 0)
      fail("{}: no evaluation was better than the one before the first step; it has {}", path.string(),
           names_of(all));
    if (number < 0)
      fail("{}: no evaluation was made, so no step is the best (train.eval_every, data.eval); it has {}",
           path.string(), names_of(all));
  } else {
    const auto [end, error] = std::from_chars(step.data(), step.data() + step.size(), number);
    if (error != std::errc{} || end != step.data() + step.size())
      fail("--step is '{}', expected best, last or the number of a step", step);
  }
  for (const auto& checkpoint : all)
    if (checkpoint.filename() == "step-" + std::to_string(number)) return checkpoint;
  fail("{}: has no checkpoint of step {}{}; it has {}", path.string(), number,
       step == "best" ? " (the best one, at which train.checkpoint_every 0 saved none)" : "", names_of(all));
}

/// The recipe of the run that the checkpoint lies in; nullopt: it lies in none.
std::optional<Recipe> recipe_of(const fs::path& checkpoint) {
  const fs::path run = fs::absolute(checkpoint).lexically_normal().parent_path().parent_path();
  const fs::path recipe = run / kRecipe;
  if (!fs::exists(recipe)) return std::nullopt;
  return read_recipe(recipe, {});
}

/// The base model's directory, by that recipe.
fs::path base_of(const fs::path& checkpoint, const std::optional<Recipe>& recipe) {
  if (!recipe)
    fail(
        "{}: lies in no run's directory, so that nothing says which model it was trained from; give it with "
        "--base DIR",
        checkpoint.string());
  fs::path base = recipe->model_path;
  if (!fs::is_directory(base))
    fail("{}: the base model was {}, and there is no such directory{}; give it with --base DIR",
         checkpoint.string(), base.string(), base.is_absolute() ? "" : " in " + fs::current_path().string());
  return base;
}

bool lies_in(const fs::path& inner, const fs::path& outer) {
  const auto real = fs::weakly_canonical(inner);
  const auto real_outer = fs::weakly_canonical(outer);
  return std::mismatch(real_outer.begin(), real_outer.end(), real.begin(), real.end()).first ==
         real_outer.end();
}

void check_out(const fs::path& out, const fs::path& base, const fs::path& checkpoint) {
  if (lies_in(out, base))
    fail("{}: lies in the base model's directory {}; choose another", out.string(), base.string());
  if (lies_in(out, checkpoint.parent_path()))
    fail("{}: lies among the run's checkpoints; choose another directory", out.string());
}

/// How many tensors of the base model the export would take over as they are, and the first one's name.
std::pair<std::int64_t, std::string> taken_from_base(const model::CausalLM& model,
                                                     const SavedTensors& saved) {
  std::int64_t count = 0;
  std::string first;
  const auto take = [&](const std::string& name) {
    if (count++ == 0) first = name;
  };
  for (const auto& p : model.decoder().parameters().all())
    if (!saved.has("master." + p.spec.name)) take(p.spec.name);
  for (const auto* tensor : model.plan().passed_through()) take(tensor->name());
  return {count, first};
}

/// Every master must be one of the base model's parameters.
void check_fits(const fs::path& checkpoint, const model::CausalLM& model, const SavedTensors& saved,
                const fs::path& base) {
  constexpr std::string_view kMaster = "master.";
  for (const auto& name : saved.names())
    if (name.starts_with(kMaster) &&
        model.decoder().parameters().find(name.substr(kMaster.size())) == nullptr)
      fail("{}: has {}, which the model in {} does not; it was trained from another model (--base DIR)",
           checkpoint.string(), name.substr(kMaster.size()), base.string());
}

}  // namespace

ExportReport export_checkpoint(const ExportOptions& options) {
  ExportReport report;
  report.checkpoint = find_checkpoint(options.from, options.step);
  const TrainState state = CheckpointStore::load_state(report.checkpoint);
  report.step = state.step;
  if (state.best_step == state.step) report.eval_loss = state.best_eval_loss;
  const auto recipe = recipe_of(report.checkpoint);
  report.base = options.base.empty() ? base_of(report.checkpoint, recipe) : options.base;
  check_out(options.out, report.base, report.checkpoint);

  // On the meta device: shapes and the plan of files, no weights. What is written comes from the checkpoint's
  // pages.
  ops::Context context(device::meta_of({}), 1);
  auto model = model::CausalLM::from_pretrained(
      context, report.base, {.quantized = recipe ? recipe->quantized : model::QuantizedStorage::kDequantize});
  const SavedTensors saved = open_tensors(report.checkpoint);
  check_fits(report.checkpoint, model, saved, report.base);
  const auto [from_base, first] = taken_from_base(model, saved);
  report.from_base = from_base;
  report.base_changed = base_in_key(state.run_key) != fmt::format("{:016x}", base_fingerprint(report.base));
  if (report.base_changed && from_base > 0)
    fail(
        "{}: was trained from another model than {} holds now (its config or weights changed), and {} of its "
        "tensors "
        "({}{}) would be mixed in; give the model it was trained from with --base DIR",
        report.checkpoint.string(), report.base.string(), from_base, first, from_base > 1 ? ", …" : "");
  if (options.dtype) model.store_as(*options.dtype);
  hub::rehearse_save(options.out, model.plan().total_bytes(), hub::IfExists::kRefuse);

  report.parameters = model.decoder().parameters().num_elements();
  report.bytes = model.plan().total_bytes();
  std::int64_t written = 0;
  const auto masters = saved.masters();
  report.saved = model.save_pretrained(context, options.out, [&](const model::Parameter& p) {
    if (options.progress)
      options.progress(static_cast<double>(written) / static_cast<double>(report.parameters));
    written += p.value.numel();
    return masters(p);
  });
  return report;
}

}  // namespace hone::train
