#include "kernels/peak.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "base/stopwatch.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cuda/card.h"

namespace hone::kernels {

namespace {

using cpu::Index;
using cpu::PeakLoops;

constexpr const char* kCpuIsaVariable = "HONE_CPU_ISA";

// Plain loops for the reference table, as the compiler makes them for the oldest processor.
double plain_multiply_add(Index rounds) {
  std::array<float, 48> sums{};
  for (Index i = 0; i < rounds; i++)
    for (float& sum : sums) sum = sum * 0.999F + 1e-9F;
  volatile float keep = 0;
  for (const float sum : sums) keep = sum;
  (void)keep;
  return static_cast<double>(rounds) * sums.size() * 2;
}
double plain_sum(const float* a, Index n, float* result) {
  std::array<float, 16> sums{};
  for (Index j = 0; j < n; j += 16)
    for (Index i = 0; i < 16; i++) sums[static_cast<std::size_t>(i)] += a[j + i];
  *result = 0;
  for (const float sum : sums) *result += sum;
  return static_cast<double>(n) * sizeof(float);
}
double plain_copy(float* a, const float* b, Index n) {
  std::copy_n(b, n, a);
  return static_cast<double>(n) * sizeof(float) * 2;
}
double plain_triad(float* a, const float* b, const float* c, Index n) {
  for (Index j = 0; j < n; j++) a[j] = b[j] + 0.5F * c[j];
  return static_cast<double>(n) * sizeof(float) * 3;
}

PeakLoops loops_of(CpuIsa isa) {
  cpu_kernels(isa);  // throws where the processor lacks it
  switch (isa) {
    case CpuIsa::kAvx2:
      return cpu::peak_loops<cpu::Avx2>();
#if HONE_AVX512
    case CpuIsa::kAvx512:
      return cpu::peak_loops<cpu::Avx512>();
    case CpuIsa::kAvx512Bf16:
      return cpu::peak_loops<cpu::Avx512Bf16>();
    case CpuIsa::kAvx512Amx:
      return cpu::peak_loops<cpu::Avx512Amx>();
#endif
    default:
      break;
  }
  return {plain_multiply_add, nullptr, nullptr, plain_sum, plain_copy, plain_triad};
}

/// The best of several tries, in units of 1e9 a second: work(thread) runs on every thread and returns its
/// amount.
template <typename Work>
double best_rate(Team& team, int tries, const Work& work) {
  double best = 0;
  for (int i = 0; i < tries; ++i) {
    std::atomic<double> amount = 0;
    const Stopwatch watch;
    team.parallel_ranges(team.num_threads(), team.num_threads(), [&](Index begin, Index end, int) {
      for (Index thread = begin; thread < end; ++thread) amount += work(static_cast<int>(thread));
    });
    best = std::max(best, amount / watch.seconds() / 1e9);
  }
  return best;
}

/// Arrays of floats, cut into a part for every thread, which touches it first.
template <std::size_t kCount>
class Arrays {
 public:
  Arrays(Index elements, Team& team) : elements_(elements), threads_(team.num_threads()) {
    const auto allocator = device::make_allocator({});
    for (std::size_t i = 0; i < kCount; ++i) {
      buffers_[i] = allocator->allocate(static_cast<std::size_t>(elements) * sizeof(float),
                                        device::Purpose::kWorkspace);
      arrays_[i] = static_cast<float*>(buffers_[i]->data());
    }
    team.parallel_ranges(threads_, threads_, [&](Index begin, Index end, int) {
      for (std::size_t i = 0; i < kCount; ++i)
        std::fill(part(i, static_cast<int>(begin)), part(i, static_cast<int>(end)), 1.0F);
    });
  }
  float* part(std::size_t array, int thread) const { return arrays_[array] + begin(thread); }
  Index size(int thread) const { return begin(thread + 1) - begin(thread); }

 private:
  Index begin(int thread) const { return elements_ / 64 * thread / threads_ * 64; }
  Index elements_;
  int threads_;
  std::array<std::shared_ptr<device::Buffer>, kCount> buffers_;
  std::array<float*, kCount> arrays_{};
};

/// The instruction set of a device's kernels.
CpuIsa isa_of(device::Device device) {
  switch (device.type) {
    case device::DeviceType::kCpu:
      return choose_cpu_isa();
    case device::DeviceType::kCuda:
    case device::DeviceType::kMeta:
      break;
  }
  HONE_CHECK(false, "{} has no instruction set", device::name_of(device));
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

DeviceDescription describe(device::Device device) {
  if (device.type == device::DeviceType::kCuda) return describe_card(device);
  const CpuIsa isa = isa_of(device);
  DeviceDescription description;
  description.processor = processor_name();
  description.kernels = name_of(isa);
  const char* forced = std::getenv(kCpuIsaVariable);
  if (forced != nullptr && *forced != '\0') description.forced_by = kCpuIsaVariable;
  for (const CpuIsa each : available_cpu_isas()) description.available.emplace_back(name_of(each));
  description.multiplies_bf16 = isa == CpuIsa::kAvx512Bf16 || isa == CpuIsa::kAvx512Amx;
  return description;
}

ComputePeak measure_compute_peak(device::Device device, Team& team) {
  if (device.type == device::DeviceType::kCuda) return measure_card_compute(device);
  return measure_compute_peak(isa_of(device), team);
}

MemoryPeak measure_memory_peak(device::Device device, Team& team) {
  if (device.type == device::DeviceType::kCuda) return measure_card_memory(device);
  return measure_memory_peak(isa_of(device), team);
}

double measure_copy_rate(device::Device device, Team& team) {
  if (device.type == device::DeviceType::kCuda) return measure_card_memory(device).copy;
  return measure_copy_rate(isa_of(device), team);
}

ComputePeak measure_compute_peak(CpuIsa isa, Team& team) {
  constexpr Index kRounds = 400'000;
  const PeakLoops loops = loops_of(isa);
  ComputePeak peak;
  peak.f32 = best_rate(team, 10, [&](int) { return loops.multiply_add(kRounds); });
  peak.bf16 = peak.f32;
  if (loops.split_f32 != nullptr) {
    const double split = best_rate(team, 10, [&](int) { return loops.split_f32(kRounds); });
    peak.f32_by_parts = split > peak.f32;
    peak.f32 = std::max(peak.f32, split);
  }
  if (loops.dot_bf16 != nullptr)
    peak.bf16 = best_rate(team, 10, [&](int) { return loops.dot_bf16(kRounds); });
  return peak;
}

MemoryPeak measure_memory_peak(CpuIsa isa, Team& team) {
  const PeakLoops loops = loops_of(isa);
  const Arrays<3> arrays(Index{32} << 20, team);  // 128 MiB each: beyond the caches of most machines
  MemoryPeak peak;
  std::vector<float> sums(static_cast<std::size_t>(team.num_threads()) * 16);  // a cache line apart
  peak.read = best_rate(team, 5, [&](int t) {
    return loops.sum(arrays.part(0, t), arrays.size(t), &sums[static_cast<std::size_t>(t) * 16]);
  });
  peak.copy = best_rate(
      team, 5, [&](int t) { return loops.copy(arrays.part(0, t), arrays.part(1, t), arrays.size(t)); });
  peak.triad = best_rate(team, 5, [&](int t) {
    return loops.triad(arrays.part(0, t), arrays.part(1, t), arrays.part(2, t), arrays.size(t));
  });
  return peak;
}

double measure_copy_rate(CpuIsa isa, Team& team) {
  const PeakLoops loops = loops_of(isa);
  const Arrays<2> arrays(Index{16} << 20, team);
  return best_rate(team, 3,
                   [&](int t) { return loops.copy(arrays.part(0, t), arrays.part(1, t), arrays.size(t)); });
}

double least_seconds(const Cost& cost, const Ceilings& ceilings) {
  const double gflops = cost.dtype == DType::kBF16     ? ceilings.bf16_gflops
                        : cost.dtype == DType::kF8E4M3 ? ceilings.e4m3_gflops
                                                       : ceilings.f32_gflops;
  return std::max(gflops > 0 ? cost.flops / (gflops * 1e9) : 0,
                  ceilings.gb_s > 0 ? cost.bytes / (ceilings.gb_s * 1e9) : 0);
}

double least_seconds(std::span<const device::KernelCost> kernels, const Ceilings& ceilings) {
  double seconds = 0;
  for (const auto& kernel : kernels) seconds += least_seconds(kernel.cost, ceilings);
  return seconds;
}

}  // namespace hone::kernels
