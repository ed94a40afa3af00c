// linear — y = x Wt (+ bias) (+ residual): torch.nn.Linear, with the residual connection in the same product.
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// x: (rows, in) T. weight: (out, in) T. bias: (out) T or undefined. residual: (rows, out) f32 or undefined.
/// Result: (rows, out) of out_dtype. Keeps x (Saved). The gradients for x, weight, bias and residual are
/// computed only where wanted; the weight's may be put off (DeferredGradients).
Tensor linear(Context& context, const Tensor& x, const Weight& weight, const Weight& bias,
              const Tensor& residual, DType out_dtype);
/// The same without a residual, in x's dtype.
inline Tensor linear(Context& context, const Tensor& x, const Weight& weight, const Weight& bias = {}) {
  return linear(context, x, weight, bias, {}, x.dtype());
}

}  // namespace hone::ops
