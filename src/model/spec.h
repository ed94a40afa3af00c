// DecoderSpec: a model family as data. A family's file maps config.json to it; one Decoder runs them all.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hone::model {

/// Rotary position embedding (config.json's rope_parameters, or rope_theta and rope_scaling of older files).
struct RopeSpec {
  std::string type = "default";  // default, linear, dynamic, llama3, yarn, longrope
  double theta = 10000.0;
  std::int64_t rotary_dim = 0;  // elements of a head that are rotated
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;     // llama3
  std::int64_t original_max_positions = 0;                  // llama3, yarn, longrope
  std::int64_t max_positions = 0;                           // dynamic: the length from which the base grows
  double attention_factor = 1.0;                            // cos and sin are multiplied by it
  double beta_fast = 32.0, beta_slow = 1.0;                 // yarn
  bool truncate = true;                                     // yarn
  std::vector<double> short_factor = {}, long_factor = {};  // longrope: rotary_dim / 2 each
};

/// Grouped-query attention. Keys: PREFIX.{q,k,v,o}_proj.{weight,bias}, PREFIX.{q,k}_norm.weight.
struct AttentionSpec {
  enum class Norm { kNone, kPerHead, kFullWidth };
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool qkv_bias = false, output_bias = false;
  Norm norm = Norm::kNone;  // of queries and keys, before rotation
  double clip = 0;  // queries, keys and values are clamped to [-clip, clip]; 0: not (OLMoE's clip_qkv)
  std::int64_t window = 0;  // keys that a query sees, itself included; 0: all
};

/// SwiGLU feed-forward. Keys: PREFIX.{gate,up,down}_proj.{weight,bias}.
struct DenseSpec {
  std::int64_t ffn = 0;
  bool bias = false;
};

/// Mixture of experts. Keys: PREFIX.gate.weight, PREFIX.experts.{gate_up,down}_proj and, with a shared
/// expert, PREFIX.shared_expert.{gate,up,down}_proj.weight, PREFIX.shared_expert_gate.weight.
struct MoeSpec {
  std::int64_t experts = 0, top_k = 0, ffn = 0;
  bool normalize = false;       // divide the chosen weights by their sum
  std::int64_t shared_ffn = 0;  // 0: no shared expert
};

/// One residual branch: x += mixer(norm(x)).
struct BranchSpec {
  std::string norm;    // key of the norm within the layer: input_layernorm
  std::string prefix;  // key prefix of the mixer within the layer: self_attn
  std::variant<AttentionSpec, DenseSpec, MoeSpec> mixer;
};

struct LayerSpec {
  std::vector<BranchSpec> branches;
};

struct DecoderSpec {
  std::string model_type;
  std::int64_t vocab = 0, hidden = 0;
  std::int64_t max_positions = 0;
  std::vector<LayerSpec> layers;
  RopeSpec rope;
  double norm_eps = 1e-6;
  bool tied = false;             // lm_head is the embedding
  std::int64_t padding_id = -1;  // its embedding row gets no gradient; -1: none
  bool output_router_logits = false;
  double aux_coefficient = 0;  // router_aux_loss_coef
  double initializer_range = 0.02;

  std::int64_t num_moe_layers() const;
  /// Tokens a document may have: max_positions (max_position_embeddings), unless the rope was stretched and
  /// that number left at the trained length, as model cards advise. Then it is what the stretching reaches:
  ///   yarn, longrope   original_max_positions x factor
  ///   llama3           the same, but only where max_positions is not above the original (Llama 3.2 has a
  ///                    factor that reaches further than the model was trained)
  ///   linear           max_positions x factor, as vLLM takes it
  ///   dynamic          any number: the base grows with the document
  std::int64_t context_length() const;
};

/// The one check of a length against the model's context. Throws Error(kUser) "SUBJECT, longer than the
/// model's context of N tokens (what of config.json says so); the fix"; SUBJECT names the tokens and where.
void check_context(const DecoderSpec& spec, std::int64_t tokens, std::string_view subject);

}  // namespace hone::model
