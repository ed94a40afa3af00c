// Reference: the functions of a feed-forward, one number at a time.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

/// f(x) and f'(x).
struct Curve {
  double value, slope;
};
inline Curve curve_of(Activation activation, double x) {
  switch (activation) {
    case Activation::kIdentity:
      return {x, 1};
    case Activation::kRelu2: {
      const double positive = x > 0 || std::isnan(x) ? x : 0;
      return {positive * positive, 2 * positive};
    }
    case Activation::kSigmoid:
      return {sigmoid(x), sigmoid(x) * sigmoid(-x)};
    case Activation::kTanh:
      return {std::tanh(x), 1 / std::pow(std::cosh(x), 2)};
    case Activation::kGelu: {
      const double phi = std::erfc(-x * M_SQRT1_2) / 2;
      return {x * phi, phi + x * std::exp(-x * x / 2) * M_2_SQRTPI * M_SQRT1_2 / 2};
    }
    case Activation::kGeluTanh: {
      const double c = M_2_SQRTPI * M_SQRT1_2, u = c * (x + 0.044715 * x * x * x), s = sigmoid(2 * u);
      return {x * s, s + x * s * sigmoid(-2 * u) * 2 * c * (1 + 3 * 0.044715 * x * x)};
    }
    case Activation::kSilu:
    case Activation::kClampedSilu:
      break;
  }
  const double s = sigmoid(x);
  return {x * s, s * (1 + x * (1 - s))};
}

/// f(gate) * up, and its derivatives for both.
struct Activated {
  double value, of_gate, of_up;
};
/// Args: activation, alpha and limit. Where there is no up, it is 1.
template <typename Args>
Activated activated(const Args& a, double gate, double up) {
  if (a.activation != Activation::kClampedSilu) {
    const Curve f = curve_of(a.activation, gate);
    return {f.value * up, f.slope * up, f.value};
  }
  const double limit = a.limit, alpha = a.alpha;
  const double g = gate > limit ? limit : gate, u = std::isnan(up) ? up : std::clamp(up, -limit, limit);
  const double s = sigmoid(alpha * g);
  return {g * s * (u + 1), gate <= limit ? s * (1 + alpha * g * (1 - s)) * (u + 1) : 0,
          std::fabs(up) <= limit ? g * s : 0};
}

}  // namespace hone::kernels::reference
