// hone bench step --dry: what a step would take on a card that is not here.
#pragma once

#include "cli/bench_step.h"

namespace hone::cli {

/// Runs the step on the meta device, which stands for options.card, and prints what kernels/card_work.h says
/// of each slot.
void bench_step_dry(const BenchStepOptions& options);

}  // namespace hone::cli
