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

/// Micro-batches of the next `steps` steps from `cursor` on: the first, those of most tokens, and the one of
/// the longest document (scratch memory goes by that). Reads the lengths of at most the next 2^18 packs, and
/// the tokens of what it gives.
std::vector<model::TokenBatch> demanding_micro_batches(const data::Dataset& dataset, data::Cursor cursor,
                                                       std::int64_t steps, std::int64_t global_batch,
                                                       std::int64_t micro_batch);

}  // namespace hone::train
