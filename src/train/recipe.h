// Recipes: what a run is, as strict YAML. One table of options is the parser, the validator, the help text
// and the resolved recipe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "data/dataset.h"
#include "device/device.h"
#include "model/causal_lm.h"
#include "train/optimizer.h"
#include "train/recipe_data.h"
#include "train/schedule.h"

namespace hone::train {

/// How every resolved recipe begins.
inline constexpr const char* kResolvedRecipeHeader = "# hone: resolved recipe";

struct Recipe {
  device::Device device = device::default_device();
  // model
  std::string model_path;
  std::optional<DType> dtype;  // nullopt: the checkpoint's own
  model::QuantizedStorage quantized = model::QuantizedStorage::kDequantize;
  // data
  std::vector<data::DataSource> train_data;
  std::vector<EvalData> eval_data;  // empty: none
  data::ColumnNames columns;        // of the sources that have none of their own, which have them too
  std::string data_cache = "auto";  // "auto", "off" or a directory
  std::int64_t seq_len = 0;         // 0: the smaller of 2048 and the model's context
  bool packing = true, shuffle = true;
  data::Overlong overlong = data::Overlong::kError;
  data::OnDropped on_dropped = data::OnDropped::kWarn;
  // method
  std::vector<std::string> freeze;  // regular expressions on parameter names
  // train
  std::optional<std::int64_t> steps;
  double epochs = 1;  // where steps is not given
  std::int64_t global_batch = 8, micro_batch = 1;
  OptimizerOptions optimizer;            // its seed is `seed`
  bool cuda_graph = true;                // steps of a card that repeat are launched as one
  bool update_as_ready = false;          // each parameter as soon as its gradient is there
  bool weight_gradients_beside = false;  // on a card: StepOptions
  double learning_rate = 2e-5;
  ScheduleOptions schedule;
  std::optional<double> clip = 1.0;  // nullopt: off
  std::uint64_t seed = 0;
  bool recompute = false;
  bool fp8 = false;                       // model::ParameterSet::multiply_in_fp8
  std::optional<double> aux_coefficient;  // nullopt: the config's, where output_router_logits is true
  std::int64_t checkpoint_every = 100;    // steps; 0: only at the end
  std::int64_t keep_last = 2;
  std::int64_t eval_every = 0;    // steps; 0: before the first and after the last
  std::int64_t eval_samples = 3;  // prompts of the eval data that are answered at every evaluation
  bool load_best = false;         // model/ is the step with the least evaluation loss, not the last
  struct EarlyStopping {
    std::int64_t patience = 0;  // evaluations in a row without a gain after which the run ends; 0: never
    double min_delta = 0;       // a gain is a loss that is lower than the best by more than this
    std::string metric;  // "eval_loss", or "eval_NAME_loss" of one of several sets; "": the first set's
  } early_stopping;
  int threads = 0;                                                     // 0: one per core
  std::vector<std::string> report_to{"console", "metrics", "report"};  // words of record_sinks.h
  std::string output;

  /// Every option with its value and where that came from ("recipe.yaml:3", "command line", "default"), as
  /// YAML that reads back to the same.
  std::string resolved;
  std::map<std::string, std::string> origins;  // where each option that was given comes from
  std::string name = "recipe";                 // of the recipe itself: its file

  std::vector<std::string> notes;  // options that were given and change nothing

  bool reports_to(std::string_view word) const;
  /// In which dtype gradients gather: those of one micro-batch are rounded once, to the weights' dtype; sums
  /// over several are kept in f32.
  DType gradient_dtype(DType weights) const { return global_batch > micro_batch ? DType::kF32 : weights; }
  /// "recipe.yaml:3: data.seq_len", to begin a message with.
  std::string place(const std::string& key) const;
};

/// Reads a recipe file and `a.b=c` overrides (YAML values). Throws Error(kUser) at file:line for YAML that is
/// not valid, keys that are unknown (with the nearest known one), duplicate or of the wrong type, values out
/// of range, and what does not exist yet (lora, meshes other than ones), by name.
Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides);
/// The same from text; `name` stands for the file.
Recipe parse_recipe(const std::string& text, const std::string& name,
                    const std::vector<std::string>& overrides);

/// One option, for help texts.
struct RecipeOption {
  std::string key, type, default_text, help;
};
std::vector<RecipeOption> recipe_options();

}  // namespace hone::train
