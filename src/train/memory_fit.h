// Whether the memory that a run needs is there, and what to ask for where it is not.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "train/forecast.h"
#include "train/recipe.h"
#include "train/recipe_options.h"

namespace hone::train {

/// Bytes that a run may have, what it has already included. 0: not known, and taken to be enough.
struct MemoryLimits {
  std::int64_t device = 0;
  std::int64_t host = 0;  // to be pinned beside a card
};

/// Whether all of a forecast, the allocator's reserve included, is within the limits.
bool fits(const MemoryForecast& memory, const MemoryLimits& limits);
/// Whether it cannot be: not even without the reserve, which an allocator that finds no more memory gives
/// back.
bool cannot_fit(const MemoryForecast& memory, const MemoryLimits& limits);

/// A recipe's settings that make its run fit.
struct FittingSetting {
  std::string settings;  // as on the command line: "train.recompute=block", of several with spaces between
  MemoryForecast memory;
  Bearing bearing = Bearing::kNone;  // the most that any of them bears on a run that has begun
};

/// What the memory would be of the run that a recipe asks for.
using ForecastRecipe = std::function<MemoryForecast(const Recipe&)>;

/// The setting of least cost to the user that fits; where none does alone, the fewest of them together in
/// that order; nullopt where not even all do. Of a run that has begun none that would make it another run.
std::optional<FittingSetting> find_setting(const Recipe& recipe, const ForecastRecipe& forecast,
                                           const MemoryLimits& limits, bool has_begun);

/// What find_setting() found, as the end of an error: "train.recompute=block would fit (61.2 GiB)".
std::string advice_text(const Recipe& recipe, const ForecastRecipe& forecast, const MemoryLimits& limits,
                        bool has_begun);

/// "83.1 GiB (weights 14.2 GiB + optimizer 56.9 GiB + …)": what is not 0, and not the program.
std::string needs_text(const MemoryForecast& memory);

}  // namespace hone::train
