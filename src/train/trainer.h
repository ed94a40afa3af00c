// `hone train`: a recipe becomes a run. The loop is one visible function, Trainer::loop in trainer.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "train/recipe.h"

namespace hone::train {

struct TrainOptions {
  bool require_checkpoint = false;  // --resume: refuse to start anew
};

struct TrainOutcome {
  bool already_finished = false;  // the run was complete: nothing was done
  bool interrupted = false;       // SIGINT or SIGTERM: a checkpoint was saved; the same command continues
  std::int64_t steps = 0;
  double loss = 0;  // of the last step
  std::filesystem::path model, report;
};

/// Runs or continues the recipe. Everything that can fail on the user's side fails before the first step:
/// config, weights, data, masks, lengths, the output directory, a rehearsed save. Throws Error(kUser) for
/// these, for data that changed between starts, and after three steps in a row that were not finite (weights
/// intact). SIGINT and SIGTERM end the run after the current step with a checkpoint; a second one aborts.
TrainOutcome train(const Recipe& recipe, const TrainOptions& options = {});

}  // namespace hone::train
