#include "cli/bench_dry.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "device/cuda_device.h"
#include "kernels/card_work.h"
#include "kernels/profile.h"
#include "train/forecast.h"

namespace hone::cli {

namespace {

using Json = nlohmann::ordered_json;
using Slots = std::vector<kernels::Profile::Slot>;

constexpr double kMs = 1e3;

/// The parts of a time that are beyond its least, as the table and --json name them.
struct Part {
  const char* name;
  double kernels::WorkTime::*seconds;
  const char* what;
};
constexpr Part kParts[] = {
    {"rate", &kernels::WorkTime::rate, "what the paths do not reach of the card's peaks"},
    {"rounding", &kernels::WorkTime::rounding,
     "tiles that are not full, multiprocessors that wait for the last"},
    {"more_work", &kernels::WorkTime::more_work, "what is computed again, written out and read back"},
    {"launches", &kernels::WorkTime::launches, "starts and ends of launches"},
};

Json card_row(const kernels::Card& card) {
  return {{"name", card.name},
          {"compute_capability", fmt::format("{}.{}", card.major, card.minor)},
          {"multiprocessors", card.multiprocessors},
          {"memory_gib", card.memory_gib},
          {"e4m3_tflops", card.e4m3_tflops},
          {"bf16_tflops", card.bf16_tflops},
          {"f32_tflops", card.f32_tflops},
          {"gb_s", card.gb_s},
          {"source", card.source}};
}

Json memory_row(const train::MemoryForecast& memory) {
  const auto gib = [](std::int64_t bytes) { return static_cast<double>(bytes) / 0x1p30; };
  return {{"weights", gib(memory.weights)},
          {"optimizer", gib(memory.optimizer)},
          {"gradients", gib(memory.gradients)},
          {"activations", gib(memory.activations)},
          {"reserve", gib(memory.reserve)}};
}

Json slot_rows(const Slots& slots, double step_seconds) {
  auto rows = Json::array();
  for (const auto& slot : slots) {
    Json row{{"slot", slot.name},
             {"path", slot.path},
             {"calls", slot.calls},
             {"launches", slot.model.kernels},
             {"ms", kMs * slot.seconds},
             {"share", slot.seconds / step_seconds},
             {"least_ms", kMs * slot.model.least},
             {"gflop", slot.flops / 1e9},
             {"gb", slot.bytes / 1e9}};
    for (const Part& part : kParts) row[fmt::format("{}_ms", part.name)] = kMs * slot.model.*part.seconds;
    for (std::size_t i = 0; i < kernels::kNumPhases; ++i)
      row[fmt::format("{}_ms", name_of(static_cast<kernels::Phase>(i)))] = kMs * slot.seconds_in[i];
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Of the paths that were taken.
Json path_rows(const kernels::Card& card, const Slots& slots, DType dtype) {
  auto rows = Json::array();
  for (const kernels::Path* path : kernels::all_paths()) {
    const bool taken =
        std::any_of(slots.begin(), slots.end(), [&](const auto& slot) { return slot.path == path->name; });
    if (taken)
      rows.push_back({{"path", path->name},
                      {"of_peak", path->of_peak(card, dtype)},
                      {"of_memory", path->of_memory},
                      {"launch_us", path->launch_us},
                      {"why", path->why}});
  }
  return rows;
}

void print_table(const Json& report) {
  fmt::print("\n{:<21} {:<25}{:>6}{:>10}{:>8}{:>10}{:>7}{:>10}{:>8}\n", "slot", "path", "calls", "ms",
             "of step", "least ms", "of it", "TFLOP/s", "GB/s");
  for (const auto& row : report["slots"]) {
    const double ms = row["ms"], least = row["least_ms"];
    fmt::print("{:<21} {:<25}{:>6}{:>10.2f}{:>7.1f}%{:>10.2f}{:>6.0f}%{:>10.0f}{:>8.0f}\n",
               row["slot"].get_ref<const std::string&>(), row["path"].get_ref<const std::string&>(),
               row["calls"].get<std::int64_t>(), ms, 100 * row["share"].get<double>(), least,
               ms > 0 ? 100 * least / ms : 0.0, ms > 0 ? row["gflop"].get<double>() / ms : 0.0,
               ms > 0 ? row["gb"].get<double>() / ms * 1e3 : 0.0);
  }
}

/// The slots that have most of something, with how much: "a 3.0, b 1.2".
std::string most_of(std::vector<std::pair<double, std::string>> slots, std::size_t count) {
  std::sort(slots.rbegin(), slots.rend());
  std::string text;
  for (std::size_t i = 0; i < std::min(count, slots.size()) && slots[i].first >= 0.05; ++i)
    text += fmt::format("{}{} {:.1f}", i > 0 ? ", " : "", slots[i].second, slots[i].first);
  return text;
}

/// What is beyond the least: which slots have it, and what it is.
void print_gap(const Json& report) {
  const auto by_slot = [&](const auto& ms) {
    std::vector<std::pair<double, std::string>> slots;
    for (const auto& row : report["slots"])
      slots.emplace_back(ms(row), row["slot"].template get<std::string>());
    return slots;
  };
  fmt::print("\n{:.1f} ms are beyond the least: {}\n",
             report["step_ms"].get<double>() - report["least_ms"].get<double>(),
             most_of(by_slot([](const Json& row) {
                       return row["ms"].get<double>() - row["least_ms"].get<double>();
                     }),
                     6));
  for (const Part& part : kParts) {
    const std::string key = fmt::format("{}_ms", part.name);
    const std::string most = most_of(by_slot([&](const Json& row) { return row[key].get<double>(); }), 4);
    fmt::print("{:>8.1f}  {}{}\n", report["gap_ms"][part.name].get<double>(), part.what,
               most.empty() ? "" : ": " + most);
  }
  fmt::print("\nthe shares of peak and of memory speed that are assumed, and why:\n");
  for (const auto& row : report["paths"])
    fmt::print("  {}: {:.0f} % and {:.0f} %, {:.0f} us a launch; {}\n",
               row["path"].get_ref<const std::string&>(), 100 * row["of_peak"].get<double>(),
               100 * row["of_memory"].get<double>(), row["launch_us"].get<double>(),
               row["why"].get_ref<const std::string&>());
}

void print_report(const Json& report) {
  const auto& card = report["card"];
  fmt::print("modelled, not measured: no card has run this step\n");
  fmt::print(
      "{}: {:.0f} TFLOP/s bf16, {:.0f} f32, {:.0f} GB/s, {} multiprocessors, {:.1f} GiB ({}); with "
      "cuBLASLt and cuDNN\n",
      card["name"].get_ref<const std::string&>(), card["bf16_tflops"].get<double>(),
      card["f32_tflops"].get<double>(), card["gb_s"].get<double>(), card["multiprocessors"].get<int>(),
      card["memory_gib"].get<double>(), card["source"].get_ref<const std::string&>());
  fmt::print("{} {} parameters {}{}, {} x {} tokens, {} launches\n",
             report["model_type"].get_ref<const std::string&>(), report["parameters"].get<std::int64_t>(),
             report["dtype"].get_ref<const std::string&>(), report["fp8"].get<bool>() ? " in fp8" : "",
             report["batch"].get<std::int64_t>(), report["seq"].get<std::int64_t>(),
             report["launches"].get<double>());
  fmt::print("forward {:.1f} ms  backward {:.1f} ms  optimizer {:.1f} ms  step {:.1f} ms  {:.0f} tok/s\n",
             report["fwd_ms"].get<double>(), report["bwd_ms"].get<double>(), report["opt_ms"].get<double>(),
             report["step_ms"].get<double>(), report["tok_s"].get<double>());
  if (const double hidden = report["hidden_at_best_ms"]; hidden > 0)
    fmt::print(
        "updates run beside backward, one after another here: at best {:.1f} of their {:.1f} ms are hidden, "
        "where its "
        "launches begin and end and where its last tiles leave multiprocessors waiting\n",
        hidden, report["opt_ms"].get<double>());
  if (report["weight_gradients"] == "beside")
    fmt::print(
        "gradients of linear layers' weights run beside backward, one after another here: what that hides is "
        "not modelled\n");
  std::string memory;
  for (const auto& [purpose, gib] : report["memory_gib"].items())
    memory += fmt::format("{}{} {:.1f}", memory.empty() ? "" : ", ", purpose, gib.get<double>());
  const double room = card["memory_gib"].get<double>() - report["peak_gib"].get<double>();
  fmt::print("peak {:.1f} GiB ({}){}{}\n", report["peak_gib"].get<double>(), memory,
             report["counts_scratch"].get<bool>()
                 ? ""
                 : "; kernels' scratch memory is not counted: built without CUDA",
             room < 0 ? fmt::format("; {:.1f} GiB more than the card has", -room) : "");
  fmt::print("speed of light: at least {:.1f} ms kernel by kernel, {:.0f}% of the step\n",
             report["least_ms"].get<double>(), 100 * report["speed_of_light"].get<double>());
  print_table(report);
  print_gap(report);
}

}  // namespace

void bench_step_dry(const BenchStepOptions& options) {
  const auto device = options.compute.device.empty() ? device::default_device()
                                                     : device::parse_device(options.compute.device);
  if (device.type != device::DeviceType::kCuda)
    fail(
        "--dry models NVIDIA cards: add --device cuda (without --dry, a step on this machine's {} is "
        "measured)",
        device::name_of(device));
  const kernels::Card& card = kernels::find_card(options.card);
  const auto description = model::describe(options.config);
  const auto& spec = description.spec;
  model::check_runs(spec);
  model::check_context(spec, options.seq, fmt::format("--seq {}", options.seq));
  const DType dtype = options.compute.compute_dtype().value_or(DType::kF32);
  const std::vector<model::TokenBatch> batches{random_batch(options, spec.vocab)};
  kernels::Profile profile({.card = card});
  const auto forecast =
      train::forecast_steps(spec, dtype, batches,
                            {.recompute = options.recompute,
                             .fp8 = options.fp8,
                             .aux_coefficient = spec.output_router_logits ? spec.aux_coefficient : 0.0,
                             .gradient_dtype = dtype,
                             .optimizer = options.optimizer_options(),
                             .update_as_ready = options.update_as_ready,
                             .weight_gradients_beside = options.weight_gradients_beside(),
                             .device = device,
                             .profile = &profile});

  const Slots slots = profile.slots(ceilings_of(card));
  kernels::WorkTime total;
  std::array<double, kernels::kNumPhases> phases{};
  for (const auto& slot : slots) {
    total += slot.model;
    for (std::size_t i = 0; i < phases.size(); ++i) phases[i] += kMs * slot.seconds_in[i];
  }
  const auto phase = [&](kernels::Phase which) { return phases[static_cast<std::size_t>(which)]; };
  // What updates beside backward can fill: clocks in which multiprocessors of backward's own kernels wait.
  double idle = 0;
  for (const auto& slot : slots) {
    const auto& backward = slot.model_in[static_cast<std::size_t>(kernels::Phase::kBackward)];
    idle += kMs * (backward.launches + backward.rounding);
  }
  const double hidden = options.update_as_ready ? std::min(idle, phase(kernels::Phase::kOptimizer)) : 0;
  Json gap;
  for (const Part& part : kParts) gap[part.name] = kMs * total.*part.seconds;
  const Json report{{"modelled", true},
                    {"card", card_row(card)},
                    {"model_type", spec.model_type},
                    {"parameters", forecast.parameters},
                    {"dtype", name_of(dtype)},
                    {"fp8", options.fp8},
                    {"batch", options.batch},
                    {"seq", options.seq},
                    {"fwd_ms", phase(kernels::Phase::kForward)},
                    {"bwd_ms", phase(kernels::Phase::kBackward)},
                    {"opt_ms", phase(kernels::Phase::kOptimizer)},
                    {"step_ms", kMs * total.total()},
                    {"hidden_at_best_ms", hidden},
                    {"weight_gradients", options.weight_gradients},
                    {"tok_s", static_cast<double>(forecast.tokens) / total.total()},
                    {"least_ms", kMs * total.least},
                    {"speed_of_light", total.least / total.total()},
                    {"gap_ms", gap},
                    {"launches", total.kernels},
                    {"peak_gib", static_cast<double>(forecast.memory.total()) / 0x1p30},
                    {"memory_gib", memory_row(forecast.memory)},
                    {"counts_scratch", device::cuda_report().built},
                    {"slots", slot_rows(slots, total.total())},
                    {"paths", path_rows(card, slots, dtype)}};
  if (options.json)
    print_json(report);
  else
    print_report(report);
}

}  // namespace hone::cli
