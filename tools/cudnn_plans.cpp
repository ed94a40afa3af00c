// Has the real cuDNN plan hone's graphs for cards that are not here (scripts/check_cudnn_plans.sh). Each
// line: card, shape, workspace or why there is none. Exit code 1 where a graph that hone would hand over has
// no plan.
#include <fmt/format.h>

#include <chrono>
#include <string>

#include "kernels/cuda/cudnn_graph.h"

namespace {

using hone::kernels::cuda::SdpaPlanner;
using hone::kernels::cuda::SdpaShape;

/// As the library reads it; what it does not know it passes over.
std::string card(int compute_capability, int processors) {
  return fmt::format(
      R"({{"deviceVer":{},"driverVer":13000,"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],)"
      R"("regsPerBlock":65536,"multiProcessorCount":{},"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
      R"("maxSharedMemoryPerBlockOptin":232448,"oversizedSharedMemoryPerBlock":0,"reservedSharedMemoryPerBlock":1024,)"
      R"("maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,)"
      R"("isTccDriver":0,"supportCoopLaunch":1,"smClockRateKHz":1980000,"memClockRateKHz":3201000,)"
      R"("memoryBusWidth":6144,"l2CacheSize":52428800,"deviceName":"none","totalGlobalMem":140000000000,)"
      R"("cudaDeviceId":0}})",
      compute_capability, processors);
}

SdpaShape shape(std::int64_t sequences, std::int64_t length, std::int64_t heads, std::int64_t kv_heads,
                std::int64_t dim, std::int64_t window, bool lse, std::int64_t gap) {
  return {.sequences = sequences,
          .max_length = length,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_dim = dim,
          .window = window,
          .q_stride = heads * dim + gap,
          .k_stride = kv_heads * dim + gap,
          .v_stride = kv_heads * dim + gap,
          .out_stride = heads * dim,
          .wants_lse = lse};
}

}  // namespace

int main() {
  const auto& library = hone::kernels::cuda::cudnn_library();
  if (!library.missing.empty()) {
    fmt::print(stderr, "cudnn_plans: {}\n", library.missing);
    return 1;
  }
  fmt::print("cuDNN {} ({})\n", library.cudnnGetVersion(), library.path);
  int failed = 0;
  for (const auto& [name, capability, processors] :
       {std::tuple{"9.0", 900, 132}, std::tuple{"10.0", 1000, 148}}) {
    SdpaPlanner planner(hone::kernels::cuda::cudnn_card_from(card(capability, processors)));
    for (const SdpaShape& s :
         {shape(4, 2048, 32, 8, 128, 0, true, 0), shape(4, 1024, 32, 8, 128, 0, true, 0),
          shape(37, 8192, 32, 8, 128, 0, true, 0), shape(1, 256, 32, 8, 128, 0, true, 0),
          shape(4, 2048, 32, 8, 128, 512, true, 0), shape(4, 2048, 32, 8, 128, 0, false, 2048),
          shape(7, 768, 16, 16, 64, 128, false, 64), shape(3, 4096, 16, 2, 256, 0, true, 0),
          shape(3, 4096, 12, 12, 96, 0, true, 0), shape(5, 512, 4, 2, 16, 0, true, 8),
          shape(5, 512, 6, 2, 40, 33, true, 0), shape(512, 32768, 128, 8, 128, 0, true, 0)}) {
      const auto begin = std::chrono::steady_clock::now();
      const auto plan = planner.plan(s, (std::int64_t{64} << 10) + 1024 * s.sequences);
      const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
      fmt::print(
          "{:>4}  {:>3} x {:<5} heads {}/{} of {:<3} window {:<3} {}: {} ({:.0f} ms)\n", name, s.sequences,
          s.max_length, s.heads, s.kv_heads, s.head_dim, s.window, s.wants_lse ? "lse" : "   ",
          plan.refusal.empty() ? fmt::format("workspace {}", plan.workspace) : plan.refusal, took.count());
      failed += plan.refusal.empty() ? 0 : 1;
    }
  }
  return failed == 0 ? 0 : 1;
}
