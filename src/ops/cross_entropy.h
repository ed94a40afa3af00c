// The language-model head and its loss, chunk by chunk, so that all logits never exist at once:
// linear_cross_entropy in one, head_statistics for a loss that is made elsewhere.
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// What becomes of a product hidden weightT: logit = logit_scale * product, or with a softcap softcap *
/// tanh(logit_scale * product / softcap) (Gemma 2, arXiv:2408.00118).
struct LogitOptions {
  float scale = 1;
  float softcap = 0;  // 0: none
};

struct CrossEntropy {
  Tensor loss;  // (1) f32: scale * sum of weight * nll
  Tensor nll;   // (rows) f32: -log softmax(logits)[target], unweighted; no gradient
};

/// hidden: (rows, hidden) T, the supervised rows only. weight: (vocab, hidden) T. targets: (rows) i32.
/// weights: (rows) f32, what each row counts; undefined: 1. The gradients are made together with the loss
/// (the logits are at hand then), so `loss` must reach backward() with gradient 1: put factors into `scale`.
/// Keeps the gradient of hidden (rows, hidden) T. Writes the weight's gradient at once (under recompute, when
/// the block runs again); its hook still waits for backward. Whatever is frozen costs nothing. rows may be 0:
/// the loss is 0.
CrossEntropy linear_cross_entropy(Context& context, const Tensor& hidden, const Weight& weight,
                                  const Tensor& targets, float scale, const Tensor& weights = {},
                                  const LogitOptions& logits = {});

struct HeadStatistics {
  Tensor lse;           // (rows) f32: log of the sum of exp of the logits
  Tensor target_logit;  // (rows) f32: 0 where the target is none of the weight's words
};

/// What of the head's logits a loss is made of, where each rank has its own part of the vocabulary or the
/// loss is another than cross-entropy. hidden: (rows, hidden) T. weight: (words, hidden) T, of the words from
/// vocab_begin on. targets: (rows) i32, of the whole vocabulary, or -1. Both results are differentiable; in
/// backward the logits are made again. Keeps hidden, weight, targets and lse.
HeadStatistics head_statistics(Context& context, const Tensor& hidden, const Weight& weight,
                               const Tensor& targets, std::int64_t vocab_begin = 0,
                               const LogitOptions& logits = {});

/// The logits themselves, (rows, words) f32, for what looks at all of them, as generation does. Keeps hidden,
/// weight and, with a softcap, what goes into the tanh.
Tensor head_logits(Context& context, const Tensor& hidden, const Weight& weight,
                   const LogitOptions& logits = {});

}  // namespace hone::ops
