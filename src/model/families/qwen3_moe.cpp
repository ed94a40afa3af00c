// qwen3_moe: Qwen3-30B-A3B, Qwen3-235B-A22B. No shared expert; some layers may be dense; one window for all
// or none. Transformers: models/qwen3_moe.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec qwen3_moe_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 151936,
                                   .hidden_size = 2048,
                                   .intermediate_size = 6144,
                                   .num_hidden_layers = 24,
                                   .num_attention_heads = 32,
                                   .num_key_value_heads = 4,
                                   .max_position_embeddings = 32768});
  config.ignore({"max_window_layers", "layer_types"});  // written by Qwen, read by nobody
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  attention.norm = AttentionSpec::Norm::kPerHead;
  config.ignore({"sliding_window"});  // unless it is used
  attention.window = config.boolean("use_sliding_window", false) ? reader.window(4096) : 0;
  MoeSpec moe = reader.moe(spec, {"num_experts", "num_local_experts"}, 128, 8, 0.001);
  moe.ffn = reader.count("moe_intermediate_size", 768);
  moe.rule.normalize = config.boolean("norm_topk_prob", false);
  const DenseSpec dense{.ffn = reader.intermediate_size()};
  for (const bool is_dense : reader.dense_layers())
    spec.layers.push_back(is_dense ? make_layer(attention, dense) : make_layer(attention, moe));
  return spec;
}

}  // namespace

const Family& qwen3_moe_family() {
  static const Family kFamily{"qwen3_moe", qwen3_moe_spec,
                              [](const DecoderSpec&) { return qwen_moe_rules(); }};
  return kFamily;
}

}  // namespace hone::model
