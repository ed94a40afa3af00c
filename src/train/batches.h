// From the dataset's packs to the micro-batches a step computes.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "model/batch.h"

namespace hone::train {

struct StepBatches {
  std::vector<model::TokenBatch> micro_batches;
  std::vector<std::int64_t> examples;  // of all documents, in their order
};

/// micro_batch packs to a micro-batch. Every example is a document of its own, packed or not.
StepBatches make_batches(const data::Dataset& dataset, const std::vector<std::vector<std::int64_t>>& packs,
                         std::int64_t micro_batch);

}  // namespace hone::train
