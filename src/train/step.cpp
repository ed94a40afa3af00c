#include "train/step.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/stopwatch.h"
#include "device/clock.h"
#include "ops/launch.h"
#include "tensor/transfer.h"

namespace hone::train {

namespace {

/// Times a step's phases, and tells the context's profile of them: on a card by its own clock, which is asked
/// when the step has ended.
class PhaseClock {
 public:
  explicit PhaseClock(ops::Context& context) : context_(context), event_(record_time(context.stream())) {}
  /// What follows is of this phase; what came since the last call was of another, whose milliseconds `ms` is.
  void begin(kernels::Phase phase) const {
    if (context_.profile() != nullptr) context_.profile()->begin(phase);
  }
  void end(double& ms) {
    if (event_ == nullptr) {
      ms += watch_.lap_ms();
      return;
    }
    auto now = record_time(context_.stream());
    laps_.push_back({&ms, std::exchange(event_, now), now});
  }
  /// Waits for all of it.
  void read() {
    for (const Lap& lap : laps_) *lap.ms += 1e3 * lap.end->seconds_since(*lap.begin);
    laps_.clear();
  }

 private:
  using Place = std::shared_ptr<const device::TimedEvent>;
  struct Lap {
    double* ms;
    Place begin, end;
  };
  ops::Context& context_;
  Stopwatch watch_;
  Place event_;
  std::vector<Lap> laps_;
};

/// The losses of a step's micro-batches. Their sum in f32 lies on the device, where the optimizer looks
/// whether it is finite; what is reported is summed in double at the end of the step.
class LossSum {
 public:
  explicit LossSum(ops::Context& context) : sum_(context.zeros(Shape{1}, DType::kF32)) {}
  void add(ops::Context& context, const Tensor& loss) {
    if (!loss.defined()) return;
    ops::copy(context, "train.loss", loss, sum_, true);
    parts_.emplace_back(context.stream(), loss);
  }
  const Tensor& tensor() const { return sum_; }
  double read() const {
    double sum = 0;
    for (const HostCopy& part : parts_) sum += static_cast<double>(part.values<float>().front());
    return sum;
  }

 private:
  Tensor sum_;
  std::vector<HostCopy> parts_;
};

/// Documents with a supervised token whose loss is not finite.
void find_nonfinite(const model::TokenBatch& batch, std::span<const float> nll, std::int64_t first_document,
                    std::vector<std::int64_t>& documents) {
  std::size_t at = 0;
  std::size_t row = 0;
  for (std::size_t d = 0; d < batch.lengths.size(); ++d) {
    bool finite = true;
    for (std::size_t i = 1; i < static_cast<std::size_t>(batch.lengths[d]); ++i) {
      if (batch.labels[at + i] == kIgnoredLabel) continue;
      finite = finite && std::isfinite(nll[row++]);
    }
    if (!finite) documents.push_back(first_document + static_cast<std::int64_t>(d));
    at += static_cast<std::size_t>(batch.lengths[d]);
  }
}

/// `counts`: of every layer's experts.
void add_counts(const std::vector<HostCopy>& counts, std::vector<std::vector<std::int64_t>>& totals) {
  totals.resize(std::max(totals.size(), counts.size()));
  for (std::size_t layer = 0; layer < counts.size(); ++layer) {
    const auto values = counts[layer].values<std::int32_t>();
    totals[layer].resize(values.size());
    for (std::size_t e = 0; e < values.size(); ++e) totals[layer][e] += values[e];
  }
}

/// Of a step's gradients, none of which is kept.
template <typename MakeLoss>
double gradient_norm(ops::Context& context, Optimizer& optimizer, const MakeLoss& make_loss) {
  ops::Tape tape;
  const ops::TapeScope recording(context, &tape);
  const Tensor loss = make_loss().total;
  return optimizer.norm_during([&] { tape.backward(context, loss); }, context);
}

}  // namespace

StepResult train_step(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                      std::span<const model::TokenBatch> micro_batches, const StepOptions& options) {
  StepResult result;
  for (const auto& batch : micro_batches) {
    result.tokens += batch.tokens();
    result.supervised += batch.supervised();
    result.loss_weight += batch.loss_weight();
  }
  if (result.supervised == 0) return result;  // nothing to learn: a mean over no tokens is no loss
  decoder.parameters().reset_grads();

  LossSum total(context);
  LossSum lm(context);
  LossSum aux(context);
  struct MicroResult {
    Tensor nll;
    std::vector<HostCopy> expert_counts;
  };
  std::vector<MicroResult> micro_results;
  const auto loss_of = [&](const model::TokenBatch& batch) {
    const double share = static_cast<double>(batch.tokens()) / static_cast<double>(result.tokens);
    return decoder.loss(context, batch,
                        {.lm_scale = 1.0 / result.loss_weight,
                         .aux_scale = options.aux_coefficient * share,
                         .recompute = options.recompute});
  };
  HONE_CHECK(!options.update_as_ready || micro_batches.size() == 1,
             "updates as gradients are ready of {} micro-batches", micro_batches.size());
  bool as_ready = options.update_as_ready;
  double clip_norm = 0;
  if (as_ready && options.clip > 0)
    clip_norm = optimizer.last_norm()
                    ? *optimizer.last_norm()
                    : gradient_norm(context, optimizer, [&] { return loss_of(micro_batches[0]); });
  as_ready =
      as_ready && std::isfinite(clip_norm);  // else nothing is to be changed: by the way that knows all first
  PhaseClock clock(context);
  UpdateResult update;
  for (const auto& batch : micro_batches) {
    clock.begin(kernels::Phase::kForward);
    ops::Tape tape;
    const ops::TapeScope recording(context, &tape);
    auto loss = loss_of(batch);
    total.add(context, loss.total.detach());
    lm.add(context, loss.lm.detach());
    aux.add(context, loss.aux.detach());
    micro_results.push_back({std::move(loss.nll), {}});
    for (const auto& routing : loss.routings)
      micro_results.back().expert_counts.emplace_back(context.stream(), routing.counts);
    const Tensor differentiated = std::move(loss.total);
    loss = {};
    clock.end(result.forward_ms);
    clock.begin(kernels::Phase::kBackward);
    const auto backward = [&] { tape.backward(context, differentiated); };
    if (as_ready)
      update = optimizer.step_during(backward, context, options.learning_rate, options.clip, clip_norm,
                                     total.tensor());
    else
      backward();
    clock.end(result.backward_ms);
  }
  clock.begin(kernels::Phase::kOptimizer);
  if (!as_ready) update = optimizer.step(context, options.learning_rate, options.clip, total.tensor());
  clock.end(result.optimizer_ms);
  clock.read();

  result.loss = total.read();
  result.lm_loss = lm.read();
  if (options.aux_coefficient != 0) result.aux_loss = aux.read() / options.aux_coefficient;
  result.grad_norm = update.grad_norm;
  result.skipped = update.skipped;
  for (const auto& micro : micro_results) add_counts(micro.expert_counts, result.expert_counts);
  if (result.skipped) {
    std::int64_t documents = 0;
    for (std::size_t i = 0; i < micro_batches.size(); ++i) {
      const HostCopy nll(context.stream(), micro_results[i].nll);
      find_nonfinite(micro_batches[i], nll.values<float>(), documents, result.nonfinite_documents);
      documents += static_cast<std::int64_t>(micro_batches[i].lengths.size());
    }
    result.nonfinite = !std::isfinite(result.loss) ? "loss"
                       : as_ready                  ? kSomeParameter
                                                   : optimizer.first_nonfinite(context);
  }
  return result;
}

EvalResult evaluate(ops::Context& context, model::Decoder& decoder, const model::TokenBatch& batch) {
  const ops::TapeScope no_gradients(context, nullptr);
  const auto loss = decoder.loss(context, batch, {.lm_scale = 1.0});
  const HostCopy nll(context.stream(), loss.nll);
  EvalResult result{
      .loss_weight = batch.loss_weight(), .tokens = batch.tokens(), .supervised = batch.supervised()};
  const auto* x = nll.values<float>().data();
  batch.for_each_supervised([&](std::size_t i) {
    result.loss +=
        (batch.weights.empty() ? 1.0 : static_cast<double>(batch.weights[i])) * static_cast<double>(*x++);
  });
  return result;
}

}  // namespace hone::train
