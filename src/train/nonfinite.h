// What is said of a step whose loss or gradient was not finite.
#pragma once

#include <string>

#include "train/batches.h"
#include "train/run.h"
#include "train/step.h"

namespace hone::train {

/// Of one such step, counted in run.state: what was not finite, and on which rows.
std::string nonfinite_warning(const Run& run, const StepResult& result, const StepBatches& batches);
/// Of `count` in a row, which end the run: what is known to be the cause, before what may be. Weights that
/// are not finite; data, where no update was done yet; gradients that nothing clips; the learning rate.
std::string nonfinite_failure(const Run& run, const StepResult& result, const StepBatches& batches,
                              std::int64_t count);

}  // namespace hone::train
