// phi3: Phi-3, Phi-3.5, Phi-4. Fused projections; part of a head may be turned; longrope. Transformers:
// models/phi3.
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

DecoderSpec phi3_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 32064,
                                   .hidden_size = 3072,
                                   .intermediate_size = 8192,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .max_position_embeddings = 4096,
                                   .rms_norm_eps = 1e-5,
                                   .pad_token_id = 32000,
                                   .original_max_position_embeddings = 4096,
                                   .partial_rotary_factor = 1.0,
                                   .ropes_by_layer = true});
  config.ignore({"embd_pdrop", "attention_bias", "full_attn_mod", "interpolate_factor", "lm_head_bias",
                 "mlp_bias", "original_max_position_embeddings"});
  hub::RopeConfig rope = config.rope();
  if (rope.type == "su" || rope.type == "yarn") rope.type = "longrope";  // what the first files called it
  if (rope.type != "default" && rope.type != "longrope")
    config.refuse({"rope_scaling", "rope_parameters"}, "phi3 knows rope_type default and longrope");
  DecoderSpec spec = reader.base();
  reader.leave_out_noise("resid_pdrop", spec);
  spec.ropes = {reader.rope(rope)};
  spec.restarts_at_longrope = rope.type == "longrope";  // Phi3ForCausalLM.prepare_inputs_for_generation
  AttentionSpec attention = reader.attention();
  attention.fused_qkv = true;
  attention.window = reader.window(std::nullopt);
  const DenseSpec mlp{.ffn = reader.intermediate_size(), .fused_gate_up = true};
  spec.layers.assign(static_cast<std::size_t>(reader.num_layers()), make_layer(attention, mlp));
  return spec;
}

}  // namespace

const Family& phi3_family() {
  static const Family kFamily{"phi3", phi3_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
