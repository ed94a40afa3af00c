// What a micro-batch costs, found by running the same program on the meta device.
#pragma once

#include <string>
#include <vector>

#include "model/decoder.h"

namespace hone::train {

struct MicroBatchForecast {
  double flops = 0;             // forward and backward
  double bytes = 0;             // moved to and from memory by the kernels
  double activation_bytes = 0;  // the most that activations, their gradients and scratch hold at once
};

struct ForecastOptions {
  bool recompute = false;
  double aux_coefficient = 0;
  std::vector<std::string> freeze = {};  // as ParameterSet::set_trainable: what is frozen costs no gradient
  int threads = 1;                       // each has scratch memory of its own
};

/// Runs forward, loss and backward of `batch` for a model of this spec without bytes. Costs milliseconds.
MicroBatchForecast forecast_micro_batch(const model::DecoderSpec& spec, DType dtype,
                                        const model::TokenBatch& batch, const ForecastOptions& options);

}  // namespace hone::train
