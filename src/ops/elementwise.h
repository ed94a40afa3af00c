// Operations element by element or row by row: activations, gates, products, sums, clamps, casts.
#pragma once

#include "ops/autograd.h"

namespace hone::ops {

using kernels::Activation;

/// f(x), f one of Activation but kClampedSilu. x: (rows, cols) T. Keeps x.
Tensor activate(Context& context, const Tensor& x, Activation activation);

/// f(gate) * up, (rows, cols) T each (Shazeer, arXiv:2002.05202). alpha, limit: of kClampedSilu. Keeps gate
/// and up.
Tensor gated(Context& context, const Tensor& gate, const Tensor& up, Activation activation, float alpha = 1,
             float limit = 0);

/// a * b, (rows, cols) T each. Keeps both.
Tensor multiply(Context& context, const Tensor& a, const Tensor& b);

/// residual + sigmoid(gate) * x. x: (rows, cols) T. gate: (rows, 1) f32. residual: (rows, cols) f32 or
/// undefined. Result: f32 with a residual, else x's dtype. Keeps x and gate.
Tensor row_gate(Context& context, const Tensor& x, const Tensor& gate, const Tensor& residual);

/// a + scale * b: equal shapes; f32 or T each. Result: a's dtype. Keeps nothing.
Tensor add(Context& context, const Tensor& a, const Tensor& b, float scale = 1);

/// factor * x. Returns x itself where factor is 1. Keeps nothing.
Tensor scale(Context& context, const Tensor& x, float factor);

/// min(max(x, -limit), limit), limit > 0 (OLMoE's clip_qkv). Keeps x.
Tensor clamp(Context& context, const Tensor& x, float limit);

/// x in another floating dtype. Returns x itself if it has it already. Keeps nothing.
Tensor cast(Context& context, const Tensor& x, DType dtype);

}  // namespace hone::ops
