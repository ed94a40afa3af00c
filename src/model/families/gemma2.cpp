// gemma2: Gemma 2 (arXiv:2408.00118). Norms before and after every branch, GeGLU, softcaps of scores and
// logits, scaled embeddings; every second layer slides. Transformers: models/gemma2.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec gemma2_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 256000,
                                   .hidden_size = 2304,
                                   .intermediate_size = 9216,
                                   .num_hidden_layers = 26,
                                   .num_attention_heads = 8,
                                   .num_key_value_heads = 4,
                                   .head_dim = 256,
                                   .max_position_embeddings = 8192,
                                   .tie_word_embeddings = true,
                                   .pad_token_id = 0,
                                   .reads_activation = true});
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  read_gemma(reader, 30.0, spec, attention);
  attention.softcap = reader.positive_or_null("attn_logit_softcapping", 50.0);
  const DenseSpec mlp{.ffn = reader.intermediate_size(),
                      .activation = reader.activation("hidden_activation", "gelu_pytorch_tanh", spec)};
  for (const std::int64_t window :
       reader.windows(reader.window(4096), [](std::int64_t i) { return i % 2 == 0; })) {
    attention.window = window;
    spec.layers.push_back(make_sandwich_norm_layer(attention, mlp));
  }
  return spec;
}

}  // namespace

const Family& gemma2_family() {
  static const Family kFamily{"gemma2", gemma2_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
