// What can be known to be wrong before data and weights are read.
#pragma once

#include "model/causal_lm.h"
#include "train/recipe.h"

namespace hone::train {

/// Throws Error(kUser), with the line that asks for it, where a path of the recipe leads nowhere, or the
/// output lies inside the model.
void check_paths(const Recipe& recipe);

/// Throws Error(kUser), with the line that asks for it, where the device cannot be used here.
void check_device(const Recipe& recipe);

/// Allocates nothing. Throws Error(kUser) for patterns (freeze, optimizer groups) that are none, match
/// nothing, or leave nothing to train; and where what a run holds throughout is more than its card has. The
/// setting that fits is then that of full packs of seq_len.
void check_shapes(const Recipe& recipe, const model::ModelDescription& description, std::int64_t seq_len);

}  // namespace hone::train
