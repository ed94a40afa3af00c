// qwen2: Qwen2, Qwen2.5. Biases on q, k, v; late layers may slide. Transformers: models/qwen2.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec qwen2_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 151936,
                                   .hidden_size = 4096,
                                   .intermediate_size = 22016,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .num_key_value_heads = 32,
                                   .max_position_embeddings = 32768});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = true;
  const DenseSpec mlp{.ffn = reader.intermediate_size()};
  for (const std::int64_t window : reader.late_windows()) {
    attention.window = window;
    spec.layers.push_back(make_layer(attention, mlp));
  }
  return spec;
}

}  // namespace

const Family& qwen2_family() {
  static const Family kFamily{"qwen2", qwen2_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
