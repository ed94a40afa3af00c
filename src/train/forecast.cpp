#include "train/forecast.h"

#include <algorithm>
#include <utility>

#include "train/step.h"

namespace hone::train {

MemoryForecast held_memory(const ops::Context& context, const model::ParameterSet& parameters,
                           bool gradients_stay) {
  const auto& ledger = context.ledger();
  MemoryForecast held{.weights = ledger.current(device::Purpose::kWeights),
                      .optimizer = ledger.current(device::Purpose::kOptimizer),
                      .pinned = context.stream().host_ledger().current_total()};
  for (const auto& p : parameters.all())
    if (p.trainable && gradients_stay)
      held.gradients += p.spec.shape.numel() * static_cast<std::int64_t>(size_of(p.grad_slot->grad_dtype()));
  return held;
}

StepForecast forecast_steps(const model::DecoderSpec& spec, DType dtype,
                            std::span<const model::TokenBatch> batches, const ForecastOptions& options) {
  ops::Context context(device::meta_of(options.device), options.threads);
  model::Decoder decoder(spec, context, dtype, options.untied_head);
  decoder.parameters().set_trainable(options.freeze, options.gradient_dtype);
  decoder.parameters().multiply_in_fp8(options.fp8);
  Optimizer optimizer(context, decoder.parameters(), options.optimizer);
  const auto step = [&](const model::TokenBatch& batch) {
    train_step(
        context, decoder, optimizer, {&batch, 1},
        {.clip = options.update_as_ready ? 0.0 : 1.0,  // of the first step two passes hold no more than one
         .recompute = options.recompute,
         .aux_coefficient = options.aux_coefficient,
         .update_as_ready = options.update_as_ready,
         .weight_gradients_beside = options.weight_gradients_beside});
    return std::exchange(context.stream().costs(), {});
  };
  StepForecast forecast;
  forecast.parameters = decoder.parameters().num_elements();
  forecast.tokens = batches.front().tokens();
  context.set_profile(options.profile);
  forecast.kernels = step(batches.front());
  context.set_profile(nullptr);
  optimizer.step(context, 0, 0);  // once more, alone: which slots updates are made by
  const auto updating = std::exchange(context.stream().costs(), {});
  const auto updates = std::ranges::stable_partition(forecast.kernels, [&](const device::KernelCost& kernel) {
    return std::ranges::find(updating, kernel.slot, &device::KernelCost::slot) == updating.end();
  });
  forecast.update.assign(updates.begin(), updates.end());
  forecast.kernels.erase(updates.begin(), updates.end());
  for (const auto& kernel : forecast.kernels) forecast.flops += kernel.cost.flops;
  // From the second step on the storage of all gradients is there when activations are made.
  context.ledger().reset_peak();
  // Twice: what is held beside the scratch memory is most when that has grown to what the largest wants.
  for (int turn = 0; turn < 2; ++turn)
    for (const auto& batch : batches) step(batch);
  for (const auto& batch : options.evaluation_batches) {
    const ops::TapeScope no_gradients(context, nullptr);
    decoder.loss(context, batch, {});
  }
  MemoryForecast& memory = forecast.memory;
  memory = held_memory(context, decoder.parameters(), !options.update_as_ready);
  const std::int64_t peak = context.ledger().peak_total() + optimizer.most_side_bytes();
  memory.activations = peak - memory.total();
  memory.reserve = device::Allocator::reserve_bytes(peak);
  return forecast;
}

}  // namespace hone::train
