// Decoder: the one forward pass that all families share, driven by their DecoderSpec.
#pragma once

#include <optional>
#include <vector>

#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/parameters.h"
#include "model/rope.h"
#include "moe/moe.h"

namespace hone::model {

/// The parameters of one layer's branches, found once by name.
namespace weights {

struct Linear {
  const Parameter* weight = nullptr;
  const Parameter* bias = nullptr;
};
struct Attention {
  AttentionSpec spec;
  Linear q, k, v, o;
  const Parameter* q_norm = nullptr;
  const Parameter* k_norm = nullptr;
  std::int64_t cache_layer = 0;
};
struct Dense {
  Linear gate, up, down;
};
struct Moe {
  MoeSpec spec;
  const Parameter* gate = nullptr;
  const Parameter* gate_up = nullptr;
  const Parameter* down = nullptr;
  std::optional<Dense> shared;
  const Parameter* shared_gate = nullptr;
};
struct Branch {
  const Parameter* norm = nullptr;
  std::variant<Attention, Dense, Moe> mixer;
};

}  // namespace weights

/// A decoder-only transformer. Holds parameters and no activations; forward passes record on the Context's
/// tape where there is one.
class Decoder {
 public:
  /// Allocates the parameters (uninitialised). untied_head: a spec that ties lm_head gets one of its own all
  /// the same.
  Decoder(DecoderSpec spec, ops::Context& context, DType dtype, bool untied_head = false);
  /// Movable, not copyable: the layers point to the parameters.
  Decoder(Decoder&&) = default;
  Decoder& operator=(Decoder&&) = default;

  const DecoderSpec& spec() const { return spec_; }
  DType dtype() const { return dtype_; }
  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }

  struct States {
    Tensor residual;                     // (tokens, hidden) f32: the residual stream after the last layer
    std::vector<moe::Routing> routings;  // of every MoE layer: counts and probability_sums
  };
  /// Runs all layers. recompute: keep only each layer's input for the gradient. cache: the batch's documents
  /// continue the sequences that `live` names (see KvCache); their keys and values are kept. Throws
  /// Error(kUser) for a token id outside the vocabulary.
  States forward(ops::Context& context, const TokenBatch& batch, bool recompute = false,
                 KvCache* cache = nullptr, const std::vector<std::int32_t>& live = {});

  /// The final norm and lm_head for some rows of the residual stream. rows: (n) i32, or undefined for all.
  /// Result: (n, vocab) f32.
  Tensor logits(ops::Context& context, const Tensor& residual, const Tensor& rows = {});

  struct LossOptions {
    double lm_scale = 1;  // 1 / TokenBatch::loss_weight of the whole optimizer step
    double aux_scale =
        0;  // router_aux_loss_coef times this micro-step's share of the step's tokens; 0: no auxiliary loss
    bool recompute = false;
  };
  struct Loss {
    Tensor total;  // (1) f32: lm + aux, to differentiate
    Tensor lm;     // (1) f32: lm_scale * sum of weight * -log p over the supervised tokens
    Tensor aux;    // (1) f32, already scaled; undefined without auxiliary loss
    Tensor nll;    // (supervised) f32, unweighted
    std::vector<moe::Routing> routings;
  };
  /// The training loss of a batch with labels. Throws Error(kUser) for a label outside the vocabulary.
  Loss loss(ops::Context& context, const TokenBatch& batch, const LossOptions& options);

 private:
  /// What every layer of one pass needs to know.
  struct Pass {
    RotaryTables::Prepared rotary;
    ops::SequenceLayout layout;
    KvCache* cache = nullptr;
  };

  void resolve_parameters();
  weights::Branch resolve_branch(const BranchSpec& branch, const std::string& at,
                                 std::int64_t& attention_layers) const;
  weights::Linear find_linear(const std::string& name) const;
  weights::Dense find_dense(const std::string& at) const;
  static Tensor apply(ops::Context& context, const weights::Linear& linear, const Tensor& x);
  static Tensor apply_residual(ops::Context& context, const weights::Linear& linear, const Tensor& x,
                               const Tensor& residual);

  /// x: (tokens, hidden) f32. Returns x after all branches, then counts and probability_sums of its MoE
  /// branches.
  std::vector<Tensor> run_layer(ops::Context& context, std::size_t layer, const Tensor& x,
                                const Pass& pass) const;
  Tensor run(ops::Context& context, const weights::Attention& a, const Tensor& h, const Tensor& residual,
             const Pass& pass, std::vector<Tensor>& statistics) const;
  Tensor run(ops::Context& context, const weights::Dense& d, const Tensor& h, const Tensor& residual,
             const Pass& pass, std::vector<Tensor>& statistics) const;
  Tensor run(ops::Context& context, const weights::Moe& m, const Tensor& h, const Tensor& residual,
             const Pass& pass, std::vector<Tensor>& statistics) const;
  Pass prepare(ops::Context& context, const TokenBatch& batch, KvCache* cache,
               const std::vector<std::int32_t>& live);
  const Tensor& head_weight() const { return head_->value; }

  DecoderSpec spec_;
  DType dtype_;
  ParameterSet parameters_;
  RotaryTables rotary_;
  std::vector<std::vector<weights::Branch>> layers_;
  const Parameter* embedding_ = nullptr;
  const Parameter* final_norm_ = nullptr;
  const Parameter* head_ = nullptr;
};

}  // namespace hone::model
