// hone bench kernels: each kernel alone, at the shapes of a small mixture-of-experts model.
#pragma once

#include "cli/options.h"

namespace hone::cli {

struct BenchKernelsOptions {
  int repeat = 7;
  bool json = false;
  ComputeOptions compute;
};

void bench_kernels(const BenchKernelsOptions& options);

}  // namespace hone::cli
