// From Tensors to the raw matrices that kernels take.
#pragma once

#include "kernels/kernels.h"
#include "tensor/tensor.h"

namespace hone::ops {

/// A tensor of any rank >= 1 as (product of the leading dimensions, last dimension); an undefined tensor as a
/// null matrix.
inline kernels::Matrix as_matrix(const Tensor& t) {
  if (!t.defined()) return {};
  const std::int64_t cols = t.rank() > 0 ? t.size(-1) : 1;
  const std::int64_t rows = cols > 0 ? t.numel() / cols : 0;
  return {.data = t.data(),
          .dtype = t.dtype(),
          .rows = rows,
          .cols = cols,
          .stride = t.rank() == 2 ? t.row_stride() : cols};
}

}  // namespace hone::ops
