// hone bench step: full training steps on random weights and tokens.
#pragma once

#include <cstdint>
#include <string>

#include "cli/options.h"

namespace hone::cli {

struct BenchStepOptions {
  std::string config;
  std::int64_t batch = 1, seq = 512, steps = 10;
  bool recompute = false, profile = false, json = false;
  ComputeOptions compute;
};

void bench_step(const BenchStepOptions& options);

}  // namespace hone::cli
