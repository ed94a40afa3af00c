// gpt_oss: gpt-oss 20b, 120b. Attention with sinks, a window on every other layer; clamped experts with
// biases. Transformers: models/gpt_oss.
#include <cmath>

#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

/// As GptOssConfig: where config.json says nothing of rope, it is yarn from 4,096 tokens by 32.
RopeSpec gpt_oss_rope(const hub::ModelConfig& config, const SpecReader& reader) {
  const hub::RopeConfig rope = config.rope();
  if (rope.parameters) return reader.rope(rope);
  RopeSpec spec = reader.rope(rope);
  spec.type = "yarn";
  spec.factor = 32;
  spec.original_max_positions = 4096;
  spec.attention_factor = 0.1 * std::log(spec.factor) + 1;
  spec.truncate = false;
  return spec;
}

DecoderSpec gpt_oss_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 201088,
                                   .hidden_size = 2880,
                                   .intermediate_size = 2880,
                                   .num_hidden_layers = 36,
                                   .num_attention_heads = 64,
                                   .num_key_value_heads = 8,
                                   .head_dim = 64,
                                   .max_position_embeddings = 131072,
                                   .rms_norm_eps = 1e-5,
                                   .rope_theta = 150000.0,
                                   .ropes_by_layer = true});
  config.ignore({"experts_per_token", "initial_context_length"});  // of the released files, said twice
  DecoderSpec spec = reader.base();
  spec.ropes = {gpt_oss_rope(config, reader)};
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", true);
  attention.sinks = true;
  MoeSpec moe = reader.moe(spec, {"num_local_experts", "num_experts"}, 128, 4, 0.001);
  moe.ffn = reader.intermediate_size();
  moe.router = "router";
  moe.rule.score = kernels::RouterRule::Score::kSoftmaxOfChosen;
  moe.router_bias = moe.expert_bias = true;
  moe.function = {.activation = kernels::Activation::kClampedSilu,
                  .alpha = static_cast<float>(reader.positive("swiglu_alpha", 1.702)),
                  .limit = static_cast<float>(reader.positive("swiglu_limit", 7.0))};
  for (const std::int64_t window :
       reader.windows(reader.window(128), [](std::int64_t i) { return i % 2 == 0; })) {
    attention.window = window;
    spec.layers.push_back(make_layer(attention, moe));
  }
  return spec;
}

/// Experts are stored for a product from the left, (experts, in, out), gate and up in alternation; or in
/// MXFP4 as (experts, out, in), in alternation too.
hub::WeightRules gpt_oss_rules(const DecoderSpec&) {
  const std::string at = "model.layers.{l}.mlp.experts.";
  const auto key = [&](const char* name) { return at + name; };
  hub::WeightRules rules;
  rules.stored(
      key("gate_up_proj"),
      {{{.key = key("gate_up_proj"), .dims = {{.dim = 0}, {.dim = 2}, {.dim = 1, .interleaved = 2}}}},
       {{.key = key("gate_up_proj"),
         .dims = {{.dim = 0}, {.dim = 1, .interleaved = 2}, {.dim = 2}},
         .mxfp4 = true}}});
  rules.stored(key("gate_up_proj_bias"),
               {{{key("gate_up_proj_bias"), {{.dim = 0}, {.dim = 1, .interleaved = 2}}}}});
  rules.stored(key("down_proj"), {{{.key = key("down_proj"), .dims = {{.dim = 0}, {.dim = 2}, {.dim = 1}}}},
                                  {{.key = key("down_proj"), .mxfp4 = true}}});
  return rules;
}

}  // namespace

const Family& gpt_oss_family() {
  static const Family kFamily{"gpt_oss", gpt_oss_spec, gpt_oss_rules};
  return kFamily;
}

}  // namespace hone::model
