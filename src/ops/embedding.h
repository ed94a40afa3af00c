// embedding — rows of a table by token id.
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// table: (vocab, hidden) T. ids: (rows) i32, each in [0, vocab), checked by whoever made them. Result:
/// (rows, hidden) f32, the start of the residual stream. Keeps ids. padding_id's row gets no gradient
/// (torch.nn.Embedding's padding_idx); -1: none.
Tensor embedding(Context& context, const Weight& table, const Tensor& ids, std::int64_t padding_id = -1);

}  // namespace hone::ops
