// granite: Granite 3 and 4, dense. Llama with constants before the embedding's, the branches', the scores'
// and the logits' values. Transformers: models/granite.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec granite_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 32000,
                                   .hidden_size = 4096,
                                   .intermediate_size = 11008,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .max_position_embeddings = 2048});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  read_granite_multipliers(reader, spec, attention);
  const DenseSpec mlp{.ffn = reader.intermediate_size(), .bias = config.boolean("mlp_bias", false)};
  spec.layers.assign(static_cast<std::size_t>(reader.num_layers()), make_layer(attention, mlp));
  return spec;
}

}  // namespace

const Family& granite_family() {
  static const Family kFamily{"granite", granite_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
