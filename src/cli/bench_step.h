// hone bench step: full training steps on random weights and tokens.
#pragma once

#include <cstdint>
#include <string>

#include "cli/options.h"
#include "train/optimizer.h"

namespace hone::cli {

struct BenchStepOptions {
  std::string config;
  std::int64_t batch = 1, seq = 512, steps = 10;
  bool recompute = false, fp8 = false, profile = false, json = false;
  std::string state = "f32", master = "f32";  // as train.optimizer.state and .master
  bool update_as_ready = false;               // as train.optimizer.update
  std::string weight_gradients = "in_order";  // as train.weight_gradients
  bool graph = true;                          // as train.cuda_graph
  bool dry = false;                           // modelled (bench_dry.h), for this card:
  std::string card = "H200";
  ComputeOptions compute;

  train::OptimizerOptions optimizer_options() const;
  bool weight_gradients_beside() const { return weight_gradients == "beside"; }
};

/// Rows of random tokens, all of them supervised.
model::TokenBatch random_batch(const BenchStepOptions& options, std::int64_t vocab);

void bench_step(const BenchStepOptions& options);

}  // namespace hone::cli
