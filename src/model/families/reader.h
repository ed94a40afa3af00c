// What the families' configurations have in common.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "hub/config.h"
#include "hub/weight_rules.h"
#include "model/spec.h"

namespace hone::model {

/// Class defaults of a Transformers configuration: what an absent key means. 0: the key is required or
/// derived.
struct ConfigDefaults {
  std::int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;  // 0: as many as query heads
  std::int64_t head_dim = 0;             // 0: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  bool tie_word_embeddings = false;
  std::int64_t pad_token_id = -1;                     // -1: none
  std::int64_t original_max_position_embeddings = 0;  // 0: max_position_embeddings
  /// Given where partial_rotary_factor acts; elsewhere Transformers overlooks it.
  std::optional<double> partial_rotary_factor = std::nullopt;
  bool ropes_by_layer = false;    // the family reads them itself: SpecReader::rope()
  bool reads_activation = false;  // the family does: SpecReader::activation(); else it is silu
  const char* head_dim_key = "head_dim";
};

/// Reads the parts of a DecoderSpec that families share, and checks them.
class SpecReader {
 public:
  static constexpr std::int64_t kMostWide = std::int64_t{1} << 20;     // hidden, intermediate
  static constexpr std::int64_t kMostLong = std::int64_t{1} << 31;     // vocabulary, positions
  static constexpr std::int64_t kMostMany = std::int64_t{1} << 14;     // layers, heads, experts of a layer
  static constexpr std::int64_t kMostExperts = std::int64_t{1} << 20;  // of all layers
  /// Refuses what would act and hone does not compute (another hidden_act …).
  SpecReader(const hub::ModelConfig& config, const ConfigDefaults& defaults);

  const hub::ModelConfig& config() const { return config_; }
  /// Vocabulary, sizes, rope, ties; no layers yet.
  const DecoderSpec& base() const { return base_; }
  std::int64_t num_layers() const { return num_layers_; }
  std::int64_t intermediate_size() const { return intermediate_size_; }
  /// Heads and head size; no biases, norms or windows.
  const AttentionSpec& attention() const { return attention_; }

  /// What config.json's rotary parameters say, checked.
  RopeSpec rope(const hub::RopeConfig& config) const;
  /// The same where layer types have each their own. Transformers then looks for yarn's `truncate` beside the
  /// layer types, where no file has it: it is as if it were true.
  RopeSpec rope_of_layer_type(const hub::RopeConfig& config) const;
  /// `key` is the share of a noise that Transformers adds in training only (attention_dropout): hone leaves
  /// it out, and says so in spec.left_out where it is not 0.
  void leave_out_noise(const hub::ConfigKey& key, DecoderSpec& spec) const;
  /// A flag of which null means false, and which may be absent.
  bool flag(const hub::ConfigKey& key, bool if_absent) const;
  /// A finite number of at least 0.
  double non_negative(const hub::ConfigKey& key, double if_absent) const;
  /// A finite number above 0.
  double positive(const hub::ConfigKey& key, double if_absent) const;
  /// An integer from 1 to `most`. No checkpoint comes near these bounds, and products of sizes within them
  /// stay in 64 bits.
  std::int64_t count(const hub::ConfigKey& key, std::int64_t if_absent, std::int64_t most = kMostWide) const;
  /// The function that this key names: silu (swish), gelu, gelu_pytorch_tanh (gelu_new), relu2, sigmoid. Of
  /// another `spec` is refused.
  kernels::Activation activation(const hub::ConfigKey& key, std::string_view if_absent,
                                 DecoderSpec& spec) const;
  /// A finite number above 0, or 0 where it is null: a softcap.
  double positive_or_null(const hub::ConfigKey& key, std::optional<double> if_absent) const;
  /// sliding_window where it is in force: at least 1, or 0 where it is null (none).
  std::int64_t window(std::optional<std::int64_t> if_absent) const;
  /// The window of each layer by config.json's layer_types where it has them, else by `is_sliding`. window 0:
  /// none anywhere.
  std::vector<std::int64_t> windows(std::int64_t window,
                                    const std::function<bool(std::int64_t)>& is_sliding) const;
  /// Qwen2's and Qwen3's rule: where use_sliding_window is set, layers from max_window_layers on slide.
  std::vector<std::int64_t> late_windows() const;
  /// Experts, and num_experts_per_tok of them for each token. top_k 0: required.
  MoeSpec experts(const hub::ConfigKey& experts_key, std::int64_t experts, std::int64_t top_k) const;
  /// Top-k routing: experts, num_experts_per_tok, and the auxiliary loss (into `spec`).
  MoeSpec moe(DecoderSpec& spec, const hub::ConfigKey& experts_key, std::int64_t experts, std::int64_t top_k,
              double aux_coefficient) const;
  /// True for layers that are dense in a Qwen MoE: in mlp_only_layers, or not every decoder_sparse_step-th.
  std::vector<bool> dense_layers() const;

 private:
  const hub::ModelConfig& config_;
  ConfigDefaults defaults_;
  DecoderSpec base_;
  AttentionSpec attention_;
  std::int64_t num_layers_ = 0;
  std::int64_t intermediate_size_ = 0;
};

/// A layer of Llama's shape: input_layernorm, self_attn, post_attention_layernorm, mlp.
LayerSpec make_layer(const AttentionSpec& attention, const MixerSpec& mlp,
                     const std::string& mlp_prefix = "mlp");
/// A layer of OLMo 2's shape: norms of what self_attn and mlp give, post_attention_layernorm and
/// post_feedforward_layernorm, and none before them.
LayerSpec make_post_norm_layer(const AttentionSpec& attention, const MixerSpec& mlp);
/// A layer of Gemma 2's shape: norms before self_attn and mlp (input_layernorm, pre_feedforward_layernorm)
/// and of what they give (post_attention_layernorm, post_feedforward_layernorm).
LayerSpec make_sandwich_norm_layer(const AttentionSpec& attention, const MixerSpec& mlp);

/// Granite's multipliers of embeddings, branches and logits, into `spec`; of scores, into `attention`.
void read_granite_multipliers(const SpecReader& reader, DecoderSpec& spec, AttentionSpec& attention);

/// What Gemma 2 and 3 have in common into `spec` and `attention`: norms of 1 + weight, embeddings times
/// sqrt(hidden), a softcap of logits (final_logit_softcapping), query_pre_attn_scalar, attention_bias.
void read_gemma(const SpecReader& reader, std::optional<double> logits_softcap, DecoderSpec& spec,
                AttentionSpec& attention);

/// Per-expert hub keys PREFIX.experts.{e}.{gate,up,down}_proj.weight, or Transformers 5's stacked tensors.
hub::WeightRules qwen_moe_rules();

}  // namespace hone::model
