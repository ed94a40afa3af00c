// deepseek_v2: DeepSeek-V2, DeepSeek-V2-Lite. Latent attention, neighbours turned together; routed and shared
// experts after the first dense layers. Transformers: models/deepseek_v2.
#include "base/message.h"
#include "model/families/deepseek.h"
#include "model/families/family.h"

namespace hone::model {

namespace {

DecoderSpec deepseek_v2_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 102400,
                                   .hidden_size = 4096,
                                   .intermediate_size = 11008,
                                   .num_hidden_layers = 32,
                                   .num_attention_heads = 32,
                                   .head_dim = 64,
                                   .max_position_embeddings = 2048,
                                   .head_dim_key = "qk_rope_head_dim"});
  DecoderSpec spec = reader.base();
  MlaSpec attention = read_latent_attention(reader);
  attention.interleaved = true;
  MoeSpec moe = read_deepseek_moe(reader, {.experts = 64, .ffn = 1407, .shared = 2});
  config.ignore({"norm_topk_prob", "n_group", "topk_group"});  // unless they are used
  const std::string method = config.string_or_null("topk_method", "greedy").value_or("greedy");
  if (method == "group_limited_greedy")
    read_expert_groups(reader, moe, 0, 0);
  else if (method != "greedy")
    spec.refusals.push_back(
        fmt::format("{}: topk_method is '{}': hone computes greedy and group_limited_greedy", config.file(),
                    shown(method)));
  const bool mlp_bias = config.boolean("mlp_bias", false);
  moe.shared_bias = mlp_bias;
  const DenseSpec dense{.ffn = reader.intermediate_size(), .bias = mlp_bias};
  refuse_other_words(reader, "scoring_func", "softmax", spec);
  add_deepseek_layers(reader, attention, dense, moe, 0, spec);
  return spec;
}

}  // namespace

const Family& deepseek_v2_family() {
  static const Family kFamily{"deepseek_v2", deepseek_v2_spec,
                              [](const DecoderSpec&) { return qwen_moe_rules(); }};
  return kFamily;
}

}  // namespace hone::model
