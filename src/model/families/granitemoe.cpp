// granitemoe: Granite 3 MoE. Granite with experts, the weights of the chosen ones summing to one; all of a
// layer in one tensor each way. Transformers: models/granitemoe.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec granitemoe_spec(const hub::ModelConfig& config) {
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
  MoeSpec moe = reader.moe(spec, {"num_local_experts", "num_experts"}, 8, 2, 0.001);
  moe.ffn = reader.intermediate_size();
  moe.rule.normalize =
      true;  // a softmax over the chosen logits is one over all, divided by the chosen ones' sum
  moe.router = "router";
  spec.layers.assign(static_cast<std::size_t>(reader.num_layers()),
                     make_layer(attention, moe, "block_sparse_moe"));
  return spec;
}

hub::WeightRules granitemoe_rules(const DecoderSpec&) {
  const std::string at = "model.layers.{l}.block_sparse_moe.";
  hub::WeightRules rules;
  rules.rename(at + "router.weight", {at + "router.layer.weight", at + "router.weight"});
  rules.rename(at + "experts.gate_up_proj", {at + "input_linear.weight", at + "experts.gate_up_proj"});
  rules.rename(at + "experts.down_proj", {at + "output_linear.weight", at + "experts.down_proj"});
  return rules;
}

}  // namespace

const Family& granitemoe_family() {
  static const Family kFamily{"granitemoe", granitemoe_spec, granitemoe_rules};
  return kFamily;
}

}  // namespace hone::model
