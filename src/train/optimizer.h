// Optimizers: from gathered gradients to new weights, with honest f32 master weights.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/causal_lm.h"
#include "ops/side_stream.h"
#include "tensor/transfer.h"
#include "train/host_states.h"

namespace hone::train {

struct OptimizerOptions {
  enum class Type { kAdamW, kSgd };
  Type type = Type::kAdamW;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // AdamW
  double momentum = 0;                            // SGD
  double weight_decay = 0;                        // of parameters that decay: not norms, not biases
  /// AdamW's moments; in eight bits (kernels::MomentKind::kDynamic8) but for parameters below 4,096 elements,
  /// as bitsandbytes: norms and biases.
  enum class State { kF32, k8Bit };
  State state = State::kF32;
  /// Of bf16 weights: f32 masters besides; or they are their own, rounded at random, keyed by `seed`, their
  /// names and the step.
  enum class Master { kF32, kBF16 };
  Master master = Master::kF32;
  /// Where masters and moments lie: on the device; or in pinned memory of the host (host_states.h), the same
  /// bits, with a few buffers on the device. Where the device's memory is the host's they lie there already.
  enum class Offload { kNone, kHost };
  Offload offload = Offload::kNone;
  std::size_t offload_piece_bytes = HostStates::kPieceBytes;
  std::uint64_t seed = 0;

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
  /// A gradient or the loss was not finite: nothing was changed; or, where updates are made as gradients are
  /// ready, nothing from the first such gradient on.
  bool skipped = false;
  /// Then: the first trainable parameter (of those that are updated as gradients are ready, the first to have
  /// a gradient) whose gradient is not finite; "": all are, but the loss or the norm is not.
  std::string nonfinite;
};

/// The optimizer of one model: state for every trainable parameter. AdamW and SGD are torch.optim's, norm and
/// clipping are torch.nn.utils.clip_grad_norm_'s.
class Optimizer {
 public:
  /// Call after ParameterSet::set_trainable. Allocates (Purpose::kOptimizer), per element of a trainable
  /// parameter: AdamW two f32 or bytes, SGD one f32 with momentum; and for bf16 weights an f32 master unless
  /// options say otherwise, whose values are to follow: loaded with the weights (separate_master), or from a
  /// checkpoint (state). With Offload::kHost these are counted by the stream's host_ledger(). Throws as
  /// assign_groups does, and OutOfMemory.
  Optimizer(ops::Context& context, model::ParameterSet& parameters, const OptimizerOptions& options);
  /// For a model whose weights are there: masters start from the stored values.
  Optimizer(ops::Context& context, model::CausalLM& model, const OptimizerOptions& options);

  /// One update from the gradients that have arrived; clip <= 0: none. `loss` (1) f32, or undefined: one that
  /// is not finite skips the update, as a gradient that is not finite does. Reads one struct back, at the
  /// end.
  UpdateResult step(ops::Context& context, double learning_rate, double clip, const Tensor& loss = {});

  // The same, each parameter as soon as its gradient is there, which is then let go of: gradients never exist
  // all at once. They are clipped by a norm that is known before, as that of the last step.

  /// Updates while `backward` runs; on a card in a stream of their own, beside what backward does there, and
  /// then as much as the largest gradient is kept at most (ops::SideStream). clip_norm: what the clip factor
  /// is made of. Reads one struct back.
  UpdateResult step_during(const std::function<void()>& backward, ops::Context& context, double learning_rate,
                           double clip, double clip_norm, const Tensor& loss = {});

  // step and step_during in parts, of which the second, put_..., neither reads nor sends anything and, but
  // for is_at_first_buffers(), is the same calls of kernels in every step.

  /// Where the update before this one was not read yet, the device sees what became of it, and counts, and
  /// clips, by that: clip_norm is then the norm of the last one that was read.
  void begin_update(ops::Context& context, double learning_rate, double clip_norm = 0);
  /// Whether it may be called before the last update was read: no more than one is unread, and the first, by
  /// which others may go other ways (is_at_first_buffers, last_norm), was.
  bool may_begin_unread() const { return unread_ == 0 || (unread_ == 1 && updates_ > 0); }
  /// `backward` of the last micro-batch before put_update, which then reads no gradient for the norm whose
  /// sum of squares it has brought along (GradSlot::ask_for_squares; not where device and host share memory,
  /// where that is a pass over the gradient all the same).
  void finish_gradients(const std::function<void()>& backward, ops::Context& context);
  void put_update(ops::Context& context, double clip, const Tensor& loss);
  void put_update_during(const std::function<void()>& backward, ops::Context& context, double clip,
                         const Tensor& loss);
  /// What became of the update that was put, on its way to the host: for end_update, once and in order.
  HostCopy start_reading(ops::Context& context);
  /// Waits for it.
  UpdateResult end_update(const HostCopy& scalars);

  /// The norm of the gradients that `backward` makes; there is no update.
  double norm_during(const std::function<void()>& backward, ops::Context& context);
  /// The norm of the last update that was not skipped; nullopt before the first. Kept with the run.
  std::optional<double> last_norm() const { return last_norm_; }
  void set_last_norm(std::optional<double> norm) { last_norm_ = norm; }

  /// The stream beside `context`'s, of which work under way keeps as much as the largest gradient: updates as
  /// gradients are ready are made there, and the gradients of weights by a `backward` that is given it; an
  /// update then comes after its gradient. Made by the first call. Null where work is done on return.
  ops::SideStream* side_stream(ops::Context& context);
  /// Of that stream: Stream::scratch_generation, and SideStream::most_own_bytes; 0: there is none.
  std::uint64_t scratch_generation() const { return side_stream_ ? side_stream_->scratch_generation() : 0; }
  std::int64_t most_side_bytes() const { return side_stream_ ? side_stream_->most_own_bytes() : 0; }
  /// Whether states pass through the device for each update (Offload::kHost).
  bool has_host_states() const { return host_ != nullptr; }

  /// Whether the next update is other calls of kernels than all that follow: SGD's first makes its buffers.
  bool is_at_first_buffers() const { return options_.type == OptimizerOptions::Type::kSgd && updates_ == 0; }

  /// Updates done so far.
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

  /// Everything that a resumed run needs, besides updates() and last_norm(): named tensors, `master.NAME`,
  /// `exp_avg.NAME`, `exp_avg_sq.NAME`, `momentum.NAME`, f32; of eight-bit moments u8, with
  /// `exp_avg.scales.NAME` and `exp_avg_sq.scales.NAME` besides. Where there is no separate master it is the
  /// weight itself, in its dtype. Tensors that lie in the host's memory are to be read and written there
  /// (HostView, Staging) before the next step: these and the next two wait for what is on its way.
  struct NamedTensor {
    std::string name;
    Tensor tensor;
  };
  std::vector<NamedTensor> state() const;
  /// After state() was overwritten from a checkpoint: brings bf16 weights in step with their masters.
  void masters_changed(ops::Context& context);

  /// The f32 master of a parameter whose weight is not its own; undefined for any other.
  Tensor separate_master(const model::Parameter& parameter) const;
  /// A parameter's value in full precision; undefined where it is not trained.
  Tensor master_of(const model::Parameter& parameter) const;

 private:
  struct Slot {
    model::Parameter* parameter = nullptr;
    States states = {};
    std::optional<std::size_t> in_host = std::nullopt;  // its number in host_, where it is there
    std::uint64_t rounding_seed = 0;                    // of a bf16 master
    float rate_scale = 1, weight_decay = 0;             // its group's
  };
  bool has_separate_master(const Slot& slot) const {
    return slot.parameter->value.dtype() != slot.states.master.dtype();
  }
  /// Calls work(begin, end, states on the device) for all elements, whose states it may change.
  void with_states(const ops::Context& context, const Slot& slot, const HostStates::Work& work) const;
  kernels::StepScalars* scalars() const { return static_cast<kernels::StepScalars*>(scalars_.data()); }
  /// Of a step after so many updates.
  kernels::StepScalars scalars_of(std::int64_t updates, double learning_rate, double clip_norm) const;
  /// squares: numbers whose sum it is, or undefined.
  void add_square(ops::Context& context, const Slot& slot, const Tensor& grad, const Tensor& squares) const;
  void update(ops::Context& context, const Slot& slot, const Tensor& grad) const;
  void update_elements(ops::Context& context, const Slot& slot, const Tensor& grad, std::int64_t begin,
                       std::int64_t end, const States& states) const;
  /// Whenever `backward` has a gradient ready, `take` is called with it, and with its squares as add_square.
  void take_gradients(const std::function<void()>& backward, ops::Context& context,
                      const std::function<void(const Slot&, const Tensor&, const Tensor&)>& take);

  OptimizerOptions options_;
  std::vector<Slot> slots_;
  std::int64_t updates_ = 0;  // of those that were read, as last_norm_
  std::optional<double> last_norm_;
  int unread_ = 0;                                // updates that were put since
  Tensor scalars_;                                // one kernels::StepScalars
  Tensor next_scalars_;                           // two: kernels::NextStepArgs
  std::unique_ptr<HostStates> host_;              // null: all states are on the device
  std::unique_ptr<ops::SideStream> side_stream_;  // null before the first call of side_stream()
};

}  // namespace hone::train
