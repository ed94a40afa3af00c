#include "kernels/cpu/expert_plan.h"

#include <algorithm>
#include <numeric>

namespace hone::kernels::cpu {

namespace {

/// What a block costs: its rows, and the weights that have to be read however few they are.
Index block_cost(const ExpertBlock& block) {
  return block.rows() + 16;
}

}  // namespace

ExpertPlan::ExpertPlan(const std::int32_t* offsets, Index experts, Index rows, Index max_rows) {
  const auto first = [&](Index e) { return offsets != nullptr ? Index{offsets[e]} : rows * e / experts; };
  for (Index e = 0; e < experts; e++) {
    const Index begin = first(e), its_rows = first(e + 1) - begin, pieces = ceil_div(its_rows, max_rows);
    for (Index p = 0; p < pieces; p++) {
      blocks_.push_back({e, begin + its_rows * p / pieces, begin + its_rows * (p + 1) / pieces});
    }
  }
  std::stable_sort(blocks_.begin(), blocks_.end(),
                   [](const ExpertBlock& a, const ExpertBlock& b) { return a.rows() > b.rows(); });
}

ExpertPlan::~ExpertPlan() = default;

Index ExpertPlan::size() const {
  return static_cast<Index>(blocks_.size());
}

const ExpertBlock& ExpertPlan::operator[](Index i) const {
  return blocks_[static_cast<std::size_t>(i)];
}

Index ExpertPlan::largest() const {
  return blocks_.empty() ? 0 : blocks_.front().rows();
}

bool ExpertPlan::balanced(int threads) const {
  std::vector<Index> busy(static_cast<std::size_t>(threads));  // until when, each thread
  for (const ExpertBlock& block : blocks_) *std::min_element(busy.begin(), busy.end()) += block_cost(block);
  const Index longest = *std::max_element(busy.begin(), busy.end());
  const Index total = std::accumulate(busy.begin(), busy.end(), Index{0});
  return static_cast<double>(longest * threads) <= 1.15 * static_cast<double>(total);
}

}  // namespace hone::kernels::cpu
