// How the rows of a layer's experts are cut into pieces of work, and whether whole pieces keep the threads
// busy.
#pragma once

#include <vector>

#include "kernels/cpu/isa.h"

namespace hone::kernels::cpu {

/// Consecutive rows of one expert, in expert order.
struct ExpertBlock {
  Index expert, begin, end;
  [[gnu::always_inline]] Index rows() const { return end - begin; }
};

/// The blocks of all experts that have rows, those with the most rows first. Members are out of line because
/// instruction-set units use them.
class ExpertPlan {
 public:
  /// offsets: (experts + 1) first rows. No block has more than max_rows rows.
  /// offsets null (meta): `rows` rows, evenly spread.
  ExpertPlan(const std::int32_t* offsets, Index experts, Index rows, Index max_rows);
  ~ExpertPlan();
  ExpertPlan(const ExpertPlan&) = delete;
  ExpertPlan& operator=(const ExpertPlan&) = delete;

  Index size() const;
  const ExpertBlock& operator[](Index i) const;
  /// Rows of the largest block.
  Index largest() const;
  /// Whether blocks taken one after another by `threads` threads leave none idle for long.
  bool balanced(int threads) const;

 private:
  std::vector<ExpertBlock> blocks_;
};

}  // namespace hone::kernels::cpu
