// What the words of other tools mean in a recipe of hone: Transformers' TrainingArguments and TRL, axolotl,
// LLaMA-Factory, NeMo AutoModel.
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <optional>
#include <string>

namespace hone::train {

/// A value of the recipe by hone's key or by another tool's word, wherever it stands; nullopt where it is not
/// given.
using Given = std::function<std::optional<YAML::Node>(const std::string& word)>;

/// What `word`, the last part of a key, with `value` is here, to be quoted to the user: "train.global_batch:
/// 16 (8 accumulated x 2 of a micro-batch; it counts packs)". A `word` whose value is a mapping (NeMo's
/// step_scheduler) is read word by word. "" where the word is no other tool's.
std::string meaning_of(const std::string& word, const YAML::Node& value, const Given& given);

}  // namespace hone::train
