// linear — y = x Wt (+ bias) (+ residual): torch.nn.Linear, with the residual connection in the same product.
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// x: (rows, in) T. weight: (out, in) T, or f32 whatever T is. bias: (out) as weight, or undefined. residual:
/// (rows, out) f32 or undefined. Result: (rows, out) of out_dtype: f32, or the weight's. Keeps x (Saved). The
/// gradients for x, weight, bias and residual are computed only where wanted; the weight's may be put off
/// (DeferredGradients) or made beside the others (SideStream).
///
/// With an f32 weight beside a bf16 x (a router that is kept in f32: DeepSeek-V3's is multiplied so) every
/// product is one of f32: x is converted, which is exact, in scratch memory, and the gradient of x is rounded
/// once, at its end.
///
/// With a weight in FP8 (Weight::in_fp8) the operands of the products by it are rounded
/// (kernels::MatmulArgs::fp8): x and the weight in y = x Wt, dy and the weight in dx = dy W. dW = dyt x is of
/// x and dy as they are. Nothing more is kept.
Tensor linear(Context& context, const Tensor& x, const Weight& weight, const Weight& bias,
              const Tensor& residual, DType out_dtype);
/// The same without a residual, in x's dtype.
inline Tensor linear(Context& context, const Tensor& x, const Weight& weight, const Weight& bias = {}) {
  return linear(context, x, weight, bias, {}, x.dtype());
}

}  // namespace hone::ops
