// One optimizer step: micro-batches in, new weights out. What `hone train`, `hone bench step` and the library
// all run.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/decoder.h"
#include "train/optimizer.h"

namespace hone::train {

struct StepOptions {
  double learning_rate = 0;
  double clip = 1;             // largest gradient norm; <= 0: no clipping
  bool recompute = false;      // keep only every layer's input for the gradient
  double aux_coefficient = 0;  // of the load-balancing loss; 0: none
  /// Each parameter is updated as soon as its gradient is there (Optimizer::step_during), of one
  /// micro-batch. Clipped by the norm of the last update; the first one by its own, for which forward and
  /// backward run twice.
  bool update_as_ready = false;
  /// On a card, gradients of linear layers' weights in a stream beside the rest of backward
  /// (Optimizer::side_stream); the same bits.
  bool weight_gradients_beside = false;
};

struct StepResult {
  double loss = 0;      // lm_loss + aux_coefficient * aux_loss
  double lm_loss = 0;   // weighted mean over the step's supervised tokens
  double aux_loss = 0;  // Transformers' formula per micro-batch, averaged by tokens
  double grad_norm = 0;
  bool skipped = false;   // the loss or a gradient was not finite: nothing was changed (but in_part)
  std::string nonfinite;  // then: "loss", or UpdateResult::nonfinite
  bool in_part = false;   // then: parameters whose gradients came before that one were updated
  std::vector<std::int64_t>
      nonfinite_documents;  // then: the documents of the step with a loss that is not finite, in order
  std::int64_t tokens = 0, supervised = 0;
  double loss_weight = 0;  // the sum of the supervised tokens' weights: their count, where none has one
  std::vector<std::vector<std::int64_t>>
      expert_counts;  // per MoE layer: (token, slot) pairs that each expert got
  double forward_ms = 0, backward_ms = 0, optimizer_ms = 0;  // by the device's clock, where it has one
};

/// Forward, loss and backward of every micro-batch, then one update. Where no token of the step is supervised
/// nothing is computed: the loss is 0 and there is no update. The loss is sum(w * -log p) / sum(w) over
/// all supervised tokens of the step, w their weights (1, where they have none): so any split into
/// micro-batches gives the same gradient, and weights that are all the same change nothing. The auxiliary
/// loss of a micro-batch counts by its share of the tokens.
StepResult train_step(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                      std::span<const model::TokenBatch> micro_batches, const StepOptions& options);

/// A step that is in the stream, and all that is told of it on its way to the host. The next one may be begun
/// meanwhile where Optimizer::may_begin_unread(), so that a card need not wait for the host between the two:
/// the same bits. Read in order, while context, optimizer and micro-batches live.
class PendingStep {
 public:
  /// read: waits for the step.
  explicit PendingStep(std::function<StepResult()> read) : read_(std::move(read)) {}
  /// Waits for it. Once.
  StepResult read() { return std::exchange(read_, nullptr)(); }

 private:
  std::function<StepResult()> read_;
};

/// train_step without its end.
PendingStep begin_step(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                       std::span<const model::TokenBatch> micro_batches, const StepOptions& options);

struct EvalResult {
  double loss = 0;         // sum of weight * -log p over the supervised tokens, language model only
  double loss_weight = 0;  // sum of their weights
  std::int64_t tokens = 0, supervised = 0;
};
/// The loss of a batch without gradients, to be summed: the mean is the sum of loss over that of loss_weight.
EvalResult evaluate(ops::Context& context, model::Decoder& decoder, const model::TokenBatch& batch);

}  // namespace hone::train
