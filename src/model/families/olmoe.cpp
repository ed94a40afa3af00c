// olmoe: OLMoE-1B-7B. Queries and keys are normed over all heads at once, then q, k, v may be clipped.
// Transformers: models/olmoe.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec olmoe_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 50304,
                                   .hidden_size = 2048,
                                   .intermediate_size = 2048,
                                   .num_hidden_layers = 16,
                                   .num_attention_heads = 16,
                                   .max_position_embeddings = 4096,
                                   .rms_norm_eps = 1e-5,
                                   .pad_token_id = 1});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  if (attention.heads * attention.head_dim != spec.hidden)
    config.refuse("head_dim",
                  "the norm of olmoe's queries needs num_attention_heads x head_dim to be hidden_size");
  attention.norm = AttentionSpec::Norm::kFullWidth;
  const auto clip = config.number_or_null("clip_qkv", std::nullopt);
  if (clip && !(*clip > 0)) config.refuse("clip_qkv", "expected a number above 0, or null for no clipping");
  attention.clip = clip.value_or(0.0);
  MoeSpec moe = reader.moe(spec, {"num_experts", "num_local_experts"}, 64, 8, 0.01);
  moe.ffn = reader.intermediate_size();
  moe.rule.normalize = config.boolean("norm_topk_prob", false);
  spec.layers.assign(static_cast<std::size_t>(reader.num_layers()), make_layer(attention, moe));
  return spec;
}

}  // namespace

const Family& olmoe_family() {
  static const Family kFamily{"olmoe", olmoe_spec, [](const DecoderSpec&) { return qwen_moe_rules(); }};
  return kFamily;
}

}  // namespace hone::model
