#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/error.h"
#include "ops/launch.h"
#include "tensor/transfer.h"
#include "train/step_parts.h"

namespace hone::train {

namespace {

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

/// Adds what every layer's experts got.
void add_counts(const std::vector<HostCopy>& counts, std::vector<std::vector<std::int64_t>>& totals) {
  totals.resize(std::max(totals.size(), counts.size()));
  for (std::size_t layer = 0; layer < counts.size(); ++layer) {
    const auto values = counts[layer].values<std::int32_t>();
    totals[layer].resize(values.size());
    for (std::size_t e = 0; e < values.size(); ++e) totals[layer][e] += values[e];
  }
}

/// What is told of a step, on its way to the host.
struct Arriving {
  struct MicroBatch {
    HostCopy loss, lm_loss, nll;
    std::optional<HostCopy> aux_loss = std::nullopt;
    std::vector<HostCopy> expert_counts = {};

    MicroBatch(device::Stream& stream, const StepOutputs::MicroBatch& from)
        : loss(stream, from.loss), lm_loss(stream, from.lm_loss), nll(stream, from.nll) {
      if (from.aux_loss.defined()) aux_loss.emplace(stream, from.aux_loss);
      for (const Tensor& counts : from.expert_counts) expert_counts.emplace_back(stream, counts);
    }
  };
  std::vector<MicroBatch> micro_batches = {};
  HostCopy update;
  PhaseClock clock;
  StepResult known = {};  // what needs no device
};

double value_of(const HostCopy& scalar) {
  return static_cast<double>(scalar.values<float>().front());
}

model::Decoder::Loss loss_of(ops::Context& context, const model::Decoder& decoder, const StepInputs& inputs,
                             std::size_t micro_batch, const StepOptions& options) {
  const auto& batch = inputs.micro_batches[micro_batch];
  const double share = static_cast<double>(batch.tokens()) / static_cast<double>(inputs.tokens);
  return decoder.loss(context, batch,
                      {.lm_scale = 1.0 / inputs.loss_weight,
                       .aux_scale = options.aux_coefficient * share,
                       .recompute = options.recompute});
}

/// Of the gradients of a step of one micro-batch, none of which is kept.
double gradient_norm(ops::Context& context, const model::Decoder& decoder, Optimizer& optimizer,
                     const StepInputs& inputs, const StepOptions& options) {
  ops::Tape tape;
  const ops::TapeScope recording(context, &tape);
  const Tensor loss = loss_of(context, decoder, inputs, 0, options).total;
  return optimizer.norm_during([&] { tape.backward(context, loss); }, context);
}

}  // namespace

void PhaseClock::begin(ops::Context& context, kernels::Phase phase) {
  if (context.profile() != nullptr) context.profile()->begin(phase);
  end(context);
  if (laps_.empty() || laps_.back().end == nullptr)
    laps_.push_back({.phase = phase, .begin = record_time(context.stream())});
  else
    laps_.push_back({.phase = phase, .begin = laps_.back().end});
  (void)watch_.lap_ms();
  is_running_ = true;
}

void PhaseClock::end(ops::Context& context) {
  if (!std::exchange(is_running_, false)) return;
  Lap& lap = laps_.back();
  if (lap.begin != nullptr)
    lap.end = record_time(context.stream());
  else
    lap.ms = watch_.lap_ms();
}

PhaseClock PhaseClock::of_last_launch() const {
  PhaseClock clock = *this;
  for (Lap& lap : clock.laps_)
    for (auto* place : {&lap.begin, &lap.end})
      if (*place != nullptr) *place = (*place)->of_last_launch();
  return clock;
}

std::array<double, kernels::kNumPhases> PhaseClock::read() const {
  std::array<double, kernels::kNumPhases> ms{};
  for (const Lap& lap : laps_)
    ms.at(static_cast<std::size_t>(lap.phase)) +=
        lap.end != nullptr ? 1e3 * lap.end->seconds_since(*lap.begin) : lap.ms;
  return ms;
}

StepInputs count_step(std::span<const model::TokenBatch> micro_batches) {
  StepInputs inputs;
  for (const auto& batch : micro_batches) {
    inputs.tokens += batch.tokens();
    inputs.supervised += batch.supervised();
    inputs.loss_weight += batch.loss_weight();
  }
  return inputs;
}

StepInputs upload_step(ops::Context& context, model::Decoder& decoder,
                       std::span<const model::TokenBatch> micro_batches) {
  StepInputs inputs = count_step(micro_batches);
  for (const auto& batch : micro_batches) inputs.micro_batches.push_back(decoder.upload(context, batch));
  return inputs;
}

StepOutputs put_step(ops::Context& context, const model::Decoder& decoder, Optimizer& optimizer,
                     const StepInputs& inputs, const StepOptions& options, bool as_ready) {
  StepOutputs outputs;
  // In f32, for the optimizer, which looks whether it is finite; what is reported is summed in double.
  const Tensor sum = context.zeros(Shape{1}, DType::kF32);
  for (std::size_t i = 0; i < inputs.micro_batches.size(); ++i) {
    outputs.clock.begin(context, kernels::Phase::kForward);
    ops::Tape tape;
    const ops::TapeScope recording(context, &tape);
    auto loss = loss_of(context, decoder, inputs, i, options);
    ops::copy(context, "train.loss", loss.total.detach(), sum, true);
    StepOutputs::MicroBatch micro{.loss = loss.total.detach(),
                                  .lm_loss = loss.lm.detach(),
                                  .aux_loss = loss.aux.defined() ? loss.aux.detach() : Tensor(),
                                  .nll = std::move(loss.nll),
                                  .expert_counts = {}};
    for (const auto& routing : loss.routings) micro.expert_counts.push_back(routing.counts);
    outputs.micro_batches.push_back(std::move(micro));
    const Tensor differentiated = std::move(loss.total);
    loss = {};
    outputs.clock.begin(context, kernels::Phase::kBackward);
    ops::SideStream* const beside =
        options.weight_gradients_beside ? optimizer.side_stream(context) : nullptr;
    const auto backward = [&] { tape.backward(context, differentiated, nullptr, beside); };
    if (as_ready)
      optimizer.put_update_during(backward, context, options.clip, sum);
    else if (i + 1 == inputs.micro_batches.size())
      optimizer.finish_gradients(backward, context);
    else
      backward();
  }
  outputs.clock.begin(context, kernels::Phase::kOptimizer);
  if (!as_ready) optimizer.put_update(context, options.clip, sum);
  outputs.clock.end(context);
  return outputs;
}

namespace {

StepResult read(const Arriving& arriving, Optimizer& optimizer,
                std::span<const model::TokenBatch> micro_batches, const StepOptions& options, bool as_ready) {
  const UpdateResult update = optimizer.end_update(arriving.update);
  StepResult result = arriving.known;
  result.grad_norm = update.grad_norm;
  result.skipped = update.skipped;
  const auto ms = arriving.clock.read();
  result.forward_ms = ms[static_cast<std::size_t>(kernels::Phase::kForward)];
  result.backward_ms = ms[static_cast<std::size_t>(kernels::Phase::kBackward)];
  result.optimizer_ms = ms[static_cast<std::size_t>(kernels::Phase::kOptimizer)];
  double aux_loss = 0;
  for (const auto& micro : arriving.micro_batches) {
    result.loss += value_of(micro.loss);
    result.lm_loss += value_of(micro.lm_loss);
    if (micro.aux_loss) aux_loss += value_of(*micro.aux_loss);
    add_counts(micro.expert_counts, result.expert_counts);
  }
  if (options.aux_coefficient != 0) result.aux_loss = aux_loss / options.aux_coefficient;
  if (!result.skipped) return result;
  std::int64_t documents = 0;
  for (std::size_t i = 0; i < micro_batches.size(); ++i) {
    find_nonfinite(micro_batches[i], arriving.micro_batches[i].nll.values<float>(), documents,
                   result.nonfinite_documents);
    documents += static_cast<std::int64_t>(micro_batches[i].lengths.size());
  }
  const bool of_loss = !std::isfinite(result.loss);
  result.nonfinite = of_loss ? "loss" : update.nonfinite;
  result.in_part = as_ready && !of_loss;
  return result;
}

}  // namespace

PendingStep start_reading(ops::Context& context, Optimizer& optimizer,
                          std::span<const model::TokenBatch> micro_batches, const StepInputs& inputs,
                          const StepOutputs& outputs, const StepOptions& options, bool as_ready) {
  auto arriving = std::make_shared<Arriving>();
  for (const auto& micro : outputs.micro_batches)
    arriving->micro_batches.emplace_back(context.stream(), micro);
  arriving->update = optimizer.start_reading(context);
  arriving->clock = outputs.clock.of_last_launch();
  arriving->known.tokens = inputs.tokens;
  arriving->known.supervised = inputs.supervised;
  arriving->known.loss_weight = inputs.loss_weight;
  return PendingStep([=, arriving = std::shared_ptr<const Arriving>(arriving), optimizer = &optimizer] {
    return read(*arriving, *optimizer, micro_batches, options, as_ready);
  });
}

PendingStep begin_step(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                       std::span<const model::TokenBatch> micro_batches, const StepInputs& inputs,
                       const StepOptions& options) {
  decoder.parameters().reset_grads();
  HONE_CHECK(!options.update_as_ready || micro_batches.size() == 1,
             "updates as gradients are ready of {} micro-batches", micro_batches.size());
  double clip_norm = 0;
  if (options.update_as_ready && options.clip > 0)
    clip_norm = optimizer.last_norm() ? *optimizer.last_norm()
                                      : gradient_norm(context, decoder, optimizer, inputs, options);
  // Else nothing is to be changed: by the way that knows all first.
  const bool as_ready = options.update_as_ready && std::isfinite(clip_norm);
  optimizer.begin_update(context, options.learning_rate, clip_norm);
  const StepOutputs outputs = put_step(context, decoder, optimizer, inputs, options, as_ready);
  return start_reading(context, optimizer, micro_batches, inputs, outputs, options, as_ready);
}

PendingStep step_of_nothing(const StepInputs& inputs) {
  return PendingStep([tokens = inputs.tokens] {
    return StepResult{.nonfinite = {}, .nonfinite_documents = {}, .tokens = tokens, .expert_counts = {}};
  });
}

PendingStep begin_step(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                       std::span<const model::TokenBatch> micro_batches, const StepOptions& options) {
  const StepInputs counts = count_step(micro_batches);
  if (counts.supervised == 0) return step_of_nothing(counts);
  return begin_step(context, decoder, optimizer, micro_batches, upload_step(context, decoder, micro_batches),
                    options);
}

StepResult train_step(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                      std::span<const model::TokenBatch> micro_batches, const StepOptions& options) {
  return begin_step(context, decoder, optimizer, micro_batches, options).read();
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
