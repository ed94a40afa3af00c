// The element-wise part of attention's gradient: what happens between the products that make scores and those
// that use them up.
#pragma once

#include "kernels/cpu/attention_blocks.h"

namespace hone::kernels::cpu {

/// out[j] = the product of column j of x and column j of y, panels of `words` words, in the micro-kernel's
/// chains. Whole vectors are written.
template <class Isa, class E>
void multiply_columns(const float* x, const float* y, Index words, Index columns, float* out) {
  constexpr Index kWidth = kPanel<Isa>;
  for (Index j = 0; j < columns; j += Isa::kLanes) {
    Index at = j / kWidth * kWidth * words + j % kWidth;
    typename Isa::Vec over = Isa::zero();
    for (Index w = 0; w < words;) {
      typename Isa::Vec sum = Isa::zero();
      for (const Index end = least(words, w + kChainWords); w < end; w++, at += kWidth) {
        sum = multiply_add<Isa, E>(Isa::load(x + at), Isa::load(y + at), sum);
      }
      over = over + sum;
    }
    Isa::store(out + j, over);
  }
}

/// kLanes keys times kLanes queries: scores and gradients of probabilities in, p = exp(scale * score - lse)
/// and ds = p * (gradient - mean) out as E, in the same rows; with a softcap, of the score capped. A row
/// holds more queries than these, and what was in front of them is E already: an element is never written
/// before it was read.
template <class Isa, class E>
struct SoftmaxSquare {
  using Vec = typename Isa::Vec;
  static constexpr Index kLanes = Isa::kLanes;

  float *score, *dscore;  // the first key's rows
  Index stride;
  Index query;          // the first one's place in the rows
  float* ds = nullptr;  // the same ds once more, [query][key], or null
  Index ds_stride = 0;

  struct Queries {
    float scale;  // with a softcap: divided by it
    float softcap;
    const float *lse, *mean;
  };
  /// What a square in which not everyone sees everyone needs to know: the first key's position less the first
  /// query's, how many keys and queries there are from there on, and the window.
  struct Edge {
    Index key = 0, keys = 0, queries = 0, window = 0;
    [[gnu::always_inline]] Range seeing(Index r) const {
      if (r >= keys) return {0, 0};
      return {key + r, window > 0 ? least(queries, key + r + window) : queries};
    }
  };

  template <bool kMasked, bool kCapped>
  void compute(const Queries& of, const Edge& edge) const {
    const Vec scale = Isa::set(of.scale), lse = Isa::load(of.lse), mean = Isa::load(of.mean);
    float *from = score, *dfrom = dscore;
    Vec square[kLanes];
#pragma GCC unroll 16
    for (Index r = 0; r < kLanes; r++, from += stride, dfrom += stride) {
      Vec p, d;
      if constexpr (kCapped) {
        const Tanh<Isa> capped(Isa::load(from + query) * scale);
        p = Isa::exp(capped.value * Isa::set(of.softcap) - lse);
        d = p * (Isa::load(dfrom + query) - mean) * capped.slope;
      } else {
        p = Isa::exp(Isa::load(from + query) * scale - lse);
        d = p * (Isa::load(dfrom + query) - mean);
      }
      if constexpr (kMasked) {
        const Range lanes = edge.seeing(r);
        p = keep<Isa>(p, lanes.begin, lanes.end);
        d = keep<Isa>(d, lanes.begin, lanes.end);
      }
      Isa::store(reinterpret_cast<E*>(from) + query, p);
      Isa::store(reinterpret_cast<E*>(dfrom) + query, d);
      square[r] = d;
    }
    if (ds == nullptr) return;
    Isa::transpose(square);
    float* to = ds;
#pragma GCC unroll 16
    for (Index r = 0; r < kLanes; r++, to += ds_stride) Isa::store(reinterpret_cast<E*>(to), square[r]);
  }

  void clear() const {
    for (Index r = 0; r < kLanes; r++) {
      Isa::store(reinterpret_cast<E*>(score + r * stride) + query, Isa::zero());
      Isa::store(reinterpret_cast<E*>(dscore + r * stride) + query, Isa::zero());
      if (ds != nullptr) Isa::store(reinterpret_cast<E*>(ds + r * ds_stride), Isa::zero());
    }
  }
};

}  // namespace hone::kernels::cpu
