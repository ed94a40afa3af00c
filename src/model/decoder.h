// Decoder: the one forward pass that all families share, driven by their DecoderSpec.
#pragma once

#include <memory>
#include <vector>

#include "model/batch.h"
#include "model/generation_state.h"
#include "model/parameters.h"
#include "moe/moe.h"
#include "ops/cross_entropy.h"

namespace hone::model {

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
    Tensor residual;  // (tokens, hidden) f32: the residual stream after the last of them
    std::vector<moe::RoutingStatistics> routings;  // of every MoE layer among them
  };
  /// A whole pass: begin_pass, embed, run_layers for all of them, end of the pass. state: the batch's
  /// documents continue the sequences that `live` names (see GenerationState).
  States forward(ops::Context& context, const TokenBatch& batch, bool recompute = false,
                 GenerationState* state = nullptr, const std::vector<std::int32_t>& live = {});

  /// What the layers need to know of a batch. Throws Error(kUser) for a token id outside the vocabulary.
  Pass begin_pass(ops::Context& context, const TokenBatch& batch, GenerationState* state = nullptr,
                  const std::vector<std::int32_t>& live = {});
  /// The start of the residual stream: (tokens, hidden) f32.
  Tensor embed(ops::Context& context, const TokenBatch& batch) const {
    return embed(context, context.upload(batch.ids));
  }
  /// ids: (tokens) i32.
  Tensor embed(ops::Context& context, const Tensor& ids) const;
  /// Layers [begin, end) of a pass. residual: (tokens, hidden) f32, the stream before them. recompute: keep
  /// only each layer's input for the gradient.
  States run_layers(ops::Context& context, const Pass& pass, const Tensor& residual, std::size_t begin,
                    std::size_t end, bool recompute = false) const;
  /// Room for sequences that grow to these numbers of tokens. Lives no longer than the Decoder.
  GenerationState begin_generation(ops::Context& context, std::vector<std::int32_t> capacities) const;

  /// The final norm and lm_head for some rows of the residual stream. rows: (n) i32, or undefined for all.
  /// Result: (n, vocab) f32.
  Tensor logits(ops::Context& context, const Tensor& residual, const Tensor& rows = {});

  /// What calls of kernels for a loss depend on, besides LossOptions and what tensors hold.
  struct LossShape {
    std::int64_t tokens, supervised, sequences, max_queries;
    bool is_square, is_weighted;
    std::vector<const void*> tables;  // of angles: rows of another one are other angles
    bool operator==(const LossShape&) const = default;
  };
  /// A batch with labels on the device: what loss() reads of it.
  struct LossInputs {
    Pass pass;
    Tensor ids;      // (tokens) i32
    Tensor rows;     // (supervised) i32: of the residual stream, those that predict a label
    Tensor targets;  // (supervised) i32
    Tensor weights;  // (supervised) f32; undefined where all are 1

    std::int64_t tokens() const { return ids.numel(); }
    LossShape shape() const;
    /// Takes what the tensors of one of the same shape hold.
    void take(ops::Context& context, const LossInputs& other) const;
  };
  /// Throws Error(kUser) for an id or a label outside the vocabulary.
  LossInputs upload(ops::Context& context, const TokenBatch& batch);

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
    std::vector<moe::RoutingStatistics> routings;
  };
  /// The training loss of a batch with labels.
  Loss loss(ops::Context& context, const LossInputs& inputs, const LossOptions& options) const;
  /// The same of one that is not on the device yet. Throws as upload does.
  Loss loss(ops::Context& context, const TokenBatch& batch, const LossOptions& options) {
    return loss(context, upload(context, batch), options);
  }

 private:
  struct Branch {
    const Parameter* norm = nullptr;       // null: none
    const Parameter* post_norm = nullptr;  // null: none
    std::unique_ptr<Mixer> mixer;
  };

  void resolve_parameters();
  /// Appends to the routings of `states` and puts its residual through all branches.
  void run_layer(ops::Context& context, std::size_t layer, const Pass& pass, States& states) const;
  /// residual: (rows, hidden) f32 to be added, or undefined.
  Tensor norm(ops::Context& context, const Tensor& x, const Parameter& weight,
              const Tensor& residual = {}) const;
  ops::LogitOptions logit_options() const;
  ops::Weight head_weight() const { return head_->handle(); }

  DecoderSpec spec_;
  DType dtype_;
  ParameterSet parameters_;
  std::vector<RotaryTables> ropes_;  // as spec_.ropes
  std::vector<std::vector<Branch>> layers_;
  const Parameter* embedding_ = nullptr;
  const Parameter* final_norm_ = nullptr;
  const Parameter* head_ = nullptr;
};

}  // namespace hone::model
