// AVX-512 with BF16: products of bf16 pairs summed in f32 (VDPBF16PS), and rounding to bf16 in one
// instruction. Both take numbers below 2^-126 for 0. For units in avx512_bf16/ and avx512_amx/ only (see
// isa.h).
#pragma once

#include "kernels/cpu/simd_avx512.h"

namespace hone::kernels::cpu {

/// What such processors have in common.
template <class Isa>
struct Avx512Bf16Ops : Avx512Ops<Isa> {
  using typename Avx512Ops<Isa>::Vec;
  using Avx512Ops<Isa>::first;
  static constexpr bool kDotBf16 = true;
  [[gnu::always_inline]] static __m256i narrow(Vec v) {
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
  }
  /// c + a.even * b.even + a.odd * b.odd, where a and b hold a pair of bf16 in each lane.
  [[gnu::always_inline]] static Vec dot(Vec a, Vec b, Vec c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  /// n bf16 (at most 32) as pairs.
  [[gnu::always_inline]] static Vec load_pairs(const BFloat16* p, Index n) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ULL << n) - 1), p));
  }
  [[gnu::always_inline]] static Vec load_pairs(const BFloat16* p) {
    return _mm512_castsi512_ps(_mm512_loadu_epi16(p));
  }
  /// n pairs (at most 16) of an element of `even` with the one below it in `odd`; odd may be null for zeros.
  [[gnu::always_inline]] static Vec zip(const BFloat16* even, const BFloat16* odd, Index n) {
    __m512i v = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), even));
    if (odd != nullptr) {
      const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), odd));
      v = _mm512_or_si512(v, _mm512_slli_epi32(high, 16));
    }
    return _mm512_castsi512_ps(v);
  }
  /// The same for 32 pairs.
  [[gnu::always_inline]] static void zip(const BFloat16* even, const BFloat16* odd, Vec& low, Vec& high) {
    const __m512i a = _mm512_loadu_epi16(even), b = _mm512_loadu_epi16(odd);
    const __m512i first_half = _mm512_unpacklo_epi16(a, b), second_half = _mm512_unpackhi_epi16(a, b);
    // the unpacked quarters 0 2 4 6 and 1 3 5 7, put in order
    const __m512i first_words = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i last_words = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    low = _mm512_castsi512_ps(_mm512_permutex2var_epi64(first_half, first_words, second_half));
    high = _mm512_castsi512_ps(_mm512_permutex2var_epi64(first_half, last_words, second_half));
  }
};

struct Avx512Bf16 : Avx512Bf16Ops<Avx512Bf16> {};

}  // namespace hone::kernels::cpu
