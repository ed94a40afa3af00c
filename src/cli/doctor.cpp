// hone doctor: what this machine has, and what hone will use of it, and why.
#include <CLI/CLI.hpp>

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "device/stream.h"
#include "kernels/peak.h"

namespace hone::cli {

namespace {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void run(bool json) {
  const int threads = device::available_cores();
  const auto isa = kernels::choose_cpu_isa();
  const auto compute = kernels::measure_compute_peak(isa, threads);
  const auto memory = kernels::measure_memory_peak(isa, threads);
  struct sysinfo system {};
  ::sysinfo(&system);
  const double total = static_cast<double>(system.totalram) * system.mem_unit;
  std::vector<std::string> isas;
  for (const auto available : kernels::available_cpu_isas()) isas.emplace_back(kernels::name_of(available));
  const std::string forced = environment("HONE_CPU_ISA");
  nlohmann::ordered_json row{
      {"processor", processor_name()},
      {"cores", threads},
      {"memory_gib", total / 0x1p30},
      {"instruction_sets", isas},
      {"used", kernels::name_of(isa)},
      {"forced_by_environment", !forced.empty()},
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
  card.row("cpu",
           fmt::format("{}, {} cores for this process, {}", processor_name(), threads, bytes_text(total)));
  card.row("kernels", fmt::format("{} will be used{}; this processor runs: {}", kernels::name_of(isa),
                                  forced.empty() ? ", the best of them" : " (HONE_CPU_ISA asks for it)",
                                  fmt::join(isas, ", ")));
  card.row("bf16", isa == kernels::CpuIsa::kAvx512Bf16 || isa == kernels::CpuIsa::kAvx512Amx
                       ? "multiplied in hardware: train in bf16 for speed"
                       : "widened to f32 for products: saves memory, not time");
  card.row("peak", fmt::format("{:.0f} GFLOP/s f32{}, {:.0f} bf16, from registers or the first cache; memory "
                               "{:.0f} GB/s read, {:.0f} copied",
                               compute.f32, compute.f32_by_parts ? " (by three bf16 parts)" : "",
                               compute.bf16, memory.read, memory.copy));
  card.row("threads",
           fmt::format("{}, one per core; pinned{} (train.threads and --threads set another number)", threads,
                       environment("HONE_PIN") == "0" ? " no: HONE_PIN is 0" : ""));
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
