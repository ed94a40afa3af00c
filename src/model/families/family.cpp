#include "model/families/family.h"

#include "base/error.h"
#include "base/suggest.h"

namespace hone::model {

const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies{
      llama_family(),     mistral_family(),   qwen2_family(),   qwen3_family(),     mixtral_family(),
      qwen2_moe_family(), qwen3_moe_family(), olmoe_family(),   olmo2_family(),     smollm3_family(),
      olmo3_family(),     phi3_family(),      granite_family(), granitemoe_family()};
  return kFamilies;
}

const Family& find_family(const hub::ModelConfig& config) {
  std::vector<std::string> known;
  for (const auto& family : families()) {
    if (family.model_type == config.model_type()) return family;
    known.push_back(family.model_type);
  }
  std::string list;
  for (const auto& name : known) list += (list.empty() ? "" : ", ") + name;
  fail("{}: model_type is '{}', which hone does not know; known: {}", config.file(), config.model_type(),
       list);
}

}  // namespace hone::model
