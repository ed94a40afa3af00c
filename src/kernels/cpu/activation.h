// The functions of a feed-forward and of capped logits, a vector at a time: values and slopes.
#pragma once

#include <type_traits>

#include "kernels/cpu/isa.h"
#include "kernels/kernels.h"

namespace hone::kernels::cpu {

/// tanh(x), and its slope 1 - tanh(x)^2 without the cancellation. Small ones by the polynomial of Cephes'
/// tanhf, whose relative error is small near 0 too. NaN stays NaN.
template <class Isa>
struct Tanh {
  typename Isa::Vec value, slope;
  [[gnu::always_inline]] explicit Tanh(typename Isa::Vec x) {
    using Vec = typename Isa::Vec;
    const Vec one = Isa::set(1.0F), size = Isa::max(x, Isa::zero() - x), square = x * x;
    Vec p = Isa::set(-5.70498872745e-3F);
    p = Isa::fma(p, square, Isa::set(2.06390887954e-2F));
    p = Isa::fma(p, square, Isa::set(-5.37397155531e-2F));
    p = Isa::fma(p, square, Isa::set(1.33314422036e-1F));
    p = Isa::fma(p, square, Isa::set(-3.33332819422e-1F));
    const Vec small = Isa::fma(p * square, x, x);
    const Vec e = Isa::exp(Isa::set(-2.0F) * size), inverse = one / (one + e);
    const Vec large = Isa::fnma(e + e, inverse, one);
    const auto is_small = size < Isa::set(0.625F);
    value = is_small ? small : (x < Isa::zero() ? Isa::zero() - large : large);
    slope = is_small ? Isa::fnma(small, small, one) : Isa::set(4.0F) * e * inverse * inverse;
  }
};

/// Phi(x), the normal distribution, within 5e-7 of itself however small, and exp(-x^2/2). NaN stays NaN.
/// Phi(-z) = exp(-z^2/2) t P(t), t = 1 / (1 + 0.3 z), of z in [0, 15]: P fitted for the least relative error
/// (3.5e-9); below, exp is 0.
template <class Isa>
struct NormalDistribution {
  typename Isa::Vec value, bell;
  [[gnu::always_inline]] explicit NormalDistribution(typename Isa::Vec x) {
    using Vec = typename Isa::Vec;
    constexpr float kP[] = {1.124647185e-01F,  -2.282846272e-01F, 1.918830872e-01F,
                            -7.950901240e-02F, 9.620484710e-02F,  7.837224007e-02F,
                            1.102393419e-01F,  1.195713207e-01F,  1.196867153e-01F};
    const Vec one = Isa::set(1.0F);
    const Vec z = Isa::min(Isa::set(15.0F), Isa::max(x, Isa::zero() - x)), half = Isa::set(0.5F) * z;
    const Vec square = z * half;  // z^2 / 2, and what its rounding left out
    bell = Isa::exp(Isa::zero() - square) * (one + Isa::fnma(z, half, square));
    const Vec t = one / Isa::fma(Isa::set(0.3F), z, one);
    Vec p = Isa::set(-2.062864788e-02F);
#pragma GCC unroll 9
    for (int i = 0; i < 9; i++) p = Isa::fma(p, t, Isa::set(kP[i]));
    const Vec tail = t * p * bell;
    value = x < Isa::zero() ? tail : one - tail;
  }
};

/// A function's value and slope.
template <class Isa>
struct Curve {
  typename Isa::Vec value, slope;
};

/// f(x) and f'(x); what is not used of them costs nothing.
template <class Isa, Activation kActivation>
[[gnu::always_inline]] inline Curve<Isa> curve_of(typename Isa::Vec x) {
  using Vec = typename Isa::Vec;
  const Vec one = Isa::set(1.0F);
  if constexpr (kActivation == Activation::kIdentity) {
    return {x, one};
  } else if constexpr (kActivation == Activation::kSilu) {
    const Vec s = Isa::sigmoid(x);
    return {x * s, s * Isa::fma(x, one - s, one)};
  } else if constexpr (kActivation == Activation::kSigmoid) {
    const Vec e = Isa::exp(Isa::zero() - Isa::max(x, Isa::zero() - x)), inverse = one / (one + e);
    return {x < Isa::zero() ? e * inverse : inverse, e * inverse * inverse};
  } else if constexpr (kActivation == Activation::kTanh) {
    const Tanh<Isa> tanh(x);
    return {tanh.value, tanh.slope};
  } else if constexpr (kActivation == Activation::kRelu2) {
    const Vec positive = Isa::max(Isa::zero(), x);
    return {positive * positive, positive + positive};
  } else if constexpr (kActivation == Activation::kGelu) {
    const NormalDistribution<Isa> normal(x);
    return {x * normal.value, Isa::fma(x * normal.bell, Isa::set(0.398942280F), normal.value)};
  } else {
    static_assert(kActivation == Activation::kGeluTanh);
    // (1 + tanh(u)) / 2 = sigmoid(2 u). Beyond 20 it is 0 or 1 in f32, and the cube might overflow.
    const Vec c = Isa::min(Isa::set(20.0F), Isa::max(Isa::set(-20.0F), x)), square = c * c;
    const Vec s = Isa::sigmoid(c * Isa::fma(square, Isa::set(0.0713548163F), Isa::set(1.59576912F)));
    const Vec slope = Isa::fma(square, Isa::set(0.214064449F), Isa::set(1.59576912F));
    return {x * s, s * Isa::fma(c * (one - s), slope, one)};
  }
}

/// f(gate) * up, and its derivatives for both.
template <class Isa>
struct Activated {
  typename Isa::Vec value, of_gate, of_up;
};

template <class Isa, Activation kActivation>
struct Activate {
  typename Isa::Vec alpha, limit;
  [[gnu::always_inline]] Activate(float a, float l) : alpha(Isa::set(a)), limit(Isa::set(l)) {}

  /// Where there is no up, it is 1.
  [[gnu::always_inline]] Activated<Isa> operator()(typename Isa::Vec gate, typename Isa::Vec up) const {
    using Vec = typename Isa::Vec;
    if constexpr (kActivation == Activation::kClampedSilu) {
      const Vec one = Isa::set(1.0F), zero = Isa::zero(), lower = zero - limit;
      const Vec g = Isa::min(limit, gate), u = Isa::min(limit, Isa::max(lower, up)) + one;
      const Vec s = Isa::sigmoid(alpha * g), swish = g * s;
      const Vec slope = s * Isa::fma(alpha * g, one - s, one) * u;
      return {swish * u, gate <= limit ? slope : zero, Isa::max(up, zero - up) <= limit ? swish : zero};
    } else {
      const Curve<Isa> f = curve_of<Isa, kActivation>(gate);
      return {f.value * up, f.slope * up, f.value};
    }
  }
};

/// Calls f with the activation as a constant.
template <class F>
[[gnu::always_inline]] inline void with_activation(Activation activation, const F& f) {
  switch (activation) {
    case Activation::kIdentity:
      return f(std::integral_constant<Activation, Activation::kIdentity>{});
    case Activation::kSilu:
      return f(std::integral_constant<Activation, Activation::kSilu>{});
    case Activation::kGelu:
      return f(std::integral_constant<Activation, Activation::kGelu>{});
    case Activation::kGeluTanh:
      return f(std::integral_constant<Activation, Activation::kGeluTanh>{});
    case Activation::kRelu2:
      return f(std::integral_constant<Activation, Activation::kRelu2>{});
    case Activation::kSigmoid:
      return f(std::integral_constant<Activation, Activation::kSigmoid>{});
    case Activation::kTanh:
      return f(std::integral_constant<Activation, Activation::kTanh>{});
    case Activation::kClampedSilu:
      return f(std::integral_constant<Activation, Activation::kClampedSilu>{});
  }
}

}  // namespace hone::kernels::cpu
