// rms_norm — y = x / rms(x) * weight over the last dimension (Zhang & Sennrich, arXiv:1910.07467).
#pragma once

#include "ops/autograd.h"

namespace hone::ops {

/// x: (rows, hidden) f32 or T. weight: (hidden) T. Result: (rows, hidden) T, the weight's dtype. Keeps x and
/// rstd (rows) f32.
Tensor rms_norm(Context& context, const Tensor& x, const Tensor& weight, float eps);

}  // namespace hone::ops
