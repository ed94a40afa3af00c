// hone doctor: what this machine has, and what hone will use of it, and why.
#include <CLI/CLI.hpp>

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/cores.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "device/stream.h"
#include "kernels/peak.h"

namespace hone::cli {

namespace {

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
  card.row("gpu", "none is used: hone computes on the CPU so far");
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
