#include "train/run_log.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "base/console.h"
#include "base/process_memory.h"
#include "device/memory_of.h"
#include "train/run_forecast.h"
#include "train/start_card.h"
#include "train/step_graphs.h"

namespace hone::train {

namespace {

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

/// The step is known, the record's place in the run follows.
StepRecord record_at(const Run& run, std::int64_t step) {
  return {
      .step = step,
      .steps = run.steps,
      .time = utc_now(),
      .epoch = static_cast<double>(step - run.state.data_since) / static_cast<double>(run.steps_per_epoch),
      .progress = static_cast<double>(step) / static_cast<double>(run.steps)};
}

/// The state's last step whose record no log has: the one before a record that waits.
std::int64_t last_logged_step(const TrainState& state) {
  return state.waiting || state.step == 0 ? state.step - 1 : state.step;
}

/// What is taken of the device's memory that its allocator did not hand out: by the process, and of a card by
/// its driver and by other programs, too.
std::int64_t program_bytes(const ops::Context& context) {
  const std::int64_t held = context.allocator().held_bytes();
  if (!context.stream().shares_host_memory()) {
    const auto memory = device::memory_of(context.device());
    return std::max<std::int64_t>(0, memory.total - memory.available - held);
  }
  trim_heap();  // of reading and tokenising; else it would stay to the end
  return std::max<std::int64_t>(0, resident_bytes() - held);
}

}  // namespace

RunLog::RunLog(const Run& run, std::function<void(const StepRecord&)> each)
    : is_watched_(run.recipe.reports_to("console")),
      sinks_(make_sinks(run.recipe, run.directory, last_logged_step(run.state))),
      each_(std::move(each)) {
  if (run.model->spec().num_moe_layers() > 0) experts_.emplace(run.directory.experts(), run.state.step);
  const DType dtype = run.model->decoder().dtype();
  measure_ceilings(run.context->stream());
  peak_gflops_ = dtype == DType::kBF16 ? ceilings_.bf16_gflops : ceilings_.f32_gflops;
  const auto forecast = forecast_run(run, *run.model, run.recipe);
  least_seconds_per_token_ =
      kernels::least_seconds(forecast.kernels, ceilings_) / static_cast<double>(forecast.tokens);
  least_update_seconds_ = kernels::least_seconds(forecast.update, ceilings_);
  memory_ = forecast.memory;
  memory_.program = program_bytes(*run.context);
}

void RunLog::measure_ceilings(const device::Stream& stream) {
  const auto compute = kernels::measure_compute_peak(stream.device(), stream.team());
  peak_resident_before_ = peak_resident_bytes();
  ceilings_ = {.f32_gflops = compute.f32,
               .bf16_gflops = compute.bf16,
               .gb_s = kernels::measure_copy_rate(stream.device(), stream.team())};
  reset_peak_resident();  // the arrays of the measurement are no part of the run
}

namespace {

std::string launches_text(const Run& run) {
  if (run.recipe.device.type != device::DeviceType::kCuda || !run.recipe.cuda_graph) return "";
  const std::string why = StepGraphs::why_none(*run.context, *run.optimizer);
  return why.empty() ? "steps whose sizes come again are one each, of a CUDA graph"
                     : "kernel by kernel: " + why;
}

}  // namespace

void RunLog::show_start_card(const Run& run) const {
  note("{}", start_card({.recipe = &run.recipe,
                         .model = &*run.model,
                         .train = &*run.train_data,
                         .evaluation_sets = &run.evaluation_sets,
                         .frozen_by_pattern = run.frozen,
                         .steps = run.steps,
                         .steps_per_epoch = run.steps_per_epoch,
                         .first_step = run.state.step,
                         .history = run.state.history,
                         .seq_len = run.seq_len,
                         .threads = run.context->stream().num_threads(),
                         .processor = kernels::describe(run.context->device()).processor,
                         .isa = kernels::describe(run.context->device()).kernels,
                         .launches = launches_text(run),
                         .peak_gflops = peak_gflops_,
                         .peak_gb_s = ceilings_.gb_s,
                         .aux_coefficient = run.aux_coefficient,
                         .memory = memory_,
                         .save_bytes =
                             CheckpointStore::size_bytes(*run.optimizer) + run.model->plan().total_bytes()}));
}

StepRecord RunLog::record_before_first_step(const Run& run) {
  return record_at(run, 0);
}

StepRecord RunLog::record_of(const Run& run, const StepResult& result, double learning_rate, double seconds) {
  const TrainState& state = run.state;
  ++steps_here_;
  seconds_here_ += seconds;
  StepRecord record = record_at(run, state.step);
  record.seconds_left =
      seconds_here_ / static_cast<double>(steps_here_) * static_cast<double>(run.steps - state.step);
  record.loss = result.loss;
  record.average_loss = state.average_loss.value_or(result.loss);
  record.lm_loss = result.lm_loss;
  record.aux_loss = result.aux_loss;
  record.learning_rate = learning_rate;
  record.grad_norm = result.grad_norm;
  record.tokens = result.tokens;
  record.supervised = result.supervised;
  if (result.loss_weight != static_cast<double>(result.supervised)) record.loss_weight = result.loss_weight;
  record.total_tokens = state.tokens;
  record.tokens_per_second = static_cast<double>(result.tokens) / seconds;
  record.step_ms = 1e3 * seconds;
  record.forward_ms = result.forward_ms;
  record.backward_ms = result.backward_ms;
  record.optimizer_ms = result.optimizer_ms;
  record.speed_of_light =
      (static_cast<double>(result.tokens) * least_seconds_per_token_ + least_update_seconds_) / seconds;
  const std::int64_t peak = run.context->stream().shares_host_memory()
                                ? std::max(peak_resident_before_, peak_resident_bytes())
                                : memory_.program + run.context->allocator().held_bytes();
  record.memory_mib = static_cast<double>(peak) / 0x1p20;
  record.skipped = result.skipped;
  record.has_experts = !result.expert_counts.empty();
  for (const auto& counts : result.expert_counts) {
    const auto sum = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    const auto most = *std::max_element(counts.begin(), counts.end());
    if (sum > 0)
      record.expert_imbalance =
          std::max(record.expert_imbalance,
                   static_cast<double>(most) * static_cast<double>(counts.size()) / static_cast<double>(sum));
    record.dead_experts += std::count(counts.begin(), counts.end(), 0);
  }
  return record;
}

void RunLog::step(const StepRecord& record) {
  for (const auto& sink : sinks_) sink->step(record);
}

void RunLog::record(const StepRecord& record) {
  for (const auto& sink : sinks_) sink->record(record);
  if (each_) each_(record);
}

void RunLog::count_experts(TrainState& state, const StepResult& result, std::int64_t steps) {
  if (!experts_ || result.expert_counts.empty()) return;
  auto& sums = state.expert_counts;
  sums.resize(result.expert_counts.size());
  for (std::size_t layer = 0; layer < sums.size(); ++layer) {
    sums[layer].resize(result.expert_counts[layer].size());
    for (std::size_t e = 0; e < sums[layer].size(); ++e) sums[layer][e] += result.expert_counts[layer][e];
  }
  // At most about 100 rows: one for every hundredth of the run.
  const std::int64_t window = std::max<std::int64_t>(1, (steps + 99) / 100);
  if (state.step % window != 0 && state.step != steps) return;
  experts_->write({{"step", state.step}, {"counts", sums}});
  sums.clear();
}

void RunLog::sync() {
  for (const auto& sink : sinks_) sink->sync();
  if (experts_) experts_->sync();
}

}  // namespace hone::train
