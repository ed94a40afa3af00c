// The experts of a layer as one operation.
#pragma once

#include "moe/moe.h"
#include "ops/weight.h"

namespace hone::moe {

using kernels::WeightKind;

/// One matrix of every expert, (experts, rows, k): dense, or quantised (WeightKind) and then frozen, so that
/// what is trained beside it (biases, the router, adapters) needs no decoded copy.
struct ExpertMatrix {
  ExpertMatrix(const ops::Weight& dense = {}) : elements(dense) {}  // NOLINT: implicit on purpose
  ExpertMatrix(const Tensor& dense) : elements(dense) {}            // NOLINT
  ExpertMatrix(WeightKind quantised_as, ops::Weight elements_of, ops::Weight scales_of)
      : kind(quantised_as), elements(std::move(elements_of)), scales(std::move(scales_of)) {}
  /// Without gradient slots.
  ExpertMatrix detach() const { return {kind, elements.detach(), scales.detach()}; }

  WeightKind kind = WeightKind::kDense;
  ops::Weight elements;  // T; MXFP4: u8 (experts, rows, k / 2); FP8: f8_e4m3
  ops::Weight scales;    // undefined; MXFP4: u8 (experts, rows, k / 32); FP8: f32 (experts, blocks of the
                         // gate's rows, then of the up's, blocks of k)
};

/// Every expert's feed-forward network: down activation(gate x) * (up x), or ungated down activation(up x),
/// each product with its bias (kernels::ExpertsArgs).
struct ExpertWeights {
  ExpertMatrix gate_up;  // (experts, 2 * ffn, hidden), the gate's rows first; ungated (experts, ffn, hidden)
  ExpertMatrix down;     // (experts, hidden, ffn)
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
/// top_k, rows of gate_up) T and the routing. Throws Error(kInternal) for a gradient slot at a quantised
/// matrix. The gradients of the weights may be put off (DeferredGradients). A slot of no expert (-1) adds
/// nothing. With dense matrices in FP8 (Weight::in_fp8, both or neither) the operands of products by
/// them are rounded as ExpertsArgs::fp8 says; nothing more is kept. (Guo et al., SonicMoE; performance notes
/// in kernels::ExpertsArgs.)
Tensor experts(Context& context, const Tensor& x, const ExpertWeights& weights,
               const ExpertFunction& function, const Routing& routing, const Tensor& residual,
               DType out_dtype = DType::kF32);

}  // namespace hone::moe
