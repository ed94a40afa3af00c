// Finding a key in a checkpoint that was saved with one "model." less or more, as Transformers tolerates.
#pragma once

#include <string_view>

#include "hub/checkpoint.h"

namespace hone::hub {

/// The tensor stored as `key`, as `key` without its leading "model." (a checkpoint of the base model), or
/// with one more; nullptr where there is none. Throws Error(kUser) where two of them are stored.
const CheckpointTensor* find_tolerant(const Checkpoint& checkpoint, std::string_view key);

}  // namespace hone::hub
