#include "train/run_forecast.h"

#include <algorithm>

#include "base/console.h"
#include "base/log.h"
#include "train/batches.h"
#include "train/evaluation.h"

namespace hone::train {

namespace {

/// The run's model without bytes.
class Shapes {
 public:
  explicit Shapes(const Recipe& recipe)
      : context_(device::meta_of(recipe.device), 1),
        model_(model::CausalLM::open(context_, recipe.model_path, recipe.dtype, recipe.quantized)) {}
  const model::CausalLM& model() const { return model_; }

 private:
  ops::Context context_;
  model::CausalLM model_;
};

bool has_begun(const Run& run) {
  return !run.checkpoints.all().empty();
}

std::string text(std::int64_t bytes) {
  return bytes_text(static_cast<double>(bytes));
}

}  // namespace

double aux_coefficient_of(const Recipe& recipe, const model::DecoderSpec& spec) {
  if (spec.num_moe_layers() == 0) return 0;
  return recipe.aux_coefficient.value_or(spec.output_router_logits ? spec.aux_coefficient : 0.0);
}

StepForecast forecast_run(const Run& run, const model::CausalLM& model, const Recipe& recipe) {
  const auto& decoder = model.decoder();
  std::vector<model::TokenBatch> evaluated;
  for (const auto& set : run.evaluation_sets) {
    std::int64_t first = 0;
    evaluated.push_back(next_evaluation_batch(set.data, first, run.seq_len * recipe.micro_batch));
  }
  const ForecastOptions options{.recompute = recipe.recompute,
                                .fp8 = recipe.fp8,
                                .aux_coefficient = aux_coefficient_of(recipe, decoder.spec()),
                                .freeze = recipe.freeze,
                                .untied_head = decoder.parameters().find("lm_head.weight") != nullptr,
                                .gradient_dtype = recipe.gradient_dtype(decoder.dtype()),
                                .optimizer = recipe.optimizer,
                                .update_as_ready = recipe.update_as_ready,
                                .weight_gradients_beside = recipe.weight_gradients_beside,
                                .threads = run.context->stream().num_threads(),
                                .device = run.context->device(),
                                .evaluation_batches = evaluated};
  const auto batches = demanding_micro_batches(*run.train_data, run.state.cursor,
                                               std::max<std::int64_t>(1, run.steps - run.state.step),
                                               recipe.global_batch, recipe.micro_batch);
  return forecast_steps(decoder.spec(), decoder.dtype(), batches, options);
}

void check_fits(const Recipe& recipe, const MemoryForecast& needed, const ForecastRecipe& forecast,
                bool has_begun) {
  const bool on_cpu = recipe.device.type == device::DeviceType::kCpu;
  const auto memory = device::memory_of(recipe.device);
  const MemoryLimits limits{.device = memory.available, .host = on_cpu ? 0 : device::memory_of({}).available};
  if (memory.total == 0 || !cannot_fit(needed, limits)) return;
  const std::string advice = advice_text(recipe, forecast, limits, has_begun);
  if (on_cpu) {
    log_warning("this run needs {}, and {} of memory are available: the system may end it; {}",
                needs_text(needed), text(memory.available), advice);
    return;
  }
  const device::OutOfMemory::Facts facts{.device = recipe.device, .memory = memory};
  if (needed.total() - needed.reserve - needed.program <= limits.device)
    fail("{}: out of memory of the host: this run would pin {} of it, and {} are available; {}",
         recipe.place("train.optimizer.offload"), text(needed.pinned), text(limits.host), advice);
  fail("{}: out of memory: this run needs {}{}, and {}; {}", recipe.place("device"),
       needed.activations == 0 ? "at least " : "", needs_text(needed), state_text(facts), advice);
}

void check_fits(const Run& run) {
  const Shapes shapes(run.recipe);
  const ForecastRecipe forecast = [&](const Recipe& recipe) {
    return forecast_run(run, shapes.model(), recipe).memory;
  };
  check_fits(run.recipe, forecast(run.recipe), forecast, has_begun(run));
}

namespace {

std::string explanation(const Run& run, const device::OutOfMemory::Facts& facts) {
  const Shapes shapes(run.recipe);
  const ForecastRecipe forecast = [&](const Recipe& recipe) {
    return forecast_run(run, shapes.model(), recipe).memory;
  };
  const MemoryForecast needed = forecast(run.recipe);
  // What could be had in one piece; what is free may be less than that, or lie in many.
  const std::int64_t more =
      facts.memory.total == 0 ? facts.asked - 1 : std::min(facts.asked - 1, facts.memory.available);
  MemoryLimits limits{.device = facts.taken + more, .host = device::memory_of({}).available + needed.pinned};
  if (facts.pinned) {
    auto& allocator = run.context->allocator();
    const std::int64_t ours = std::max(allocator.held_bytes(), allocator.ledger().current_total());
    limits = {.device = device::memory_of(run.recipe.device).available + ours,
              .host = std::max<std::int64_t>(1, facts.taken)};
  }
  const std::string state = state_text(facts);
  return fmt::format(
      "out of memory{}: {} more {}for {} were refused{}; by forecast this run needs {}{}; {}{}",
      facts.pinned ? " of the host" : "", text(facts.asked), facts.pinned ? "of pinned memory " : "",
      name_of(facts.purpose), state.empty() ? "" : " (" + state + ")", needs_text(needed),
      needed.pinned > 0 ? fmt::format(", and {} of the host", text(needed.pinned)) : "",
      facts.pinned ? "free some, raise its limit (ulimit -l, the container's), or: " : "",
      advice_text(run.recipe, forecast, limits, has_begun(run)));
}

}  // namespace

void explain(const Run& run, const device::OutOfMemory& error) {
  std::string line;
  try {
    line = explanation(run, error.facts());
  } catch (const Error&) {  // its model's directory is gone, say
    throw device::OutOfMemory(error);
  }
  fail("{}", line);
}

}  // namespace hone::train
