// The start card: what this run is, before its first step.
#pragma once

#include <string>

#include "data/dataset.h"
#include "model/causal_lm.h"
#include "train/checkpoint.h"
#include "train/forecast.h"
#include "train/recipe.h"
#include "train/run_data.h"

namespace hone::train {

struct StartCardFacts {
  const Recipe* recipe = nullptr;
  const model::CausalLM* model = nullptr;
  const data::Dataset* train = nullptr;
  const std::vector<EvaluationSet>* evaluation_sets = nullptr;
  std::vector<std::int64_t> frozen_by_pattern;
  std::int64_t steps = 0, steps_per_epoch = 0, first_step = 0;
  std::vector<Extension> history = {};
  std::int64_t seq_len = 0;
  int threads = 0;
  std::string processor;  // its maker's name for it
  std::string isa;
  std::string launches = {};  // how a card's steps are launched; "": nothing is said
  double peak_gflops = 0, peak_gb_s = 0;
  double aux_coefficient = 0;
  MemoryForecast memory;
  std::uint64_t save_bytes = 0;
};

/// Device, model, data, what trains, batch arithmetic, memory by purpose, the rehearsed save; pass-through
/// tensors and unknown config keys by name.
std::string start_card(const StartCardFacts& facts);

}  // namespace hone::train
