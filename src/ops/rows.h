// Rows by number: embedding and gather, of rows that come any number of times; take_rows, of rows that come
// at most once.
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// table: (vocab, hidden) T. ids: (rows) i32, each in [0, vocab), checked by whoever made them. Result:
/// (rows, hidden) f32, the start of the residual stream. Keeps ids. padding_id's row gets no gradient
/// (torch.nn.Embedding's padding_idx); -1: none.
Tensor embedding(Context& context, const Weight& table, const Tensor& ids, std::int64_t padding_id = -1);

/// x: (rows, cols) T. index: (n) i32, each in [0, rows), checked by whoever made them. Result: (n, cols) T.
/// Keeps index. The gradients of a row are summed in f32 in the order of index and rounded once.
Tensor gather(Context& context, const Tensor& x, const Tensor& index);

/// The rows `index` (n) i32 of x (rows, cols); each row at most once. Result: (n, cols) T. Keeps index.
Tensor take_rows(Context& context, const Tensor& x, const Tensor& index);

}  // namespace hone::ops
