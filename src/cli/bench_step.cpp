#include "cli/bench_step.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/process_memory.h"
#include "base/rng.h"
#include "base/stopwatch.h"
#include "cli/bench_dry.h"
#include "kernels/card_work.h"
#include "kernels/peak.h"
#include "train/forecast.h"
#include "train/step_graphs.h"

namespace hone::cli {

namespace {

/// Of a parameter, which repeats them: more than a matrix of an expert has, so that no two are alike.
constexpr std::int64_t kDrawnWeights = std::int64_t{1} << 22;

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

double mean(const std::vector<double>& values) {
  return std::reduce(values.begin(), values.end()) / static_cast<double>(values.size());
}

/// A step's kernels by slot, in ms a step.
nlohmann::ordered_json profile_rows(const std::vector<kernels::Profile::Slot>& slots, double steps) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& slot : slots)
    rows.push_back({{"slot", slot.name},
                    {"path", slot.path},
                    {"calls", static_cast<double>(slot.calls) / steps},
                    {"ms", 1e3 * slot.seconds / steps},
                    {"least_ms", 1e3 * slot.least_seconds / steps},
                    {"gflops", slot.seconds > 0 ? slot.flops / slot.seconds / 1e9 : 0.0},
                    {"gb_s", slot.seconds > 0 ? slot.bytes / slot.seconds / 1e9 : 0.0}});
  return rows;
}

void print_profile(const nlohmann::ordered_json& rows, double step_ms) {
  fmt::print("\n{:<22}{:>7}{:>10}{:>8}{:>10}{:>7}{:>9}{:>8}\n", "slot", "calls", "ms", "of step", "least ms",
             "of it", "GFLOP/s", "GB/s");
  double kernels_ms = 0;
  for (const auto& row : rows) {
    const double ms = row["ms"], least_ms = row["least_ms"];
    kernels_ms += ms;
    fmt::print("{:<22}{:>7.0f}{:>10.2f}{:>7.1f}%{:>10.2f}{:>6.0f}%{:>9.0f}{:>8.1f}  {}\n",
               row["slot"].get_ref<const std::string&>(), row["calls"].get<double>(), ms, 100 * ms / step_ms,
               least_ms, ms > 0 ? 100 * least_ms / ms : 0.0, row["gflops"].get<double>(),
               row["gb_s"].get<double>(), row["path"].get_ref<const std::string&>());
  }
  fmt::print("{:<29}{:>10.2f}{:>7.1f}%\n", "between kernels", step_ms - kernels_ms,
             100 * (step_ms - kernels_ms) / step_ms);
}

}  // namespace

train::OptimizerOptions BenchStepOptions::optimizer_options() const {
  using Options = train::OptimizerOptions;
  return {.weight_decay = 0.01,
          .state = state == "8bit" ? Options::State::k8Bit : Options::State::kF32,
          .master = master == "bf16" ? Options::Master::kBF16 : Options::Master::kF32};
}

model::TokenBatch random_batch(const BenchStepOptions& options, std::int64_t vocab) {
  const CounterRng rng(1, RngPurpose::kBench);
  model::TokenBatch batch;
  std::uint64_t draw = 0;
  for (std::int64_t row = 0; row < options.batch; ++row) {
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < options.seq; ++i)
      ids.push_back(static_cast<std::int32_t>(rng.below(draw++, static_cast<std::uint64_t>(vocab))));
    batch.add(ids, ids);
  }
  return batch;
}

void bench_step(const BenchStepOptions& options) {
  if (options.dry) return bench_step_dry(options);
  const auto description = model::describe(options.config);
  const auto& spec = description.spec;
  model::check_runs(spec);
  model::check_context(spec, options.seq, fmt::format("--seq {}", options.seq));
  auto context = options.compute.context();
  const DType dtype = options.compute.compute_dtype().value_or(DType::kF32);
  Team& team = context.stream().team();
  const int threads = team.num_threads();
  const auto peak = kernels::measure_compute_peak(context.device(), team);
  const kernels::Ceilings ceilings{.f32_gflops = peak.f32,
                                   .bf16_gflops = peak.bf16,
                                   .gb_s = kernels::measure_copy_rate(context.device(), team)};
  const double peak_gflops = dtype == DType::kBF16 ? peak.bf16 : peak.f32;

  auto model = model::CausalLM::from_config(context, options.config, dtype, 1, kDrawnWeights);
  const std::vector<model::TokenBatch> batches{random_batch(options, spec.vocab)};
  const double aux = spec.output_router_logits ? spec.aux_coefficient : 0.0;
  const auto forecast = train::forecast_steps(spec, dtype, batches,
                                              {.recompute = options.recompute,
                                               .fp8 = options.fp8,
                                               .aux_coefficient = aux,
                                               .gradient_dtype = dtype,
                                               .optimizer = options.optimizer_options(),
                                               .update_as_ready = options.update_as_ready,
                                               .weight_gradients_beside = options.weight_gradients_beside(),
                                               .threads = threads,
                                               .device = context.device()});
  trim_heap();
  reset_peak_resident();
  const bool on_host = context.stream().shares_host_memory();
  const std::int64_t weights_held = on_host ? resident_bytes() : context.ledger().current_total();

  model.decoder().parameters().set_trainable({}, dtype);
  model.decoder().parameters().multiply_in_fp8(options.fp8);
  train::Optimizer optimizer(context, model, options.optimizer_options());
  train::StepResult result;
  const train::StepOptions step_options{.learning_rate = 1e-4,
                                        .clip = 1,
                                        .recompute = options.recompute,
                                        .aux_coefficient = aux,
                                        .update_as_ready = options.update_as_ready,
                                        .weight_gradients_beside = options.weight_gradients_beside()};
  train::StepGraphs graphs;
  const auto begin = [&] {
    return options.graph ? graphs.begin(context, model.decoder(), optimizer, batches, step_options)
                         : train::begin_step(context, model.decoder(), optimizer, batches, step_options);
  };
  constexpr std::int64_t kWarmup = 2;
  for (std::int64_t i = 0; i < kWarmup; ++i) result = begin().read();
  std::vector<double> forward, backward, update, total, profiled;
  // As a run does: on a card each is begun before the last one is read.
  const bool ahead = !on_host && optimizer.may_begin_unread();
  Stopwatch watch;
  std::optional<train::PendingStep> next;
  for (std::int64_t i = 0; i < options.steps; ++i) {
    train::PendingStep step = next ? *std::exchange(next, std::nullopt) : begin();
    if (ahead && i + 1 < options.steps) next = begin();
    result = step.read();
    total.push_back(watch.lap_ms());
    forward.push_back(result.forward_ms);
    backward.push_back(result.backward_ms);
    update.push_back(result.optimizer_ms);
  }
  const std::string launches = graphs.text();
  auto profile = context.device().type == device::DeviceType::kCuda
                     ? kernels::Profile(kernels::target_of(context.device()))
                     : kernels::Profile();
  if (options.profile) {
    context.set_profile(&profile);
    (void)watch.lap_ms();
    for (std::int64_t i = 0; i < options.steps; ++i) {
      result = begin().read();
      profiled.push_back(watch.lap_ms());
    }
    context.set_profile(nullptr);
  }
  const std::int64_t most_held =
      on_host ? peak_resident_bytes() : context.ledger().peak_total() + optimizer.most_side_bytes();
  const double above_weights = static_cast<double>(most_held - weights_held) / 0x1p20;
  nlohmann::ordered_json held;  // what for; each at its own peak
  for (std::size_t i = 0; i < device::kNumPurposes; ++i) {
    const auto purpose = static_cast<device::Purpose>(i);
    if (const auto bytes = context.ledger().peak(purpose); bytes > 0)
      held[std::string(name_of(purpose))] = std::round(static_cast<double>(bytes) / 0x1p20);
  }
  const double step_ms = median(total);
  const double tokens = static_cast<double>(result.tokens);
  const double gflops = forecast.flops / 1e9;
  const double least_ms = 1e3 * (kernels::least_seconds(forecast.kernels, ceilings) +
                                 kernels::least_seconds(forecast.update, ceilings));
  const auto slots = profile_rows(profile.slots(ceilings), static_cast<double>(options.steps));
  if (!options.json) {
    fmt::print("{} {} parameters {}{}, {} x {} tokens, {} threads, {} kernels\n", spec.model_type,
               model.decoder().parameters().num_elements(), name_of(dtype), options.fp8 ? " in fp8" : "",
               options.batch, options.seq, threads, kernels::describe(context.device()).kernels);
    fmt::print("forward {:.1f} ms  backward {:.1f} ms  optimizer {:.1f} ms  step {:.1f} ms  {:.0f} tok/s\n",
               median(forward), median(backward), median(update), step_ms, 1e3 * tokens / step_ms);
    fmt::print(
        "peak above weights {:.0f} MiB (MiB by purpose: {})  {:.0f} GFLOP/s = {:.0f}% of {:.0f} measured\n",
        above_weights, held.dump(), gflops / step_ms * 1e3, 100 * gflops / step_ms * 1e3 / peak_gflops,
        peak_gflops);
    fmt::print("speed of light: at least {:.1f} ms kernel by kernel with {:.0f} GB/s, {:.0f}% of the step\n",
               least_ms, ceilings.gb_s, 100 * least_ms / step_ms);
    if (options.graph && !on_host) fmt::print("launches: {}\n", launches);
    if (options.profile) print_profile(slots, mean(profiled));
  }
  nlohmann::ordered_json row{{"fwd_ms", median(forward)},
                             {"bwd_ms", median(backward)},
                             {"opt_ms", median(update)},
                             {"step_ms", step_ms},
                             {"tok_s", 1e3 * tokens / step_ms},
                             {"peak_above_weights_mib", above_weights},
                             {"peak_by_purpose_mib", held},
                             {"gemm_peak_gflops", peak_gflops},
                             {"fraction_of_peak", gflops / step_ms * 1e3 / peak_gflops},
                             {"least_ms", least_ms},
                             {"speed_of_light", least_ms / step_ms},
                             {"loss", result.loss},
                             {"threads", threads},
                             {"dtype", name_of(dtype)},
                             {"fp8", options.fp8},
                             {"launched_as_one", graphs.counts().launched},
                             {"isa", kernels::describe(context.device()).kernels}};
  if (options.profile) row["slots"] = slots;
  if (options.json) fmt::print("{}\n", row.dump());
}

}  // namespace hone::cli
