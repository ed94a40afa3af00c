// olmo2: OLMo 2. Queries and keys are normed over all heads at once; the norms of a layer come after its
// branches. Transformers: models/olmo2.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec olmo2_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 50304,
                                   .hidden_size = 4096,
                                   .intermediate_size = 11008,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .max_position_embeddings = 2048,
                                   .rms_norm_eps = 1e-5,
                                   .pad_token_id = 1});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  attention.norm = AttentionSpec::Norm::kFullWidth;
  const DenseSpec mlp{.ffn = reader.intermediate_size()};
  spec.layers.assign(static_cast<std::size_t>(reader.num_layers()), make_post_norm_layer(attention, mlp));
  return spec;
}

}  // namespace

const Family& olmo2_family() {
  static const Family kFamily{"olmo2", olmo2_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
