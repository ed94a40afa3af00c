// mixtral: Mixtral 8x7B, 8x22B. Weights of the chosen experts always sum to one. Transformers:
// models/mixtral.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec mixtral_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 32000,
                                   .hidden_size = 4096,
                                   .intermediate_size = 14336,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .num_key_value_heads = 8,
                                   .max_position_embeddings = 4096 * 32,
                                   .rms_norm_eps = 1e-5,
                                   .rope_theta = 1e6});
  DecoderSpec spec = reader.base();
  reader.leave_out_noise("router_jitter_noise", spec);
  AttentionSpec attention = reader.attention();
  attention.window = reader.window(std::nullopt);
  MoeSpec moe = reader.moe(spec, {"num_local_experts", "num_experts"}, 8, 2, 0.001);
  moe.ffn = reader.intermediate_size();
  moe.rule.normalize = true;
  spec.layers.assign(static_cast<std::size_t>(reader.num_layers()), make_layer(attention, moe));
  return spec;
}

hub::WeightRules make_rules(const DecoderSpec&) {
  const std::string hub_at = "model.layers.{l}.block_sparse_moe.";
  const std::string at = "model.layers.{l}.mlp.";
  hub::WeightRules rules;
  rules.rename(at + "gate.weight", {hub_at + "gate.weight", at + "gate.weight"});
  rules.expert_stack(at + "experts.gate_up_proj",
                     {hub_at + "experts.{e}.w1.weight", hub_at + "experts.{e}.w3.weight"},
                     at + "experts.gate_up_proj");
  rules.expert_stack(at + "experts.down_proj", {hub_at + "experts.{e}.w2.weight"}, at + "experts.down_proj");
  return rules;
}

}  // namespace

const Family& mixtral_family() {
  static const Family kFamily{"mixtral", mixtral_spec, make_rules};
  return kFamily;
}

}  // namespace hone::model
