// glm4_moe: GLM-4.5, GLM-4.6. DeepSeek-V3's experts and router under grouped-query attention, of whose heads
// half is turned. Transformers: models/glm4_moe.
#include "model/families/deepseek.h"
#include "model/families/family.h"

namespace hone::model {

namespace {

DecoderSpec glm4_moe_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 151552,
                                   .hidden_size = 4096,
                                   .intermediate_size = 10944,
                                   .num_hidden_layers = 46,
                                   .num_attention_heads = 96,
                                   .num_key_value_heads = 8,
                                   .max_position_embeddings = 131072,
                                   .rms_norm_eps = 1e-5,
                                   .partial_rotary_factor = 0.5});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = config.boolean("attention_bias", false);
  if (config.boolean("use_qk_norm", false)) attention.norm = AttentionSpec::Norm::kPerHead;
  MoeSpec moe = read_deepseek_moe(reader, {.experts = 128, .top_k = 8, .ffn = 1408, .shared = 1});
  read_corrected_sigmoid(reader, moe, 1, 1);
  add_deepseek_layers(reader, attention, {.ffn = reader.intermediate_size()}, moe, 1, spec);
  return spec;
}

}  // namespace

const Family& glm4_moe_family() {
  static const Family kFamily{"glm4_moe", glm4_moe_spec, [](const DecoderSpec&) { return qwen_moe_rules(); }};
  return kFamily;
}

}  // namespace hone::model
