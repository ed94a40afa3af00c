// Families: one file per model_type of Transformers, each a map from config.json to a DecoderSpec plus its
// weight rules.
#pragma once

#include <string>
#include <vector>

#include "hub/config.h"
#include "hub/weight_rules.h"
#include "model/spec.h"

namespace hone::model {

struct Family {
  std::string model_type;
  /// Reads config.json. Throws Error(kUser) with the key path for what is missing, of the wrong type or
  /// impossible. What would act and hone does not compute goes into the spec's refusals.
  DecoderSpec (*spec)(const hub::ModelConfig& config);
  /// How the hub's tensors make up the parameters. The tie of lm_head is not in it.
  hub::WeightRules (*rules)(const DecoderSpec& spec);
};

/// All families, by model_type.
const std::vector<Family>& families();
/// Null for a model_type that hone does not know.
const Family* find_family(const std::string& model_type);

const Family& llama_family();
const Family& mistral_family();
const Family& qwen2_family();
const Family& qwen3_family();
const Family& mixtral_family();
const Family& qwen2_moe_family();
const Family& qwen3_moe_family();
const Family& olmoe_family();
const Family& olmo2_family();
const Family& smollm3_family();
const Family& olmo3_family();
const Family& phi3_family();
const Family& granite_family();
const Family& granitemoe_family();
const Family& gemma2_family();
const Family& gemma3_text_family();
const Family& gpt_oss_family();
const Family& deepseek_v2_family();
const Family& deepseek_v3_family();
const Family& glm4_moe_family();

}  // namespace hone::model
