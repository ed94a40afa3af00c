// deepseek_v3: DeepSeek-V3, V3.1, R1, Moonlight. DeepSeek-V2 with a router of corrected sigmoids. The layers
// that predict further tokens (num_nextn_predict_layers) are not computed: they pass through. Transformers:
// models/deepseek_v3.
#include "model/families/deepseek.h"
#include "model/families/family.h"

namespace hone::model {

namespace {

DecoderSpec deepseek_v3_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 129280,
                                   .hidden_size = 7168,
                                   .intermediate_size = 18432,
                                   .num_hidden_layers = 61,
                                   .num_attention_heads = 128,
                                   .num_key_value_heads = 128,
                                   .head_dim = 64,
                                   .max_position_embeddings = 4096,
                                   .head_dim_key = "qk_rope_head_dim"});
  DecoderSpec spec = reader.base();
  MlaSpec attention = read_latent_attention(reader);
  attention.interleaved = reader.flag("rope_interleave", true);
  MoeSpec moe =
      read_deepseek_moe(reader, {.experts = 256, .top_k = 8, .ffn = 2048, .shared = 1, .scaling = 2.5});
  read_corrected_sigmoid(reader, moe, 8, 4);
  refuse_other_words(reader, "scoring_func", "sigmoid", spec);
  refuse_other_words(reader, "topk_method", "noaux_tc", spec);
  add_deepseek_layers(reader, attention, {.ffn = reader.intermediate_size()}, moe, 3, spec);
  return spec;
}

}  // namespace

const Family& deepseek_v3_family() {
  static const Family kFamily{"deepseek_v3", deepseek_v3_spec,
                              [](const DecoderSpec&) { return qwen_moe_rules(); }};
  return kFamily;
}

}  // namespace hone::model
