// `hone train`: a recipe becomes a run. The loop is one visible function, train_steps in trainer.cpp; what it
// works on is opened by run.h, kept by checkpoint.h and shown by run_log.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "train/run.h"

namespace hone::train {

/// How a run ended, and where it stands.
struct TrainOutcome {
  bool already_finished = false;  // the run was complete: nothing was done
  bool interrupted = false;       // SIGINT or SIGTERM: a checkpoint was saved; the same command continues
  bool stopped_early = false;     // by train.early_stopping
  std::int64_t steps = 0;
  std::int64_t model_step = 0;  // whose weights model/ holds: the last, or with train.load_best the best
  std::int64_t best_step = -1;  // with the least evaluation loss; -1: no evaluation
  std::optional<double> best_eval_loss = std::nullopt;
  double memory_forecast_mib = 0;  // what the start card said; 0: nothing was trained
  std::filesystem::path model, report;
  std::string summary = {};  // lines for who asked for the run
};

/// Runs or continues the recipe. Everything that can fail on the user's side fails before the first step:
/// config, weights, data, masks, lengths, the output directory, a rehearsed save. Throws Error(kUser) for
/// these, for data that changed between starts, and after three steps in a row that were not finite (weights
/// intact). options.stop ends the run after the current step with a checkpoint.
TrainOutcome train(const Recipe& recipe, const TrainOptions& options = {});

}  // namespace hone::train
