// Vectors of 16 floats: AVX-512 F, BW, DQ, VL. For units in avx512*/ only (see isa.h).
//
// The names are those of every simd_*.h: Vec, kLanes, kTileRows, kDotBf16, kAmx and the functions below. Vec
// itself takes + - * / (a GCC vector type). "n" counts lanes from the first; a load leaves the others 0 and
// touches no memory past n, a store leaves the memory past n as it is.
#pragma once

#include <immintrin.h>

#include "base/dtype.h"
#include "kernels/cpu/isa.h"

namespace hone::kernels::cpu {

/// What AVX-512 processors have in common. Isa is the tag, so that each has its own copy of every function.
template <class Isa>
struct Avx512Ops {
  using Vec = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kTileRows =
      14;  // rows of the matrix micro-kernel: 14 x 2 accumulators of 32 registers
  static constexpr Index kL2Bytes = 1 << 20;
  static constexpr bool kAmx = false;

  [[gnu::always_inline]] static Vec zero() { return _mm512_setzero_ps(); }
  [[gnu::always_inline]] static Vec set(float x) { return _mm512_set1_ps(x); }
  [[gnu::always_inline]] static __mmask16 first(Index n) { return static_cast<__mmask16>((1U << n) - 1); }

  [[gnu::always_inline]] static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  [[gnu::always_inline]] static Vec load(const float* p, Index n) {
    return _mm512_maskz_loadu_ps(first(n), p);
  }
  [[gnu::always_inline]] static Vec load(const BFloat16* p) { return widen(_mm256_loadu_epi16(p)); }
  [[gnu::always_inline]] static Vec load(const BFloat16* p, Index n) {
    return widen(_mm256_maskz_loadu_epi16(first(n), p));
  }
  [[gnu::always_inline]] static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  [[gnu::always_inline]] static void store(float* p, Vec v, Index n) {
    _mm512_mask_storeu_ps(p, first(n), v);
  }
  [[gnu::always_inline]] static void store(BFloat16* p, Vec v) { _mm256_storeu_epi16(p, Isa::narrow(v)); }
  [[gnu::always_inline]] static void store(BFloat16* p, Vec v, Index n) {
    _mm256_mask_storeu_epi16(p, first(n), Isa::narrow(v));
  }
  /// Stores past the caches; p is aligned to 64 bytes. Two vectors at a time, so that bf16 fills a line.
  [[gnu::always_inline]] static void stream(float* p, Vec a, Vec b) {
    _mm512_stream_ps(p, a);
    _mm512_stream_ps(p + 16, b);
  }
  [[gnu::always_inline]] static void stream(BFloat16* p, Vec a, Vec b) {
    const __m512i low = _mm512_castsi256_si512(Isa::narrow(a));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), _mm512_inserti64x4(low, Isa::narrow(b), 1));
  }

  /// a * b + c and c - a * b, rounded once.
  [[gnu::always_inline]] static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  [[gnu::always_inline]] static Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
  /// The second argument where either is NaN.
  [[gnu::always_inline]] static Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
  [[gnu::always_inline]] static Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  [[gnu::always_inline]] static Vec sqrt(Vec a) { return _mm512_sqrt_ps(a); }
  /// The first n lanes of a, the others from b.
  [[gnu::always_inline]] static Vec blend(Vec a, Vec b, Index n) {
    return _mm512_mask_blend_ps(first(n), b, a);
  }
  /// A bit for each lane, set where a equals b.
  [[gnu::always_inline]] static unsigned equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  /// 0, 1, 2 …
  [[gnu::always_inline]] static Vec iota() {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  /// Over the lanes, in one fixed order.
  [[gnu::always_inline]] static float sum(Vec v) { return _mm512_reduce_add_ps(v); }
  [[gnu::always_inline]] static float max_of(Vec v) { return _mm512_reduce_max_ps(v); }

  /// Sums in double, lane by lane: what short sums in float are added to.
  struct Wide {
    __m512d low, high;
  };
  [[gnu::always_inline]] static Wide wide_zero() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
  [[gnu::always_inline]] static Wide load(const double* p) {
    return {_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)};
  }
  [[gnu::always_inline]] static void store(double* p, Wide s) {
    _mm512_storeu_pd(p, s.low);
    _mm512_storeu_pd(p + 8, s.high);
  }
  [[gnu::always_inline]] static Wide add(Wide s, Vec v) {
    return {_mm512_add_pd(s.low, _mm512_cvtps_pd(_mm512_castps512_ps256(v))),
            _mm512_add_pd(s.high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)))};
  }
  [[gnu::always_inline]] static Wide add(Wide a, Wide b) {
    return {_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)};
  }
  [[gnu::always_inline]] static double sum(Wide s) {
    return _mm512_reduce_add_pd(_mm512_add_pd(s.low, s.high));
  }
  /// Rounded to float.
  [[gnu::always_inline]] static Vec rounded(Wide s) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(s.low)), _mm512_cvtpd_ps(s.high), 1);
  }

  /// e^x within 0.9 units in the last place, 0.30 on the whole (rounding alone: 0.29); 0 below -104, infinity
  /// above 88.73, NaN stays NaN.
  [[gnu::always_inline]] static Vec exp(Vec x) {
    x = max(set(-104.0F), min(set(89.0F), x));
    const Vec n = _mm512_roundscale_ps(x * set(1.44269504F), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    Vec r = fnma(n, set(0.693359375F), x);  // ln 2 in two parts; the first times n is exact
    r = fnma(n, set(-2.12194440e-4F), r);
    Vec p = set(1.9875691500e-4F);
    p = fma(p, r, set(1.3981999507e-3F));
    p = fma(p, r, set(8.3334519073e-3F));
    p = fma(p, r, set(4.1665795894e-2F));
    p = fma(p, r, set(1.6666665459e-1F));
    p = fma(p, r, set(5.0000001201e-1F));
    p = fma(p, r, set(1.0F));
    p = fma(p, r, set(1.0F));
    return _mm512_scalef_ps(p, n);
  }
  [[gnu::always_inline]] static Vec sigmoid(Vec x) { return set(1.0F) / (set(1.0F) + exp(zero() - x)); }

  /// kLanes FP4 numbers (sign, two bits of exponent, one of mantissa), two in a byte.
  [[gnu::always_inline]] static Vec e2m1(const std::uint8_t* p) {
    std::uint32_t words[2];
    __builtin_memcpy(words, p, sizeof words);
    const __m512i low = _mm512_set1_epi32(static_cast<int>(words[0]));
    const __m512i both = _mm512_mask_set1_epi32(low, 0xff00, static_cast<int>(words[1]));
    const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    const Vec numbers = _mm512_setr_ps(0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F, -0.0F, -0.5F, -1.0F,
                                       -1.5F, -2.0F, -3.0F, -4.0F, -6.0F);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(both, shifts), numbers);  // by the low four bits
  }
  /// kLanes FP8 numbers (sign, four bits of exponent, three of mantissa; all ones: NaN).
  [[gnu::always_inline]] static Vec e4m3(const std::uint8_t* p) {
    const __m512i x = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m512i magnitude = _mm512_and_si512(x, _mm512_set1_epi32(0x7f));
    const __m512i bits = _mm512_add_epi32(_mm512_slli_epi32(magnitude, 20), _mm512_set1_epi32(120 << 23));
    // With no exponent it is m / 8 * 2^-6: one more in the exponent, less what the hidden bit adds.
    const __mmask16 small = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(8));
    const __m512i raised = _mm512_mask_add_epi32(bits, small, bits, _mm512_set1_epi32(1 << 23));
    Vec value = _mm512_castsi512_ps(raised);
    value = _mm512_mask_sub_ps(value, small, value, set(0x1p-6F));
    const __m512i sign = _mm512_slli_epi32(_mm512_andnot_si512(_mm512_set1_epi32(0x7f), x), 24);
    value = _mm512_or_ps(value, _mm512_castsi512_ps(sign));
    const __mmask16 nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f));
    return _mm512_mask_blend_ps(nan, value, set(__builtin_nanf("")));
  }

  /// The 32 bits at p in every lane.
  [[gnu::always_inline]] static Vec broadcast(const void* p) {
    float word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_set1_ps(word);
  }
  /// n / 2 numbers, each in two neighbouring lanes.
  [[gnu::always_inline]] static Vec load_twice(const float* p, Index n) {
    const __m512i places = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(places, load(p, n / 2));
  }
  /// Lanes 1, 0, 3, 2 …
  [[gnu::always_inline]] static Vec swap_pairs(Vec v) { return _mm512_permute_ps(v, 0xb1); }
  /// a * b - c in even lanes, a * b + c in odd ones, rounded once; and the other way round.
  [[gnu::always_inline]] static Vec fmaddsub(Vec a, Vec b, Vec c) { return _mm512_fmaddsub_ps(a, b, c); }
  [[gnu::always_inline]] static Vec fmsubadd(Vec a, Vec b, Vec c) { return _mm512_fmsubadd_ps(a, b, c); }
  /// Transposes a 16 x 16 matrix of 32-bit words, a row in each vector.
  [[gnu::always_inline]] static void transpose(Vec (&rows)[16]);

 private:
  [[gnu::always_inline]] static Vec widen(__m256i v) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
  }
};

template <class Isa>
[[gnu::always_inline]] inline void Avx512Ops<Isa>::transpose(Vec (&rows)[16]) {
  __m512i r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) r[i] = _mm512_castps_si512(rows[i]);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {  // pairs of words
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // four words of one column in each 128-bit quarter
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {  // quarters to their columns
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    rows[i] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i], t[i + 8], 0x88));
    rows[i + 8] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd));
    rows[i + 4] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88));
    rows[i + 12] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd));
  }
}

/// Without bf16 arithmetic: bf16 is widened to float when it is packed.
struct Avx512 : Avx512Ops<Avx512> {
  static constexpr bool kDotBf16 = false;
  /// Rounds to nearest even; NaN stays NaN.
  [[gnu::always_inline]] static __m256i narrow(Vec v) {
    const __m512i u = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
  }
};

}  // namespace hone::kernels::cpu
