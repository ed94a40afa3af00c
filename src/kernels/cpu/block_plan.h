// How a product is cut into blocks, which threads then take one after another.
#pragma once

#include "kernels/cpu/isa.h"

namespace hone::kernels::cpu {

/// What the choice of blocks depends on.
struct BlockProblem {
  Index m, n;                   // rows and columns of the product
  Index tile_rows, panel;       // of the micro-kernel
  Index max_rows, max_columns;  // of a block
  double pack_left,
      pack_right;  // cost of packing an element, in multiples of multiplying it by one panel column
  int threads;
};

/// Blocks of rows x columns, the last of each smaller; block i covers row block i % row_blocks.
struct BlockPlan {
  Index rows, columns;  // of a block; columns a multiple of panel
  Index row_blocks, column_blocks;
  Index count() const { return row_blocks * column_blocks; }
};

/// The blocks that keep all threads busy with the least packing. Never changes a result, only its speed.
BlockPlan plan_blocks(const BlockProblem& problem);

}  // namespace hone::kernels::cpu
