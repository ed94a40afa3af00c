// What must not change while a run is continued.
#pragma once

#include <string>

#include "data/dataset.h"
#include "train/recipe.h"

namespace hone::train {

/// A text of the options that decide a run's numbers and of hashes of its data and its base model. Where
/// these lie does not matter, nor what only changes how a run is watched or how fast it goes.
std::string run_key(const Recipe& recipe, const data::Dataset& dataset);

/// The first line in which two run keys differ, in words.
std::string difference(const std::string& before, const std::string& now);

}  // namespace hone::train
