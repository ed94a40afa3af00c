// olmo3: OLMo 3. OLMo 2's layers; three of four slide, and those have a rope of their own. Transformers:
// models/olmo3.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

constexpr double kTheta = 5e5;
enum Rope { kFull, kSliding };

/// As Olmo3Config.convert_rope_params_to_dict: what stands outside of rope_parameters (rope_theta,
/// rope_scaling of older files) is for the full layers alone; the sliding ones keep the default.
std::vector<RopeSpec> olmo3_ropes(const hub::ModelConfig& config, const SpecReader& reader) {
  if (!config.has_value("rope_parameters"))
    return {reader.rope_of_layer_type(config.rope()), reader.rope_of_layer_type({})};
  if (config.has_value("rope_scaling"))
    config.refuse("rope_scaling", "config.json has rope_parameters, too; keep one of the two");
  hub::RopeConfig full = config.rope_of("full_attention");
  const auto theta = config.number_or_null("rope_theta", std::nullopt);
  if (!full.theta) full.theta = theta;
  return {reader.rope_of_layer_type(full), reader.rope_of_layer_type(config.rope_of("sliding_attention"))};
}

DecoderSpec olmo3_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 50304,
                                   .hidden_size = 4096,
                                   .intermediate_size = 11008,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .max_position_embeddings = 2048,
                                   .rms_norm_eps = 1e-5,
                                   .rope_theta = kTheta,
                                   .pad_token_id = 1,
                                   .ropes_by_layer = true});
  DecoderSpec spec = reader.base();
  spec.ropes = olmo3_ropes(config, reader);
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  attention.norm = AttentionSpec::Norm::kFullWidth;
  const DenseSpec mlp{.ffn = reader.intermediate_size()};
  for (const std::int64_t window :
       reader.windows(reader.window(4096), [](std::int64_t i) { return (i + 1) % 4 != 0; })) {
    attention.window = window;
    attention.rope = window > 0 ? kSliding : kFull;
    spec.layers.push_back(make_post_norm_layer(attention, mlp));
  }
  return spec;
}

}  // namespace

const Family& olmo3_family() {
  static const Family kFamily{"olmo3", olmo3_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
