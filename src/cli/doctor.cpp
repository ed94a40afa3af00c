// hone doctor: what this machine has, and what hone will use of it, and why.
#include <CLI/CLI.hpp>

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/cores.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "device/cuda_device.h"
#include "device/stream.h"
#include "kernels/card_work.h"
#include "kernels/peak.h"

namespace hone::cli {

namespace {

/// How slots' large calls are done on a card, and why not faster.
nlohmann::ordered_json path_rows(const std::vector<kernels::SlotPath>& paths) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto& slot : paths) {
    nlohmann::ordered_json row{{"slot", slot.slot}, {"path", slot.path}};
    if (!slot.faster.empty()) row.update({{"faster", slot.faster}, {"why_not", slot.why_not}});
    rows.push_back(std::move(row));
  }
  return rows;
}

/// A row for each path: its slots, and why they take no faster one.
void show_paths(Card& card, const std::string& name, const nlohmann::ordered_json& rows) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const auto& row : rows) {
    std::string text = row["path"].get<std::string>();
    if (row.contains("faster"))
      text +=
          fmt::format(" (not {}: {})", row["faster"].get<std::string>(), row["why_not"].get<std::string>());
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == text; });
    if (group == groups.end()) group = groups.insert(groups.end(), {text, {}});
    group->second.push_back(row["slot"].get<std::string>());
  }
  for (const auto& [text, slots] : groups)
    card.row(name, slots.size() > 6 ? fmt::format("{}: {} others", text, slots.size())
                                    : fmt::format("{}: {}", text, fmt::join(slots, ", ")));
}

/// Of each card what it is and what it comes to; or why there is none.
nlohmann::ordered_json describe_cards(const device::CudaReport& report, Team& team) {
  nlohmann::ordered_json result{{"built_with_cuda", report.built}};
  if (report.built) result["cuda_runtime"] = report.runtime;
  if (!report.driver.empty()) result["cuda_driver"] = report.driver;
  if (!report.why_none.empty()) result["why_none"] = report.why_none;
  result["cards"] = nlohmann::ordered_json::array();
  for (const auto& card : report.cards) {
    const device::Device device{device::DeviceType::kCuda, card.index};
    nlohmann::ordered_json row{{"device", name_of(device)},
                               {"name", card.name},
                               {"compute_capability", fmt::format("{}.{}", card.major, card.minor)},
                               {"multiprocessors", card.multiprocessors},
                               {"memory_gib", static_cast<double>(card.memory_bytes) / 0x1p30}};
    try {
      const auto description = kernels::describe(device);
      row["dense_products"] = description.library;
      row["attention"] = description.attention_library;
      row["paths"] = path_rows(kernels::slot_paths(kernels::target_of(device)));
      row["paths_in_fp8"] = path_rows(kernels::fp8_paths(kernels::target_of(device)));
      const auto compute = kernels::measure_compute_peak(device, team);
      const auto memory = kernels::measure_memory_peak(device, team);
      row["memory_available_gib"] = static_cast<double>(device::memory_of(device).available) / 0x1p30;
      row["peak_gflops_f32"] = compute.f32;
      row["peak_gflops_bf16"] = compute.bf16;
      row["memory_read_gb_s"] = memory.read;
      row["memory_copy_gb_s"] = memory.copy;
    } catch (const Error& e) {
      row["why_not"] = e.what();
    }
    result["cards"].push_back(std::move(row));
  }
  return result;
}

void show_cards(Card& card, const nlohmann::ordered_json& gpu) {
  if (gpu.contains("why_none")) card.row("gpu", "none: " + gpu["why_none"].get<std::string>());
  for (const auto& row : gpu["cards"]) {
    std::string text = fmt::format("{}: {}, compute capability {}, {} multiprocessors, {:.1f} GiB",
                                   row["device"].get<std::string>(), row["name"].get<std::string>(),
                                   row["compute_capability"].get<std::string>(),
                                   row["multiprocessors"].get<int>(), row["memory_gib"].get<double>());
    if (row.contains("why_not"))
      text += "; not used: " + row["why_not"].get<std::string>();
    else
      text += fmt::format(
          " ({:.1f} free), {:.0f} TFLOP/s f32, {:.0f} bf16, {:.0f} GB/s copied; CUDA {}, the driver runs {}",
          row["memory_available_gib"].get<double>(), row["peak_gflops_f32"].get<double>() / 1e3,
          row["peak_gflops_bf16"].get<double>() / 1e3, row["memory_copy_gb_s"].get<double>(),
          gpu["cuda_runtime"].get<std::string>(), gpu["cuda_driver"].get<std::string>());
    card.row("gpu", text);
    if (row.contains("dense_products"))
      card.row("products", "large dense ones: " + row["dense_products"].get<std::string>());
    if (row.contains("attention"))
      card.row("attention", "large, forward: " + row["attention"].get<std::string>());
    if (row.contains("paths")) {
      show_paths(card, "path", row["paths"]);
      show_paths(card, "path, fp8", row["paths_in_fp8"]);
    }
  }
}

void run(bool json) {
  Team team;
  const int threads = team.num_threads();
  const device::Device device;
  const auto description = kernels::describe(device);
  const auto compute = kernels::measure_compute_peak(device, team);
  const auto memory = kernels::measure_memory_peak(device, team);
  struct sysinfo system {};
  ::sysinfo(&system);
  const double total = static_cast<double>(system.totalram) * system.mem_unit;
  const auto gpu = describe_cards(device::cuda_report(), team);
  nlohmann::ordered_json row{
      {"processor", description.processor},
      {"cores", threads},
      {"memory_gib", total / 0x1p30},
      {"instruction_sets", description.available},
      {"used", description.kernels},
      {"forced_by_environment", !description.forced_by.empty()},
      {"peak_gflops_f32", compute.f32},
      {"f32_by_three_bf16_parts", compute.f32_by_parts},
      {"peak_gflops_bf16", compute.bf16},
      {"memory_read_gb_s", memory.read},
      {"memory_copy_gb_s", memory.copy},
      {"gpu", gpu},
      {"libraries",
       {{"fmt", FMT_VERSION},
        {"nlohmann_json", NLOHMANN_JSON_VERSION_MAJOR * 10000 + NLOHMANN_JSON_VERSION_MINOR * 100 +
                              NLOHMANN_JSON_VERSION_PATCH}}}};
  if (json) {
    print_json(row);
    return;
  }
  Card card;
  card.row("cpu", fmt::format("{}, {} cores for this process, {}", description.processor, threads,
                              bytes_text(total)));
  card.row("kernels", fmt::format("{} will be used{}; this processor runs: {}", description.kernels,
                                  description.forced_by.empty()
                                      ? ", the best of them"
                                      : fmt::format(" ({} asks for it)", description.forced_by),
                                  fmt::join(description.available, ", ")));
  card.row("bf16", description.multiplies_bf16 ? "multiplied in hardware: train in bf16 for speed"
                                               : "widened to f32 for products: saves memory, not time");
  card.row("peak", fmt::format("{:.0f} GFLOP/s f32{}, {:.0f} bf16, from registers or the first cache; memory "
                               "{:.0f} GB/s read, {:.0f} copied",
                               compute.f32, compute.f32_by_parts ? " (by three bf16 parts)" : "",
                               compute.bf16, memory.read, memory.copy));
  card.row("threads",
           fmt::format("{}, one per core; pinned{} (train.threads and --threads set another number)", threads,
                       pinning_is_off() ? " no: HONE_PIN is 0" : ""));
  show_cards(card, gpu);
  fmt::print("{}", card.str());
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("doctor", "show what this machine has, what hone will use, and why");
  add_json_to(*verb, *json);
  verb->callback([json] { run(*json); });
}

}  // namespace hone::cli
