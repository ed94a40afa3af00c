// rms_norm and its gradient.
#pragma once

#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/rows.h"

namespace hone::kernels::cpu {

/// 1 / sqrt(mean of squares + eps), rounded once: what is wrong with it is wrong with a whole row.
template <class Isa, class X>
[[gnu::always_inline]] inline float reciprocal_rms(const X* x, Index n, float eps) {
  const double squares = sum_lanes<Isa>(
      n, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
        const auto v = load<Isa>(x + j, lanes);
        return Isa::fma(v, v, sum);
      });
  return static_cast<float>(1.0 /
                            __builtin_sqrt(squares / static_cast<double>(n) + static_cast<double>(eps)));
}

/// What a norm multiplies by: the weight, or with unit_offset 1 + weight.
template <class Isa, class T>
struct NormWeight {
  const T* weight;
  typename Isa::Vec offset;
  [[gnu::always_inline]] NormWeight(const void* data, bool unit_offset)
      : weight(static_cast<const T*>(data)), offset(Isa::set(unit_offset ? 1.0F : 0.0F)) {}
  [[gnu::always_inline]] typename Isa::Vec at(Index j, auto lanes) const {
    return load<Isa>(weight + j, lanes) + offset;
  }
};

template <class Isa, class X, class T, class Y>
void rms_norm_rows(const RmsNormArgs& a, Stream& stream) {
  const Index cols = a.x.cols;
  over_rows<Isa>(a.x.rows, cols, stream, [&](Index i) {
    const NormWeight<Isa, T> weight(a.weight, a.unit_offset);
    const X* x = row<X>(a.x, i);
    const float* residual = a.residual.given() ? row<const float>(a.residual, i) : nullptr;
    Y* y = row<Y>(a.y, i);
    const float rstd = reciprocal_rms<Isa>(x, cols, a.eps);
    if (a.wants_rstd) a.rstd[i] = rstd;
    const auto scale = Isa::set(rstd);
    for_lanes<Isa>(
        cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
          auto v = load<Isa>(x + j, lanes) * scale * weight.at(j, lanes);
          if (residual != nullptr) v = v + load<Isa>(residual + j, lanes);
          store<Isa>(y + j, v, lanes);
        });
  });
}

/// rstd^3 / n * dot, the factor of x in the gradient of a norm, rounded once.
[[gnu::always_inline]] inline float norm_grad_mean(double dot, float rstd, Index n) {
  const double r = static_cast<double>(rstd);
  return static_cast<float>(dot * r * r * r / static_cast<double>(n));
}

/// With n = x * rstd: dx = rstd * (weight * dy - n * mean(n * weight * dy)).
template <class Isa, class D, class X, class T, class DX>
[[gnu::always_inline]] inline void rms_norm_row_grad(const D* dy, const X* x, NormWeight<Isa, T> weight,
                                                     float rstd, Index cols, DX* dx, bool accumulate) {
  const double dot = sum_lanes<Isa>(
      cols, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
        const auto wdy = weight.at(j, lanes) * load<Isa>(dy + j, lanes);
        return Isa::fma(load<Isa>(x + j, lanes), wdy, sum);
      });
  const auto scale = Isa::set(rstd);
  const auto mean = Isa::set(norm_grad_mean(dot, rstd, cols));
  for_lanes<Isa>(
      cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
        const auto wdy = weight.at(j, lanes) * load<Isa>(dy + j, lanes);
        auto v = Isa::fnma(mean, load<Isa>(x + j, lanes), wdy * scale);
        if (accumulate) v = v + load<Isa>(dx + j, lanes);
        store<Isa>(dx + j, v, lanes);
      });
}

template <class Isa, class D, class X, class T, class DX>
void rms_norm_grad_rows(const RmsNormGradArgs& a, Stream& stream) {
  const Index cols = a.x.cols;
  const NormWeight<Isa, T> weight(a.weight, a.unit_offset);
  const auto input_grad = [&](Index i) __attribute__((always_inline)) {
    if (!a.dx.given()) return;
    rms_norm_row_grad<Isa>(row<const D>(a.dy, i), row<const X>(a.x, i), weight, a.rstd[i], cols,
                           row<DX>(a.dx, i), a.accumulate_dx);
  };
  if (!a.wants_dweight) {
    over_rows<Isa>(a.x.rows, cols, stream, input_grad);
    return;
  }
  sum_rows<Isa>(a.x.rows, cols, a.dweight, a.dweight_dtype, a.accumulate_dweight, stream,
                [&](Index i, ColumnSums<Isa>& sums) {
                  float* dweight = sums.next();
                  const D* dy = row<const D>(a.dy, i);
                  const X* x = row<const X>(a.x, i);
                  const auto scale = Isa::set(a.rstd[i]);
                  // before the input's gradient, which may be written over dy
                  for_lanes<Isa>(
                      cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
                        const auto n = load<Isa>(x + j, lanes) * scale;
                        const auto sum = load<Isa>(dweight + j, lanes);
                        store<Isa>(dweight + j, Isa::fma(n, load<Isa>(dy + j, lanes), sum), lanes);
                      });
                  input_grad(i);
                });
}

template <class Isa>
void RowKernels<Isa>::rms_norm(const RmsNormArgs& a, Stream& stream) {
  with_dtype(a.weight_dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    with_f32_or<T>(a.x.dtype, [&](auto x) {
      with_f32_or<T>(a.y.dtype, [&](auto y) {
        rms_norm_rows<Isa, TypeOf<decltype(x)>, T, TypeOf<decltype(y)>>(a, stream);
      });
    });
  });
}

template <class Isa>
void RowKernels<Isa>::rms_norm_grad(const RmsNormGradArgs& a, Stream& stream) {
  with_dtype(a.weight_dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    with_f32_or<T>(a.dy.dtype, [&](auto dy) {
      with_f32_or<T>(a.x.dtype, [&](auto x) {
        with_f32_or<T>(a.dx.dtype, [&](auto dx) {
          rms_norm_grad_rows<Isa, TypeOf<decltype(dy)>, TypeOf<decltype(x)>, T, TypeOf<decltype(dx)>>(a,
                                                                                                      stream);
        });
      });
    });
  });
}

}  // namespace hone::kernels::cpu
