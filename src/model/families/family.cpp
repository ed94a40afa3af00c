#include "model/families/family.h"

namespace hone::model {

const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies{
      llama_family(),       mistral_family(),   qwen2_family(),   qwen3_family(),       mixtral_family(),
      qwen2_moe_family(),   qwen3_moe_family(), olmoe_family(),   olmo2_family(),       smollm3_family(),
      olmo3_family(),       phi3_family(),      granite_family(), granitemoe_family(),  deepseek_v2_family(),
      deepseek_v3_family(), glm4_moe_family(),  gemma2_family(),  gemma3_text_family(), gpt_oss_family()};
  return kFamilies;
}

const Family* find_family(const std::string& model_type) {
  for (const auto& family : families())
    if (family.model_type == model_type) return &family;
  return nullptr;
}

}  // namespace hone::model
