#include "model/families/deepseek.h"

#include <cmath>

#include "base/error.h"
#include "base/message.h"

namespace hone::model {

namespace {

/// What Transformers' yarn_apply_mscale multiplies the scale of the scores by.
double squared_mscale(const hub::ModelConfig& config, const RopeSpec& rope) {
  const auto parameters = config.rope().parameters;
  if (rope.type == "default" || !parameters) return 1;
  const double all_dim = parameters->number_or_null("mscale_all_dim", std::nullopt).value_or(0.0);
  if (all_dim == 0 || rope.factor <= 1) return 1;
  const double mscale = 0.1 * all_dim * std::log(rope.factor) + 1;
  return mscale * mscale;
}

}  // namespace

MlaSpec read_latent_attention(const SpecReader& reader) {
  const hub::ModelConfig& config = reader.config();
  config.ignore({"head_dim", "qk_head_dim"});  // written by Transformers 5, which reckons them anew
  const AttentionSpec& heads = reader.attention();
  if (heads.kv_heads != heads.heads)
    fail("{}: num_key_value_heads is {}, num_attention_heads {}: latent attention has as many of both",
         config.file(), heads.kv_heads, heads.heads);
  MlaSpec mla{.heads = heads.heads, .rope_dim = heads.head_dim};
  const auto q_rank = config.integer_or_null("q_lora_rank", 1536);
  if (q_rank) mla.q_lora_rank = reader.count("q_lora_rank", 1536);
  mla.kv_lora_rank = reader.count("kv_lora_rank", 512);
  mla.nope_dim = reader.count("qk_nope_head_dim", 128, SpecReader::kMostMany);
  mla.v_dim = reader.count("v_head_dim", 128, SpecReader::kMostMany);
  mla.bias = config.boolean("attention_bias", false);
  mla.scale = squared_mscale(config, reader.base().ropes.front()) /
              std::sqrt(static_cast<double>(mla.nope_dim + mla.rope_dim));
  return mla;
}

MoeSpec read_deepseek_moe(const SpecReader& reader, const DeepseekMoeDefaults& defaults) {
  const hub::ModelConfig& config = reader.config();
  config.ignore({"output_router_logits", "router_aux_loss_coef", "aux_loss_alpha", "seq_aux", "ep_size",
                 "num_nextn_predict_layers", "num_mtp_layers", "pretraining_tp"});
  MoeSpec moe = reader.experts({"n_routed_experts", "num_local_experts", "num_experts"}, defaults.experts,
                               defaults.top_k);
  moe.ffn = reader.count("moe_intermediate_size", defaults.ffn);
  const std::int64_t shared = config.integer_or_null("n_shared_experts", defaults.shared).value_or(0);
  if (shared < 0 || shared > SpecReader::kMostMany)
    config.refuse("n_shared_experts", fmt::format("expected 0 to {}", SpecReader::kMostMany));
  moe.shared_ffn = shared * moe.ffn;
  moe.shared = "shared_experts";
  moe.shared_is_gated = false;
  moe.rule.scaling = static_cast<float>(reader.positive("routed_scaling_factor", defaults.scaling));
  return moe;
}

void read_expert_groups(const SpecReader& reader, MoeSpec& moe, std::int64_t groups,
                        std::int64_t top_groups) {
  const hub::ModelConfig& config = reader.config();
  moe::RouterRule& rule = moe.rule;
  rule.groups = reader.count("n_group", groups, SpecReader::kMostMany);
  rule.top_groups = reader.count("topk_group", top_groups, SpecReader::kMostMany);
  const std::int64_t size = moe.experts / rule.groups;
  if (moe.experts % rule.groups != 0)
    fail("{}: n_group is {}, which does not divide the {} experts", config.file(), rule.groups, moe.experts);
  if (rule.top_groups > rule.groups)
    fail("{}: topk_group is {}, but there are only {} groups", config.file(), rule.top_groups, rule.groups);
  if (moe.top_k > size * rule.top_groups)
    fail("{}: topk_group is {}: so many groups of {} experts hold fewer than the {} of num_experts_per_tok",
         config.file(), rule.top_groups, size, moe.top_k);
}

void read_corrected_sigmoid(const SpecReader& reader, MoeSpec& moe, std::int64_t groups,
                            std::int64_t top_groups) {
  read_expert_groups(reader, moe, groups, top_groups);
  if (moe.experts < 2 * moe.rule.groups)
    fail("{}: n_group is {}, but groups of the {} experts are ranked by their best two",
         reader.config().file(), moe.rule.groups, moe.experts);
  moe.rule.score = kernels::RouterRule::Score::kSigmoid;
  moe.rule.group_score = kernels::RouterRule::GroupScore::kTopTwoSum;
  moe.rule.normalize = reader.flag("norm_topk_prob", true);
  moe.rule.normalize_eps = 1e-20F;
  moe.has_correction_bias = true;
}

void refuse_other_words(const SpecReader& reader, const char* key, std::string_view wanted,
                        DecoderSpec& spec) {
  const auto word = reader.config().string_or_null(key, std::nullopt);
  if (!word || *word == wanted) return;
  spec.refusals.push_back(fmt::format("{}: {} is '{}': hone computes {} in a {}", reader.config().file(), key,
                                      shown(*word), wanted, spec.model_type));
}

void add_deepseek_layers(const SpecReader& reader, const MixerSpec& attention, const DenseSpec& dense,
                         const MoeSpec& moe, std::int64_t first_dense, DecoderSpec& spec) {
  const std::int64_t first =
      reader.config().integer_or_null("first_k_dense_replace", first_dense).value_or(0);
  if (first < 0) reader.config().refuse("first_k_dense_replace", "expected 0 or more");
  const std::int64_t every = reader.count("moe_layer_freq", 1);
  for (std::int64_t i = 0; i < reader.num_layers(); ++i)
    spec.layers.push_back({{{.norm = "input_layernorm", .prefix = "self_attn", .mixer = attention},
                            {.norm = "post_attention_layernorm",
                             .prefix = "mlp",
                             .mixer = i >= first && i % every == 0 ? MixerSpec(moe) : MixerSpec(dense)}}});
}

}  // namespace hone::model
