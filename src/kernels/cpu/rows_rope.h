// head_norm_rope and its gradient.
#pragma once

#include <type_traits>

#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/rows_norm.h"

namespace hone::kernels::cpu {

/// The sizes of a head and the angles of one token. kDim: the size of a head that is rotated whole, halves
/// together, known to the compiler so that it unrolls all loops over it; 0: any.
template <Index kDim>
struct Rotation {
  const float* cos;
  const float* sin;
  Index any_dim, any_half, any_begin;
  bool any_interleaved;

  template <class Args>
  [[gnu::always_inline]] Rotation(const Args& a, Index token)
      : any_dim(a.head_dim),
        any_half(a.rotary_dim / 2),
        any_begin(a.rotary_begin),
        any_interleaved(a.interleaved) {
    cos = a.cos + a.positions[token] * half();
    sin = a.sin + a.positions[token] * half();
  }
  [[gnu::always_inline]] Index dim() const { return kDim > 0 ? kDim : any_dim; }
  /// Half of the rotated elements.
  [[gnu::always_inline]] Index half() const { return kDim > 0 ? kDim / 2 : any_half; }
  /// The first of them.
  [[gnu::always_inline]] Index begin() const { return kDim > 0 ? 0 : any_begin; }
  [[gnu::always_inline]] bool interleaved() const { return kDim == 0 && any_interleaved; }

  /// Calls f(j, lanes) for the elements that are not rotated.
  template <class Isa, class F>
  [[gnu::always_inline]] void rest(F f) const {
    for_lanes<Isa>(begin(), f);
    const Index end = begin() + 2 * half();
    for_lanes<Isa>(
        dim() - end, [&](Index j, auto lanes) __attribute__((always_inline)) { f(end + j, lanes); });
  }
};

/// Calls f with the size of the heads as a constant where it is a usual one.
template <class Args, class F>
[[gnu::always_inline]] inline void with_head_dim(const Args& a, const F& f) {
  if (a.head_dim == 64 && a.rotary_dim == 64 && !a.interleaved) {
    f(std::integral_constant<Index, 64>{});
  } else if (a.head_dim == 128 && a.rotary_dim == 128 && !a.interleaved) {
    f(std::integral_constant<Index, 128>{});
  } else {
    f(std::integral_constant<Index, 0>{});
  }
}

template <class Isa, Index kDim, class T>
[[gnu::always_inline]] inline void norm_rope_head(const HeadNormRopeArgs& a, const T* x,
                                                  const Rotation<kDim>& r, T* y) {
  const NormWeight<Isa, T> weight(a.weight, a.unit_offset);
  auto scale = Isa::set(1.0F);
  if (a.has_weight) scale = Isa::set(reciprocal_rms<Isa>(x, r.dim(), a.eps));
  const auto normed = [&](Index j, auto lanes) __attribute__((always_inline)) {
    const auto v = load<Isa>(x + j, lanes);
    return a.has_weight ? v * scale * weight.at(j, lanes) : v;
  };
  if (r.interleaved()) {
    for_lanes<Isa>(
        2 * r.half(), [&](Index j, auto lanes) __attribute__((always_inline)) {
          const auto v = normed(r.begin() + j, lanes);
          const auto c = load_twice<Isa>(r.cos + j / 2, lanes), s = load_twice<Isa>(r.sin + j / 2, lanes);
          store<Isa>(y + r.begin() + j, Isa::fmaddsub(v, c, Isa::swap_pairs(v) * s), lanes);
        });
  } else {
    for_lanes<Isa>(
        r.half(), [&](Index j, auto lanes) __attribute__((always_inline)) {
          const Index j1 = r.begin() + j, j2 = j1 + r.half();
          const auto x1 = normed(j1, lanes), x2 = normed(j2, lanes);
          const auto c = load<Isa>(r.cos + j, lanes), s = load<Isa>(r.sin + j, lanes);
          store<Isa>(y + j1, Isa::fnma(x2, s, x1 * c), lanes);
          store<Isa>(y + j2, Isa::fma(x1, s, x2 * c), lanes);
        });
  }
  r.template rest<Isa>([&](Index j, auto lanes)
                           __attribute__((always_inline)) { store<Isa>(y + j, normed(j, lanes), lanes); });
}

/// One head of the gradient. `dweight`: where the weight's gradient gathers, or null.
template <class Isa, Index kDim, class D, class T, class DX>
struct HeadGrad {
  const HeadNormRopeGradArgs& a;
  Rotation<kDim> r;
  const D* dy;
  const T* x;
  DX* dx;
  float* dweight;

  /// Calls f(j, lanes, gradient before the rotation) for all elements of the head; both halves of a pair are
  /// read before either is handed out, because dx may be dy.
  template <class F>
  [[gnu::always_inline]] void unrotated(F f) const {
    if (r.interleaved()) {
      for_lanes<Isa>(
          2 * r.half(), [&](Index j, auto lanes) __attribute__((always_inline)) {
            const auto d = load<Isa>(dy + r.begin() + j, lanes);
            const auto c = load_twice<Isa>(r.cos + j / 2, lanes), s = load_twice<Isa>(r.sin + j / 2, lanes);
            f(r.begin() + j, lanes, Isa::fmsubadd(d, c, Isa::swap_pairs(d) * s));
          });
    } else {
      for_lanes<Isa>(
          r.half(), [&](Index j, auto lanes) __attribute__((always_inline)) {
            const Index j1 = r.begin() + j, j2 = j1 + r.half();
            const auto d1 = load<Isa>(dy + j1, lanes), d2 = load<Isa>(dy + j2, lanes);
            const auto c = load<Isa>(r.cos + j, lanes), s = load<Isa>(r.sin + j, lanes);
            f(j1, lanes, Isa::fma(d2, s, d1 * c));
            f(j2, lanes, Isa::fnma(d1, s, d2 * c));
          });
    }
    r.template rest<Isa>([&](Index j, auto lanes)
                             __attribute__((always_inline)) { f(j, lanes, load<Isa>(dy + j, lanes)); });
  }

  [[gnu::always_inline]] void write(Index j, auto lanes, typename Isa::Vec v) const {
    if (a.accumulate_dx) v = v + load<Isa>(dx + j, lanes);
    store<Isa>(dx + j, v, lanes);
  }

  [[gnu::always_inline]] void without_norm() const {
    if (dx == nullptr) return;
    unrotated([&](Index j, auto lanes, auto dn) __attribute__((always_inline)) { write(j, lanes, dn); });
  }

  [[gnu::always_inline]] void with_norm() const {
    const NormWeight<Isa, T> weight(a.weight, a.unit_offset);
    const float rstd = reciprocal_rms<Isa>(x, r.dim(), a.eps);
    const auto scale = Isa::set(rstd);
    auto dots = Isa::wide_zero();
    unrotated([&](Index j, auto lanes, auto dn) __attribute__((always_inline)) {
      const auto v = load<Isa>(x + j, lanes);
      dots = Isa::add(dots, v * (dn * weight.at(j, lanes)));
      if (dweight != nullptr)
        store<Isa>(dweight + j, Isa::fma(v * scale, dn, load<Isa>(dweight + j, lanes)), lanes);
    });
    if (dx == nullptr) return;
    const auto mean = Isa::set(norm_grad_mean(Isa::sum(dots), rstd, r.dim()));
    unrotated([&](Index j, auto lanes, auto dn) __attribute__((always_inline)) {
      const auto wdn = dn * weight.at(j, lanes);
      write(j, lanes, Isa::fnma(mean, load<Isa>(x + j, lanes), wdn * scale));
    });
  }
};

template <class Isa, Index kDim, class D, class T, class DX>
void head_norm_rope_grad_rows(const HeadNormRopeGradArgs& a, Stream& stream) {
  const Index cols = a.heads * a.head_dim;
  const auto token_grad = [&](Index t, ColumnSums<Isa>* sums) {
    const Rotation<kDim> r(a, t);
    for (Index h = 0; h < a.heads; h++) {
      const Index at = h * r.dim();
      const D* dy = row<const D>(a.dy, t) + at;
      const T* x = a.has_weight ? row<const T>(a.x, t) + at : nullptr;
      DX* dx = a.dx.given() ? row<DX>(a.dx, t) + at : nullptr;
      const HeadGrad<Isa, kDim, D, T, DX> head{a, r, dy, x, dx, sums != nullptr ? sums->next() : nullptr};
      if (x != nullptr) {
        head.with_norm();
      } else {
        head.without_norm();
      }
    }
  };
  if (!a.wants_dweight) {
    over_rows<Isa>(a.dy.rows, cols, stream, [&](Index t) { token_grad(t, nullptr); });
  } else {
    sum_rows<Isa>(a.dy.rows, a.head_dim, a.dweight, a.dweight_dtype, a.accumulate_dweight, stream,
                  [&](Index t, ColumnSums<Isa>& sums) { token_grad(t, &sums); });
  }
}

template <class Isa, Index kDim, class T>
void head_norm_rope_rows(const HeadNormRopeArgs& a, Stream& stream) {
  over_rows<Isa>(a.x.rows, a.heads * a.head_dim, stream, [&](Index token) {
    const Rotation<kDim> r(a, token);
    const T* x = row<const T>(a.x, token);
    T* y = row<T>(a.y, token);
    for (Index h = 0; h < a.heads; h++) norm_rope_head<Isa>(a, x + h * r.dim(), r, y + h * r.dim());
  });
}

template <class Isa>
void RowKernels<Isa>::head_norm_rope(const HeadNormRopeArgs& a, Stream& stream) {
  with_dtype(a.x.dtype, [&](auto t) {
    with_head_dim(
        a, [&](auto dim) { head_norm_rope_rows<Isa, decltype(dim)::value, TypeOf<decltype(t)>>(a, stream); });
  });
}

template <class Isa>
void RowKernels<Isa>::head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream) {
  // T is what x and the weight are; without a norm, which has neither, the narrower of dy and dx.
  const DType t_dtype = a.has_weight ? a.weight_dtype : a.dy.dtype == DType::kBF16 ? a.dy.dtype : a.dx.dtype;
  with_dtype(t_dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    with_f32_or<T>(a.dy.dtype, [&](auto d) {
      with_f32_or<T>(a.dx.dtype, [&](auto x) {
        with_head_dim(a, [&](auto dim) {
          head_norm_rope_grad_rows<Isa, decltype(dim)::value, TypeOf<decltype(d)>, T, TypeOf<decltype(x)>>(
              a, stream);
        });
      });
    });
  });
}

}  // namespace hone::kernels::cpu
