#include "train/batches.h"

#include "base/error.h"

namespace hone::train {

static_assert(data::kIgnoredLabel == model::kIgnoredLabel);

StepBatches make_batches(const data::Dataset& dataset, const std::vector<std::vector<std::int64_t>>& packs,
                         std::int64_t micro_batch) {
  HONE_CHECK(micro_batch > 0, "micro_batch is {}", micro_batch);
  StepBatches result;
  for (std::size_t i = 0; i < packs.size(); ++i) {
    if (i % static_cast<std::size_t>(micro_batch) == 0) result.micro_batches.emplace_back();
    for (const std::int64_t index : packs[i]) {
      const auto example = dataset.example(index);
      result.micro_batches.back().add(example.ids, example.labels);
      result.examples.push_back(index);
    }
  }
  return result;
}

}  // namespace hone::train
