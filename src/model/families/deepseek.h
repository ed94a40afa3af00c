// What the DeepSeek families have in common, and those made after them.
#pragma once

#include <cstdint>
#include <string_view>

#include "model/families/reader.h"

namespace hone::model {

/// Latent attention: q_lora_rank, kv_lora_rank, the sizes of a head, attention_bias. Scores are scaled by
/// (qk_nope_head_dim + qk_rope_head_dim)^-1/2 and, where the rope is stretched and mscale_all_dim given, by
/// the square of yarn's mscale. The reader's head_dim_key is qk_rope_head_dim.
MlaSpec read_latent_attention(const SpecReader& reader);

/// Class defaults of what read_deepseek_moe reads; top_k 0: required.
struct DeepseekMoeDefaults {
  std::int64_t experts = 0, top_k = 0, ffn = 0, shared = 1;
  double scaling = 1;
};
/// n_routed_experts, num_experts_per_tok, moe_intermediate_size, routed_scaling_factor; and n_shared_experts
/// ungated experts that are one of their width together. No auxiliary loss: Transformers has none of these
/// families.
MoeSpec read_deepseek_moe(const SpecReader& reader, const DeepseekMoeDefaults& defaults);
/// n_group and topk_group, into the rule. 0: required.
void read_expert_groups(const SpecReader& reader, MoeSpec& moe, std::int64_t groups, std::int64_t top_groups);
/// DeepSeek-V3's router: sigmoids, corrected by a bias for the choice, in groups ranked by their best two.
void read_corrected_sigmoid(const SpecReader& reader, MoeSpec& moe, std::int64_t groups,
                            std::int64_t top_groups);
/// `key` names how a model routes in the files of the first models; Transformers overlooks it. Another word
/// than `wanted` is one of the spec's refusals.
void refuse_other_words(const SpecReader& reader, const char* key, std::string_view wanted,
                        DecoderSpec& spec);
/// Layers of Llama's shape: those from first_k_dense_replace on that moe_layer_freq divides are sparse, the
/// others dense. (Transformers knows moe_layer_freq 1 alone, which is what all published models have.)
void add_deepseek_layers(const SpecReader& reader, const MixerSpec& attention, const DenseSpec& dense,
                         const MoeSpec& moe, std::int64_t first_dense, DecoderSpec& spec);

}  // namespace hone::model
