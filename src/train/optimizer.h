// Optimizers: from gathered gradients to new weights, with honest f32 master weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/causal_lm.h"

namespace hone::train {

struct OptimizerOptions {
  enum class Type { kAdamW, kSgd };
  Type type = Type::kAdamW;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // AdamW
  double momentum = 0;                            // SGD
  double weight_decay = 0;                        // of parameters that decay: not norms, not biases

  /// Parameters in whose names `match` (model/name_pattern.h) is found. Where several groups match, the first
  /// is it.
  struct Group {
    std::string match;
    double rate_scale = 1;  // their learning rate is rate_scale times the step's
    /// Of all of them, norms and biases too, as in a parameter group of torch.optim; nullopt: as without a
    /// group.
    std::optional<double> weight_decay = std::nullopt;
  };
  std::vector<Group> groups = {};
};

/// The group of each parameter, in the order of `parameters`: its index, or -1 (frozen ones, too). Throws
/// Error(kUser) for a pattern that is no regular expression, or takes no trainable parameter: it matches
/// none, or only frozen ones or earlier groups'.
std::vector<std::int64_t> assign_groups(const model::ParameterSet& parameters,
                                        const std::vector<OptimizerOptions::Group>& groups);

/// What one update did.
struct UpdateResult {
  double grad_norm = 0;  // before clipping, over all trainable parameters
  bool skipped = false;  // a gradient or the loss was not finite: nothing was changed
};

/// The optimizer of one model: state for every trainable parameter. AdamW and SGD are torch.optim's, norm and
/// clipping are torch.nn.utils.clip_grad_norm_'s.
class Optimizer {
 public:
  /// Call after ParameterSet::set_trainable. Allocates (Purpose::kOptimizer), per element of a trainable
  /// parameter: AdamW two f32, SGD one with momentum; and for bf16 weights an f32 master, whose values are to
  /// follow: loaded with the weights (separate_master), or from a checkpoint (state). Throws as assign_groups
  /// does.
  Optimizer(ops::Context& context, model::ParameterSet& parameters, const OptimizerOptions& options);
  /// For a model whose weights are there: masters start from the stored values.
  Optimizer(ops::Context& context, model::CausalLM& model, const OptimizerOptions& options);

  /// One update from the gradients that have arrived; clip <= 0: none. `loss` (1) f32, or undefined: one that
  /// is not finite skips the update, as a gradient that is not finite does. Reads one struct back, at the
  /// end.
  UpdateResult step(ops::Context& context, double learning_rate, double clip, const Tensor& loss = {});

  /// Updates done so far.
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

  /// Everything that a resumed run needs, besides updates(): named f32 tensors, `master.NAME`,
  /// `exp_avg.NAME`, `exp_avg_sq.NAME`, `momentum.NAME`. Where the compute dtype is f32 the master is the
  /// weight itself.
  struct NamedTensor {
    std::string name;
    Tensor tensor;
  };
  std::vector<NamedTensor> state() const;
  /// After state() was overwritten from a checkpoint: brings bf16 weights in step with their masters.
  void masters_changed(ops::Context& context);

  /// The f32 master of a parameter whose weights are not their own; undefined for any other.
  Tensor separate_master(const model::Parameter& parameter) const;
  /// A parameter's value in full precision; undefined where it is not trained.
  Tensor master_of(const model::Parameter& parameter) const;
  /// The first trainable parameter whose gradient is not finite; "" where all are.
  std::string first_nonfinite(ops::Context& context) const;

 private:
  struct Slot {
    model::Parameter* parameter;
    Tensor master;                           // f32; the weight itself where that is f32
    Tensor first, second;                    // AdamW: exp_avg, exp_avg_sq. SGD: momentum buffer, none
    float rate_scale = 1, weight_decay = 0;  // its group's
  };
  void update(ops::Context& context, const Slot& slot, const Tensor& grad,
              const kernels::StepScalars* scalars) const;

  OptimizerOptions options_;
  std::vector<Slot> slots_;
  std::int64_t updates_ = 0;
  Tensor scalars_;  // one kernels::StepScalars
};

}  // namespace hone::train
