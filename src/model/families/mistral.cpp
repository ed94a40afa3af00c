// mistral: Mistral 7B, Nemo, Small. One sliding window for all layers, or none. Transformers: models/mistral.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec mistral_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 32000,
                                   .hidden_size = 4096,
                                   .intermediate_size = 14336,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .num_key_value_heads = 8,
                                   .max_position_embeddings = 4096 * 32});
  config.ignore({"layer_types"});  // Transformers ignores it here
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.window = reader.window(4096);
  const DenseSpec mlp{.ffn = reader.intermediate_size()};
  spec.layers.assign(static_cast<std::size_t>(reader.num_layers()), make_layer(attention, mlp));
  return spec;
}

}  // namespace

const Family& mistral_family() {
  static const Family kFamily{"mistral", mistral_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
