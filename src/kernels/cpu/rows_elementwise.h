// Element by element: activations, gates, copies, clamps; and the sum of columns.
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/rows.h"

namespace hone::kernels::cpu {

template <class Isa, class T, Activation kActivation>
void activation_rows(const ActivationArgs& a, Stream& stream) {
  const bool gated = a.up.given(), dense = is_dense(a.gate) && (!gated || is_dense(a.up)) && is_dense(a.y);
  over_elements<Isa>(a.y.rows, a.y.cols, dense, stream, [&](Index i, Index begin, Index end) {
    const T* gate = row<const T>(a.gate, i) + begin;
    const T* up = gated ? row<const T>(a.up, i) + begin : nullptr;
    T* y = row<T>(a.y, i) + begin;
    const Activate<Isa, kActivation> activate(a.alpha, a.limit);
    const auto one = Isa::set(1.0F);
    for_lanes<Isa>(
        end - begin, [&](Index j, auto lanes) __attribute__((always_inline)) {
          const auto u = up != nullptr ? load<Isa>(up + j, lanes) : one;
          store<Isa>(y + j, activate(load<Isa>(gate + j, lanes), u).value, lanes);
        });
  });
}

template <class Isa>
void RowKernels<Isa>::activation(const ActivationArgs& a, Stream& stream) {
  with_dtype(a.y.dtype, [&](auto t) {
    with_activation(a.activation, [&](auto f) {
      activation_rows<Isa, TypeOf<decltype(t)>, decltype(f)::value>(a, stream);
    });
  });
}

template <class Isa, class T, class D, Activation kActivation>
void activation_grad_rows(const ActivationGradArgs& a, Stream& stream) {
  bool dense = is_dense(a.gate) && is_dense(a.dy);
  for (const Matrix* m : {&a.up, &a.dgate, &a.dup}) dense = dense && (!m->given() || is_dense(*m));
  over_elements<Isa>(a.dy.rows, a.dy.cols, dense, stream, [&](Index i, Index begin, Index end) {
    const T* gate = row<const T>(a.gate, i) + begin;
    const T* up = a.up.given() ? row<const T>(a.up, i) + begin : nullptr;
    const D* dy = row<const D>(a.dy, i) + begin;
    T* dgate = a.dgate.given() ? row<T>(a.dgate, i) + begin : nullptr;
    T* dup = a.dup.given() ? row<T>(a.dup, i) + begin : nullptr;
    const Activate<Isa, kActivation> activate(a.alpha, a.limit);
    const auto one = Isa::set(1.0F);
    for_lanes<Isa>(
        end - begin, [&](Index j, auto lanes) __attribute__((always_inline)) {
          const auto u = up != nullptr ? load<Isa>(up + j, lanes) : one;
          const auto at = activate(load<Isa>(gate + j, lanes), u);
          const auto d = load<Isa>(dy + j, lanes);
          if (dgate != nullptr) store<Isa>(dgate + j, d * at.of_gate, lanes);
          if (dup != nullptr) store<Isa>(dup + j, d * at.of_up, lanes);
        });
  });
}

template <class Isa>
void RowKernels<Isa>::activation_grad(const ActivationGradArgs& a, Stream& stream) {
  with_dtype(a.gate.dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    with_f32_or<T>(a.dy.dtype, [&](auto d) {
      with_activation(a.activation, [&](auto f) {
        activation_grad_rows<Isa, T, TypeOf<decltype(d)>, decltype(f)::value>(a, stream);
      });
    });
  });
}

/// The sigmoid of row i's gate in every lane, and its slope.
template <class Isa>
[[gnu::always_inline]] inline Curve<Isa> gate_of_row(const Matrix& gate, Index i) {
  return curve_of<Isa, Activation::kSigmoid>(Isa::set(*row<const float>(gate, i)));
}

template <class Isa>
void RowKernels<Isa>::row_gate(const RowGateArgs& a, Stream& stream) {
  with_dtype(a.x.dtype, [&](auto tx) {
    with_dtype(a.y.dtype, [&](auto ty) {
      using X = TypeOf<decltype(tx)>;
      using Y = TypeOf<decltype(ty)>;
      over_rows<Isa>(a.y.rows, a.y.cols, stream, [&](Index i) {
        const X* x = row<const X>(a.x, i);
        const float* residual = a.residual.given() ? row<const float>(a.residual, i) : nullptr;
        Y* y = row<Y>(a.y, i);
        const auto s = gate_of_row<Isa>(a.gate, i).value;
        for_lanes<Isa>(
            a.y.cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
              auto v = s * load<Isa>(x + j, lanes);
              if (residual != nullptr) v = v + load<Isa>(residual + j, lanes);
              store<Isa>(y + j, v, lanes);
            });
      });
    });
  });
}

template <class Isa, class D, class X>
void row_gate_grad_rows(const RowGateGradArgs& a, Stream& stream) {
  over_rows<Isa>(a.dy.rows, a.dy.cols, stream, [&](Index i) {
    const D* dy = row<const D>(a.dy, i);
    const X* x = row<const X>(a.x, i);
    const Curve<Isa> gate = gate_of_row<Isa>(a.gate, i);
    if (a.dgate.given()) {
      const auto dot = static_cast<float>(sum_lanes<Isa>(
          a.dy.cols, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
            return Isa::fma(load<Isa>(dy + j, lanes), load<Isa>(x + j, lanes), sum);
          }));
      store<Isa>(row<float>(a.dgate, i), Isa::set(dot) * gate.slope, 1);
    }
    if (!a.dx.given()) return;
    X* dx = row<X>(a.dx, i);
    for_lanes<Isa>(
        a.dy.cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
          auto v = gate.value * load<Isa>(dy + j, lanes);
          if (a.accumulate_dx) v = v + load<Isa>(dx + j, lanes);
          store<Isa>(dx + j, v, lanes);
        });
  });
}

template <class Isa>
void RowKernels<Isa>::row_gate_grad(const RowGateGradArgs& a, Stream& stream) {
  with_dtype(a.dy.dtype, [&](auto d) {
    with_dtype(a.x.dtype,
               [&](auto x) { row_gate_grad_rows<Isa, TypeOf<decltype(d)>, TypeOf<decltype(x)>>(a, stream); });
  });
}

template <class Isa, class X, class Y>
void copy_rows(const CopyArgs& a, Stream& stream) {
  const bool dense = is_dense(a.x) && is_dense(a.y);
  over_elements<Isa>(a.y.rows, a.y.cols, dense, stream, [&](Index i, Index begin, Index end) {
    const X* x = row<const X>(a.x, i) + begin;
    Y* y = row<Y>(a.y, i) + begin;
    const auto alpha = Isa::set(a.alpha);
    if (a.accumulate) {
      for_lanes<Isa>(
          end - begin, [&](Index j, auto lanes) __attribute__((always_inline)) {
            store<Isa>(y + j, Isa::fma(alpha, load<Isa>(x + j, lanes), load<Isa>(y + j, lanes)), lanes);
          });
    } else {
      for_lanes<Isa>(
          end - begin, [&](Index j, auto lanes) __attribute__((always_inline)) {
            store<Isa>(y + j, alpha * load<Isa>(x + j, lanes), lanes);
          });
    }
  });
}

template <class Isa>
void RowKernels<Isa>::copy(const CopyArgs& a, Stream& stream) {
  with_dtype(a.x.dtype, [&](auto x) {
    with_dtype(a.y.dtype,
               [&](auto y) { copy_rows<Isa, TypeOf<decltype(x)>, TypeOf<decltype(y)>>(a, stream); });
  });
}

template <class Isa, class X, class Y>
void clamp_rows(const ClampArgs& a, Stream& stream) {
  const bool dense = is_dense(a.x) && is_dense(a.y);
  over_elements<Isa>(a.y.rows, a.y.cols, dense, stream, [&](Index i, Index begin, Index end) {
    const X* x = row<const X>(a.x, i) + begin;
    Y* y = row<Y>(a.y, i) + begin;
    const auto limit = Isa::set(a.limit), lower = Isa::zero() - limit;
    for_lanes<Isa>(
        end - begin, [&](Index j, auto lanes) __attribute__((always_inline)) {
          auto v = Isa::min(limit, Isa::max(lower, load<Isa>(x + j, lanes)));  // x second: a NaN stays one
          if (a.accumulate) v = v + load<Isa>(y + j, lanes);
          store<Isa>(y + j, v, lanes);
        });
  });
}

template <class Isa>
void RowKernels<Isa>::clamp(const ClampArgs& a, Stream& stream) {
  with_dtype(a.x.dtype, [&](auto x) {
    with_dtype(a.y.dtype,
               [&](auto y) { clamp_rows<Isa, TypeOf<decltype(x)>, TypeOf<decltype(y)>>(a, stream); });
  });
}

template <class Isa, class D, class X, class DX>
void clamp_grad_rows(const ClampGradArgs& a, Stream& stream) {
  over_rows<Isa>(a.dy.rows, a.dy.cols, stream, [&](Index i) {
    const D* dy = row<const D>(a.dy, i);
    const X* x = row<const X>(a.x, i);
    DX* dx = row<DX>(a.dx, i);
    const auto limit = Isa::set(a.limit), zero = Isa::zero();
    for_lanes<Isa>(
        a.dy.cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
          const auto v = load<Isa>(x + j, lanes);
          auto d = Isa::max(v, zero - v) <= limit ? load<Isa>(dy + j, lanes) : zero;
          if (a.accumulate) d = d + load<Isa>(dx + j, lanes);
          store<Isa>(dx + j, d, lanes);
        });
  });
}

template <class Isa>
void RowKernels<Isa>::clamp_grad(const ClampGradArgs& a, Stream& stream) {
  with_dtype(a.dy.dtype, [&](auto d) {
    with_dtype(a.x.dtype, [&](auto x) {
      with_dtype(a.dx.dtype, [&](auto dx) {
        clamp_grad_rows<Isa, TypeOf<decltype(d)>, TypeOf<decltype(x)>, TypeOf<decltype(dx)>>(a, stream);
      });
    });
  });
}

template <class Isa>
void RowKernels<Isa>::column_sum(const ColumnSumArgs& a, Stream& stream) {
  with_dtype(a.x.dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    sum_rows<Isa>(a.x.rows, a.x.cols, a.out, a.out_dtype, a.accumulate, stream,
                  [&](Index i, ColumnSums<Isa>& sums) {
                    float* sum = sums.next();
                    const T* x = row<const T>(a.x, i);
                    for_lanes<Isa>(
                        a.x.cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
                          store<Isa>(sum + j, load<Isa>(sum + j, lanes) + load<Isa>(x + j, lanes), lanes);
                        });
                  });
  });
}

}  // namespace hone::kernels::cpu
