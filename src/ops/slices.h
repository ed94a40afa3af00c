// Parts of matrices and matrices of parts, with gradients. Tensor's own views know of none.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/autograd.h"

namespace hone::ops {

/// x (rows, cols) T cut into columns of `widths`, whose sum is cols: views of x, (rows, width) T each. Keeps
/// nothing; the gradient of x is written once for all parts.
std::vector<Tensor> split_columns(Context& context, const Tensor& x, const std::vector<std::int64_t>& widths);
/// x (rows, cols) T cut into as many rows as `heights` say; otherwise the same.
std::vector<Tensor> split_rows(Context& context, const Tensor& x, const std::vector<std::int64_t>& heights);
/// Columns, or rows, [begin, end) of x (rows, cols) T: a view. Of several parts of one x split_… is cheaper:
/// here every part has a gradient of x's size.
Tensor columns(Context& context, const Tensor& x, std::int64_t begin, std::int64_t end);
Tensor rows(Context& context, const Tensor& x, std::int64_t begin, std::int64_t end);

/// Parts (rows, width) T side by side: a copy, (rows, sum of widths) T. At least one part. Keeps nothing.
Tensor concat_columns(Context& context, const std::vector<Tensor>& parts);

}  // namespace hone::ops
