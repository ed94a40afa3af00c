#include "train/batches.h"

#include <algorithm>

#include "base/error.h"

namespace hone::train {

StepBatches make_batches(const data::Dataset& dataset, const std::vector<std::vector<std::int64_t>>& packs,
                         std::int64_t micro_batch) {
  HONE_CHECK(micro_batch > 0, "micro_batch is {}", micro_batch);
  StepBatches result;
  for (std::size_t i = 0; i < packs.size(); ++i) {
    if (i % static_cast<std::size_t>(micro_batch) == 0) result.micro_batches.emplace_back();
    for (const std::int64_t index : packs[i]) {
      const auto example = dataset.example(index);
      result.micro_batches.back().add(example.ids, example.labels, example.weights);
      result.examples.push_back(index);
    }
  }
  return result;
}

std::vector<model::TokenBatch> demanding_micro_batches(const data::Dataset& dataset, data::Cursor cursor,
                                                       std::int64_t steps, std::int64_t global_batch,
                                                       std::int64_t micro_batch) {
  constexpr std::int64_t kMostPacks = std::int64_t{1} << 18;  // some tenths of a second
  constexpr std::size_t kLargest = 8;  // how many of a large batch's tokens are learnt from differs
  struct Candidate {
    std::vector<std::vector<std::int64_t>> packs;
    std::int64_t tokens = 0, longest = 0;
  };
  Candidate first, longest;
  std::vector<Candidate> largest;  // in falling order
  std::int64_t packs_left = kMostPacks;
  for (std::int64_t step = 0; step < steps && packs_left > 0; ++step) {
    const auto packs = dataset.next_batch(cursor, global_batch);
    packs_left -= static_cast<std::int64_t>(packs.size());
    for (std::size_t i = 0; i < packs.size(); i += static_cast<std::size_t>(micro_batch)) {
      Candidate next;
      const auto end = std::min(packs.size(), i + static_cast<std::size_t>(micro_batch));
      next.packs.assign(packs.begin() + static_cast<std::ptrdiff_t>(i),
                        packs.begin() + static_cast<std::ptrdiff_t>(end));
      for (const auto& pack : next.packs) {
        for (const std::int64_t example : pack) {
          next.tokens += dataset.length(example);
          next.longest = std::max(next.longest, dataset.length(example));
        }
      }
      if (first.packs.empty()) first = next;
      if (next.longest > longest.longest) longest = next;
      if (largest.size() == kLargest && largest.back().tokens >= next.tokens) continue;
      const auto place =
          std::find_if(largest.begin(), largest.end(), [&](const auto& c) { return c.tokens < next.tokens; });
      largest.insert(place, std::move(next));
      if (largest.size() > kLargest) largest.pop_back();
    }
  }
  largest.insert(largest.begin(), {std::move(first), std::move(longest)});
  std::vector<model::TokenBatch> batches;
  for (const auto& candidate : largest)
    batches.push_back(make_batches(dataset, candidate.packs, micro_batch).micro_batches.at(0));
  return batches;
}

}  // namespace hone::train
