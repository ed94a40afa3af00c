// qwen2_moe: Qwen1.5-MoE, Qwen2-57B-A14B. A gated shared expert; some layers may be dense; even early layers
// may slide. Transformers: models/qwen2_moe.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec qwen2_moe_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 151936,
                                   .hidden_size = 2048,
                                   .intermediate_size = 5632,
                                   .num_hidden_layers = 24,
                                   .num_attention_heads = 16,
                                   .num_key_value_heads = 16,
                                   .max_position_embeddings = 32768});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = config.boolean("qkv_bias", true);
  MoeSpec moe = reader.moe(spec, {"num_experts", "num_local_experts"}, 60, 4, 0.001);
  moe.ffn = reader.count("moe_intermediate_size", 1408);
  moe.rule.normalize = config.boolean("norm_topk_prob", false);
  moe.shared_ffn = reader.count("shared_expert_intermediate_size", 5632);
  const DenseSpec dense{.ffn = reader.intermediate_size()};
  const bool use_window = config.boolean("use_sliding_window", false);
  const std::int64_t max_window_layers = config.integer("max_window_layers", 28);
  config.ignore({"sliding_window"});  // unless it is used
  // Not Qwen2's rule: here the even layers below max_window_layers slide.
  const auto windows = reader.windows(use_window ? reader.window(4096) : 0,
                                      [&](std::int64_t i) { return i % 2 == 0 && i < max_window_layers; });
  const auto is_dense = reader.dense_layers();
  for (std::size_t i = 0; i < windows.size(); ++i) {
    attention.window = windows[i];
    spec.layers.push_back(is_dense[i] ? make_layer(attention, dense) : make_layer(attention, moe));
  }
  return spec;
}

}  // namespace

const Family& qwen2_moe_family() {
  static const Family kFamily{"qwen2_moe", qwen2_moe_spec,
                              [](const DecoderSpec&) { return qwen_moe_rules(); }};
  return kFamily;
}

}  // namespace hone::model
