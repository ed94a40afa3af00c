// linear_cross_entropy — the language-model head and its loss in one, chunk by chunk, so that all logits
// never exist at once.
#pragma once

#include "ops/autograd.h"

namespace hone::ops {

struct CrossEntropy {
  Tensor loss;  // (1) f32: scale * sum of weight * nll
  Tensor nll;   // (rows) f32: -log softmax(logit_scale hidden weightT)[target], unweighted; no gradient
};

/// hidden: (rows, hidden) T, the supervised rows only. weight: (vocab, hidden) T. targets: (rows) i32.
/// weights: (rows) f32, what each row counts; undefined: 1. The gradients are made together with the loss
/// (the logits are at hand then), so `loss` must reach backward() with gradient 1: put factors into `scale`.
/// Keeps the gradient of hidden (rows, hidden) T. Writes the weight's gradient at once (under recompute, when
/// the block runs again); its hook still waits for backward. Whatever is frozen costs nothing. rows may be 0:
/// the loss is 0.
CrossEntropy linear_cross_entropy(Context& context, const Tensor& hidden, const Tensor& weight,
                                  const Tensor& targets, float scale, const Tensor& weights = {},
                                  float logit_scale = 1);

/// The rows `index` (n) i32 of x (rows, hidden); each row at most once. Result: (n, hidden) T. Keeps index.
Tensor take_rows(Context& context, const Tensor& x, const Tensor& index);

}  // namespace hone::ops
