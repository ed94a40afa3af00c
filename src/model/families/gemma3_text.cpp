// gemma3_text: Gemma 3 (arXiv:2503.19786) without its images. Gemma 2's layers without softcaps, queries and
// keys normed per head; five of six layers slide, and those have a rope of their own. Transformers:
// models/gemma3.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

enum GemmaRope { kGlobal, kLocal };

/// As Gemma3TextConfig.convert_rope_params_to_dict: rope_theta and rope_scaling of older files are for the
/// full layers, rope_local_base_freq for the sliding ones.
std::vector<RopeSpec> gemma3_ropes(const hub::ModelConfig& config, const SpecReader& reader) {
  hub::RopeConfig full, sliding;
  const auto theta = config.number_or_null("rope_theta", std::nullopt);
  const auto local = config.number_or_null("rope_local_base_freq", std::nullopt);
  if (config.has_value("rope_parameters")) {
    if (config.has_value("rope_scaling"))
      config.refuse("rope_scaling", "config.json has rope_parameters, too; keep one of the two");
    full = config.rope_of("full_attention");
    sliding = config.rope_of("sliding_attention");
  } else {
    full = config.rope();
  }
  if (!full.theta) full.theta = theta.value_or(1e6);
  if (!sliding.theta) sliding.theta = local.value_or(1e4);
  return {reader.rope_of_layer_type(full), reader.rope_of_layer_type(sliding)};
}

DecoderSpec gemma3_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 262208,
                                   .hidden_size = 2304,
                                   .intermediate_size = 9216,
                                   .num_hidden_layers = 26,
                                   .num_attention_heads = 8,
                                   .num_key_value_heads = 4,
                                   .head_dim = 256,
                                   .max_position_embeddings = 131072,
                                   .tie_word_embeddings = true,
                                   .pad_token_id = 0,
                                   .ropes_by_layer = true,
                                   .reads_activation = true});
  config.ignore({"attn_logit_softcapping", "_sliding_window_pattern"});  // as Transformers does
  DecoderSpec spec = reader.base();
  spec.ropes = gemma3_ropes(config, reader);
  spec.max_positions_are_stretched = true;
  AttentionSpec attention = reader.attention();
  read_gemma(reader, std::nullopt, spec, attention);
  attention.norm = AttentionSpec::Norm::kPerHead;
  const DenseSpec mlp{.ffn = reader.intermediate_size(),
                      .activation = reader.activation("hidden_activation", "gelu_pytorch_tanh", spec)};
  const std::int64_t pattern = reader.count("sliding_window_pattern", 6);
  for (const std::int64_t window :
       reader.windows(reader.window(4096), [&](std::int64_t i) { return (i + 1) % pattern != 0; })) {
    attention.window = window;
    attention.rope = window > 0 ? kLocal : kGlobal;
    spec.layers.push_back(make_sandwich_norm_layer(attention, mlp));
  }
  return spec;
}

}  // namespace

const Family& gemma3_text_family() {
  static const Family kFamily{"gemma3_text", gemma3_spec,
                              [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
