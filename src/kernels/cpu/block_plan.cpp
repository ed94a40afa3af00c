#include "kernels/cpu/block_plan.h"

#include <algorithm>

namespace hone::kernels::cpu {

namespace {

/// Predicted time of the slowest thread, in multiplications of one k.
double predicted_time(const BlockProblem& p, Index rows, Index columns) {
  const auto r = static_cast<double>(rows), c = static_cast<double>(columns);
  const double block = r * c + p.pack_left * r + p.pack_right * c;
  const auto rounds = static_cast<double>(ceil_div(ceil_div(p.m, rows) * ceil_div(p.n, columns), p.threads));
  // When the last block is taken, some thread may be far behind: small blocks make that cheap.
  const double lag = p.threads > 1 ? 0.25 : 0.0;
  return block * (rounds + lag);
}

}  // namespace

BlockPlan plan_blocks(const BlockProblem& p) {
  const Index max_rows = std::min(p.m, p.max_rows),
              max_columns = std::min(round_up(p.n, p.panel), p.max_columns);
  BlockPlan best{};
  double best_time = 0;
  for (Index row_blocks = ceil_div(p.m, max_rows); row_blocks <= ceil_div(p.m, p.tile_rows);) {
    const Index rows = ceil_div(p.m, row_blocks);
    for (Index column_blocks = ceil_div(p.n, max_columns); column_blocks <= ceil_div(p.n, p.panel);) {
      const Index columns = round_up(ceil_div(p.n, column_blocks), p.panel);
      const double time = predicted_time(p, rows, columns);
      if (best.rows == 0 || time < best_time) {
        best = {rows, columns, ceil_div(p.m, rows), ceil_div(p.n, columns)};
        best_time = time;
      }
      column_blocks = std::max(column_blocks + 1, column_blocks * 9 / 8);
    }
    row_blocks = std::max(row_blocks + 1, row_blocks * 9 / 8);
  }
  return best;
}

}  // namespace hone::kernels::cpu
