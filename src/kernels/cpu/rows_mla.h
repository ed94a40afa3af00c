// Keys and values of multi-head latent attention, and their gradient.
#pragma once

#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/rows.h"

namespace hone::kernels::cpu {

template <class Isa>
void RowKernels<Isa>::mla_keys_values(const MlaKeysValuesArgs& a, Stream& stream) {
  const Index kv_dim = a.nope_dim + a.v_dim, k_dim = a.nope_dim + a.rope_dim;
  with_dtype(a.kv.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    over_rows<Isa>(a.kv.rows, a.heads * (kv_dim + k_dim), stream, [&](Index t) {
      const T* kv = row<const T>(a.kv, t);
      const T* k_pe = a.rope_dim > 0 ? row<const T>(a.k_pe, t) : nullptr;
      T* k = row<T>(a.k, t);
      T* v = row<T>(a.v, t);
      const auto copy = [](T* to, const T* from, Index n) {
        if (n > 0) __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
      };
      for (Index h = 0; h < a.heads; h++, kv += kv_dim, k += k_dim, v += a.v_dim) {
        copy(k, kv, a.nope_dim);
        copy(k + a.nope_dim, k_pe, a.rope_dim);
        copy(v, kv + a.nope_dim, a.v_dim);
      }
    });
  });
}

/// to[h * to_step + i] = [itself +] from[h * from_step + i], i < n, of every head in every row: part of the
/// columns of one matrix into part of another's. Where `from` is left out: 0.
template <class Isa>
void move_parts(const Matrix& from, Index from_begin, Index from_step, const Matrix& to, Index to_begin,
                Index to_step, Index heads, Index n, bool accumulate, Stream& stream) {
  with_dtype(from.dtype, [&](auto f) {
    with_dtype(to.dtype, [&](auto t) {
      using From = TypeOf<decltype(f)>;
      using To = TypeOf<decltype(t)>;
      over_rows<Isa>(to.rows, heads * n, stream, [&](Index i) {
        const From* x = from.given() ? row<const From>(from, i) + from_begin : nullptr;
        To* y = row<To>(to, i) + to_begin;
        for (Index h = 0; h < heads; h++) {
          for_lanes<Isa>(
              n, [&](Index j, auto lanes) __attribute__((always_inline)) {
                auto v = x != nullptr ? load<Isa>(x + h * from_step + j, lanes) : Isa::zero();
                if (accumulate) v = v + load<Isa>(y + h * to_step + j, lanes);
                store<Isa>(y + h * to_step + j, v, lanes);
              });
        }
      });
    });
  });
}

/// to[j] = [itself +] the sum over heads of from[h * step + begin + j], kPiece of them at a time in float.
template <class Isa>
void sum_heads(const Matrix& from, Index begin, Index step, const Matrix& to, Index heads, bool accumulate,
               Stream& stream) {
  with_dtype(from.dtype, [&](auto f) {
    with_dtype(to.dtype, [&](auto t) {
      using From = TypeOf<decltype(f)>;
      using To = TypeOf<decltype(t)>;
      over_rows<Isa>(to.rows, heads * to.cols, stream, [&](Index i) {
        const From* x = from.given() ? row<const From>(from, i) + begin : nullptr;
        To* y = row<To>(to, i);
        for_lanes<Isa>(
            to.cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
              auto total = Isa::wide_zero();
              for (Index h = 0; x != nullptr && h < heads; h += kPiece) {
                auto piece = Isa::zero();
                for (Index g = h; g < least(heads, h + kPiece); g++)
                  piece = piece + load<Isa>(x + g * step + j, lanes);
                total = Isa::add(total, piece);
              }
              auto sum = Isa::rounded(total);
              if (accumulate) sum = sum + load<Isa>(y + j, lanes);
              store<Isa>(y + j, sum, lanes);
            });
      });
    });
  });
}

template <class Isa>
void RowKernels<Isa>::mla_keys_values_grad(const MlaKeysValuesGradArgs& a, Stream& stream) {
  const Index kv_dim = a.nope_dim + a.v_dim, k_dim = a.nope_dim + a.rope_dim;
  if (a.dkv.given()) {
    move_parts<Isa>(a.dk, 0, k_dim, a.dkv, 0, kv_dim, a.heads, a.nope_dim, a.accumulate_dkv, stream);
    move_parts<Isa>(a.dv, 0, a.v_dim, a.dkv, a.nope_dim, kv_dim, a.heads, a.v_dim, a.accumulate_dkv, stream);
  }
  if (a.dk_pe.given()) sum_heads<Isa>(a.dk, a.nope_dim, k_dim, a.dk_pe, a.heads, a.accumulate_dk_pe, stream);
}

}  // namespace hone::kernels::cpu
