// DecoderSpec: a model family as data. A family's file maps config.json to it; one Decoder runs them all.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "model/mixers/attention.h"
#include "model/mixers/dense.h"
#include "model/mixers/mla.h"
#include "model/mixers/moe.h"
#include "model/rope.h"

namespace hone::model {

using MixerSpec = std::variant<AttentionSpec, MlaSpec, DenseSpec, MoeSpec>;

/// One residual branch: x += residual_multiplier * post_norm(mixer(norm(x))).
struct BranchSpec {
  std::string norm;    // key of the norm within the layer: input_layernorm; empty: none
  std::string prefix;  // key prefix of the mixer within the layer: self_attn
  MixerSpec mixer;
  std::string post_norm = {};  // key of the norm of what the mixer gives; empty: none
};

struct LayerSpec {
  std::vector<BranchSpec> branches;
};

struct DecoderSpec {
  std::string model_type;
  std::int64_t vocab = 0, hidden = 0;
  std::int64_t max_positions = 0;
  std::vector<LayerSpec> layers;
  /// Of which attention chooses one; the first is that of layers that see whole documents.
  std::vector<RopeSpec> ropes{RopeSpec{}};
  double embedding_multiplier = 1, residual_multiplier = 1, logits_multiplier = 1;
  bool rounds_embedding_multiplier = false;  // to the compute dtype, before it multiplies (Gemma)
  double logits_softcap = 0;                 // logits are softcap * tanh(logits / softcap); 0: not
  /// Generation computes a sequence anew once it is longer than its rope's original_max_positions: from there
  /// on longrope turns every key by other angles.
  bool restarts_at_longrope = false;
  double norm_eps = 1e-6;
  bool norm_unit_offset = false;             // norms between the mixers multiply by 1 + weight (Gemma)
  bool max_positions_are_stretched = false;  // max_positions counts the rope's factor in (Gemma 3)
  bool tied = false;                         // lm_head is the embedding
  std::int64_t padding_id = -1;              // its embedding row gets no gradient; -1: none
  bool output_router_logits = false;
  double aux_coefficient = 0;  // router_aux_loss_coef
  double initializer_range = 0.02;
  /// Why hone does not run this model, each a whole message ("config.json: hidden_act is …"): it can be
  /// described, and its memory forecast, all the same. Empty for one that it runs.
  std::vector<std::string> refusals;
  /// What Transformers would do in training and hone does not, each a line for the start card.
  std::vector<std::string> left_out;

  std::int64_t num_moe_layers() const;
  /// The first mixture of experts; null where there is none.
  const MoeSpec* first_moe() const;
  /// Tokens a document may have: max_positions (max_position_embeddings), unless the rope was stretched and
  /// that number left at the trained length, as model cards advise. Then it is what the stretching reaches:
  ///   yarn, longrope   original_max_positions x factor
  ///   llama3           the same, but only where max_positions is not above the original (Llama 3.2 has a
  ///                    factor that reaches further than the model was trained)
  ///   linear           max_positions x factor, as vLLM takes it; not where max_positions_are_stretched
  ///   dynamic          any number: the base grows with the document
  std::int64_t context_length() const;
};

/// The one check of a length against the model's context. Throws Error(kUser) "SUBJECT, longer than the
/// model's context of N tokens (what of config.json says so); the fix"; SUBJECT names the tokens and where.
void check_context(const DecoderSpec& spec, std::int64_t tokens, std::string_view subject);

}  // namespace hone::model
