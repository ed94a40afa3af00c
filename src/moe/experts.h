// The experts of a layer as one operation.
#pragma once

#include "moe/moe.h"
#include "ops/weight.h"

namespace hone::moe {

/// Every expert's feed-forward network: down activation(gate x) * (up x), or ungated down activation(up x),
/// each product with its bias (kernels::ExpertsArgs).
struct ExpertWeights {
  ops::Weight gate_up;  // (experts, 2 * ffn, hidden) T, the gate's rows first; ungated (experts, ffn, hidden)
  ops::Weight down;     // (experts, hidden, ffn) T
  ops::Weight gate_up_bias;  // (experts, 2 * ffn) T, ungated (experts, ffn); may be undefined
  ops::Weight down_bias;     // (experts, hidden) T; may be undefined
};
struct ExpertFunction {
  kernels::Activation activation = kernels::Activation::kSilu;
  bool gated = true;
  float alpha = 1, limit = 0;  // of kClampedSilu, each above 0
};

/// All experts in one operation with one gradient. x: (tokens, hidden) T. residual: (tokens, hidden) f32 or
/// undefined. Result: (tokens, hidden) of out_dtype, f32 or T. Keeps x (Saved), the pre-activation (tokens *
/// top_k, rows of gate_up) T and the routing. The gradients of the weights may be put off
/// (DeferredGradients). A slot of no expert (-1) adds nothing. (Guo et al., SonicMoE; performance notes in
/// kernels::ExpertsArgs.)
Tensor experts(Context& context, const Tensor& x, const ExpertWeights& weights,
               const ExpertFunction& function, const Routing& routing, const Tensor& residual,
               DType out_dtype = DType::kF32);

}  // namespace hone::moe
