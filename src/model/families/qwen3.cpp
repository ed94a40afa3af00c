// qwen3: dense Qwen3. Queries and keys are normed per head; late layers may slide. Transformers:
// models/qwen3.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec qwen3_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 151936,
                                   .hidden_size = 4096,
                                   .intermediate_size = 22016,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .num_key_value_heads = 32,
                                   .head_dim = 128,
                                   .max_position_embeddings = 32768});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  attention.norm = AttentionSpec::Norm::kPerHead;
  const DenseSpec mlp{.ffn = reader.intermediate_size()};
  for (const std::int64_t window : reader.late_windows()) {
    attention.window = window;
    spec.layers.push_back(make_layer(attention, mlp));
  }
  return spec;
}

}  // namespace

const Family& qwen3_family() {
  static const Family kFamily{"qwen3", qwen3_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
