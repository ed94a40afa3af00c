// Finding a key in a checkpoint whose names hold more or less than the model's own.
#pragma once

#include <string>
#include <string_view>

namespace hone::hub {

class Checkpoint;
struct CheckpointTensor;

/// A tensor's name without what wrappers of a model put into it when its state was saved as it was: the parts
/// "_orig_mod" (torch.compile), "module" (DataParallel, DistributedDataParallel, DeepSpeed),
/// "_fsdp_wrapped_module",
/// "_checkpoint_wrapped_module", "_forward_module" anywhere; a leading "base_model.model." (PEFT); and the
/// language model's place in a multimodal one ("language_model.", "model.language_model." for "model."). In
/// any nesting.
std::string plain_name(std::string_view name);

/// The tensor stored as `key`, as `key` without its leading "model." (a checkpoint of the base model), or
/// with one more, or as what plain_name() makes one of these of; nullptr where there is none. Throws
/// Error(kUser) where two of them are stored.
const CheckpointTensor* find_tolerant(const Checkpoint& checkpoint, std::string_view key);

}  // namespace hone::hub
