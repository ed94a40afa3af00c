// What a run costs, as its recipe, its model and its data say; and what is said where its memory is not
// there.
#pragma once

#include "device/out_of_memory.h"
#include "train/forecast.h"
#include "train/memory_fit.h"
#include "train/run.h"

namespace hone::train {

/// The load-balancing loss's coefficient.
double aux_coefficient_of(const Recipe& recipe, const model::DecoderSpec& spec);

/// Costs of the next micro-batch, and memory of the most demanding ones of the steps to come (ragged rows
/// make ragged batches), of a run whose data are there. `model`: its own, or the same on the meta device;
/// `recipe`: its own, or that with other settings.
StepForecast forecast_run(const Run& run, const model::CausalLM& model, const Recipe& recipe);

/// Throws Error(kUser) where `needed` cannot fit on the recipe's card as it is now, with the setting that
/// fits; on the CPU, where the system decides, warns.
void check_fits(const Recipe& recipe, const MemoryForecast& needed, const ForecastRecipe& forecast,
                bool has_begun);
/// The same of a run before its model is read.
void check_fits(const Run& run);

/// Throws Error(kUser) in place of `error`: what was asked for and what is free, what the run was forecast to
/// need, and the setting that fits.
[[noreturn]] void explain(const Run& run, const device::OutOfMemory& error);

}  // namespace hone::train
