// A run, opened: everything that lives from the recipe to the last step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/causal_lm.h"
#include "text/pretrained_tokenizer.h"
#include "train/checkpoint.h"
#include "train/optimizer.h"
#include "train/recipe.h"
#include "train/run_data.h"
#include "train/run_directory.h"

namespace hone::train {

/// Asked often while a run reads, evaluates and trains; true ends it at the next moment where nothing is
/// lost.
using StopRequested = std::function<bool()>;

struct TrainOptions {
  bool require_checkpoint = false;  // --resume: refuse to start anew
  bool extend =
      false;  // --extend: go on with the output's run although the recipe asks for other numbers now
  StopRequested stop = nullptr;  // null: the run goes to its end
  /// Sees every record when it is complete, before the next step is begun.
  std::function<void(const StepRecord&)> each = nullptr;
};

/// Thrown out of reading or evaluating where a stop was requested: what was begun is done again by the next
/// start.
struct Stopped {};

struct Run {
  Recipe recipe;
  RunDirectory directory;
  CheckpointStore checkpoints;
  TrainState state;

  // Of the data and the recipe.
  std::int64_t seq_len = 0, steps = 0, steps_per_epoch = 0;
  std::unique_ptr<ops::Context> context = nullptr;
  std::optional<text::PretrainedTokenizer> tokenizer = std::nullopt;  // none: rows of input_ids only
  std::optional<data::Dataset> train_data = std::nullopt;
  std::vector<EvaluationSet> evaluation_sets = {};
  std::size_t deciding_set = 0;  // of them: whose loss says which step is the best

  // Of the model; none of it where the run is complete.
  std::optional<model::CausalLM> model = std::nullopt;
  std::vector<std::int64_t> frozen = {};  // parameters that each pattern of method.freeze froze
  double aux_coefficient = 0;             // of the load-balancing loss; 0: none
  std::unique_ptr<Optimizer> optimizer = nullptr;

  /// Tokens that an evaluation computes at once.
  std::int64_t evaluation_tokens() const { return seq_len * recipe.micro_batch; }
  /// Nothing is left to train.
  bool is_at_end() const { return state.step >= steps || state.stopped_early; }
  /// The step whose weights model/ holds at the end.
  std::int64_t model_step() const {
    return recipe.load_best && state.best_step > 0 ? state.best_step : state.step;
  }
  /// The last checkpoint says that the model was written, and it is there.
  bool is_complete() const {
    return state.finished && std::filesystem::exists(directory.model() / "config.json");
  }
};

/// Opens a new run, or one to be continued. Everything that can fail on the user's side fails here: config,
/// weights, data, masks, lengths, the output directory, a rehearsed save. Throws Error(kUser) for these, and
/// where the output holds a run of another recipe or other data that is not to be extended; Stopped.
Run open_run(const Recipe& recipe, const TrainOptions& options, const StopRequested& stop);

}  // namespace hone::train
