// rms_norm — y = [residual +] x / rms(x) * weight over the last dimension (Zhang & Sennrich,
// arXiv:1910.07467).
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// x: (rows, hidden) f32 or T. weight: (hidden) T; unit_offset: 1 + weight in its place (Gemma). residual:
/// (rows, hidden) f32, or undefined. Result: (rows, hidden) T, the weight's dtype, or with a residual f32.
/// Keeps x and rstd (rows) f32.
Tensor rms_norm(Context& context, const Tensor& x, const Weight& weight, float eps, bool unit_offset = false,
                const Tensor& residual = {});

}  // namespace hone::ops
