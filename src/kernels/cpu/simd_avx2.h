// Vectors of 8 floats: AVX2 and FMA. The names are explained in simd_avx512.h. For units in avx2/ only (see
// isa.h).
#pragma once

#include <immintrin.h>

#include "base/dtype.h"
#include "kernels/cpu/isa.h"

namespace hone::kernels::cpu {

struct Avx2 {
  using Vec = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 6;  // 6 x 2 accumulators of 16 registers
  static constexpr bool kDotBf16 = false;
  static constexpr bool kAmx = false;
  static constexpr Index kL2Bytes = 1 << 18;

  [[gnu::always_inline]] static Vec zero() { return _mm256_setzero_ps(); }
  [[gnu::always_inline]] static Vec set(float x) { return _mm256_set1_ps(x); }
  [[gnu::always_inline]] static __m256i first(Index n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  [[gnu::always_inline]] static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  [[gnu::always_inline]] static Vec load(const float* p, Index n) { return _mm256_maskload_ps(p, first(n)); }
  [[gnu::always_inline]] static Vec load(const BFloat16* p) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  [[gnu::always_inline]] static Vec load(const BFloat16* p, Index n) {
    alignas(16) BFloat16 lanes[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes), _mm_setzero_si128());
    for (Index i = 0; i < n; i++) lanes[i].bits = p[i].bits;
    return load(lanes);
  }
  [[gnu::always_inline]] static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  [[gnu::always_inline]] static void store(float* p, Vec v, Index n) { _mm256_maskstore_ps(p, first(n), v); }
  [[gnu::always_inline]] static void store(BFloat16* p, Vec v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(v));
  }
  [[gnu::always_inline]] static void store(BFloat16* p, Vec v, Index n) {
    alignas(16) BFloat16 lanes[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes), narrow(v));
    for (Index i = 0; i < n; i++) p[i].bits = lanes[i].bits;
  }
  /// Stores past the caches; p is aligned to 64 bytes.
  [[gnu::always_inline]] static void stream(float* p, Vec a, Vec b) {
    _mm256_stream_ps(p, a);
    _mm256_stream_ps(p + 8, b);
  }
  [[gnu::always_inline]] static void stream(BFloat16* p, Vec a, Vec b) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow(a));
    _mm_stream_si128(reinterpret_cast<__m128i*>(p + 8), narrow(b));
  }

  [[gnu::always_inline]] static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  [[gnu::always_inline]] static Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
  [[gnu::always_inline]] static Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
  [[gnu::always_inline]] static Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  [[gnu::always_inline]] static Vec sqrt(Vec a) { return _mm256_sqrt_ps(a); }
  [[gnu::always_inline]] static Vec blend(Vec a, Vec b, Index n) {
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(first(n)));
  }
  [[gnu::always_inline]] static unsigned equal(Vec a, Vec b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
  }
  [[gnu::always_inline]] static Vec iota() { return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7); }
  [[gnu::always_inline]] static float sum(Vec v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  [[gnu::always_inline]] static float max_of(Vec v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }

  struct Wide {
    __m256d low, high;
  };
  [[gnu::always_inline]] static Wide wide_zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  [[gnu::always_inline]] static Wide load(const double* p) {
    return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)};
  }
  [[gnu::always_inline]] static void store(double* p, Wide s) {
    _mm256_storeu_pd(p, s.low);
    _mm256_storeu_pd(p + 4, s.high);
  }
  [[gnu::always_inline]] static Wide add(Wide s, Vec v) {
    return {_mm256_add_pd(s.low, _mm256_cvtps_pd(_mm256_castps256_ps128(v))),
            _mm256_add_pd(s.high, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)))};
  }
  [[gnu::always_inline]] static Wide add(Wide a, Wide b) {
    return {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
  }
  [[gnu::always_inline]] static double sum(Wide s) {
    const __m256d both = _mm256_add_pd(s.low, s.high);
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(both), _mm256_extractf128_pd(both, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
  }
  [[gnu::always_inline]] static Vec rounded(Wide s) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(s.low)), _mm256_cvtpd_ps(s.high), 1);
  }

  /// As Avx512Ops::exp.
  [[gnu::always_inline]] static Vec exp(Vec x) {
    x = max(set(-104.0F), min(set(89.0F), x));
    const Vec n = _mm256_round_ps(x * set(1.44269504F), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    Vec r = fnma(n, set(0.693359375F), x);
    r = fnma(n, set(-2.12194440e-4F), r);
    Vec p = set(1.9875691500e-4F);
    p = fma(p, r, set(1.3981999507e-3F));
    p = fma(p, r, set(8.3334519073e-3F));
    p = fma(p, r, set(4.1665795894e-2F));
    p = fma(p, r, set(1.6666665459e-1F));
    p = fma(p, r, set(5.0000001201e-1F));
    p = fma(p, r, set(1.0F));
    p = fma(p, r, set(1.0F));
    // 2^n in two factors, as n runs from -150 to 128
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return p * power_of_two(half) * power_of_two(_mm256_sub_epi32(whole, half));
  }
  [[gnu::always_inline]] static Vec sigmoid(Vec x) { return set(1.0F) / (set(1.0F) + exp(zero() - x)); }

  /// As Avx512Ops::e2m1 and e4m3.
  [[gnu::always_inline]] static Vec e2m1(const std::uint8_t* p) {
    std::uint32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    const __m256i nibbles = _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(word)),
                                              _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    const Vec magnitudes = _mm256_setr_ps(0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F);
    const __m256i sign =
        _mm256_and_si256(_mm256_slli_epi32(nibbles, 28), _mm256_set1_epi32(static_cast<int>(0x80000000)));
    return _mm256_or_ps(_mm256_permutevar8x32_ps(magnitudes, nibbles), _mm256_castsi256_ps(sign));
  }
  [[gnu::always_inline]] static Vec e4m3(const std::uint8_t* p) {
    const __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    const __m256i magnitude = _mm256_and_si256(x, _mm256_set1_epi32(0x7f));
    const __m256i bits = _mm256_add_epi32(_mm256_slli_epi32(magnitude, 20), _mm256_set1_epi32(120 << 23));
    const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), magnitude);
    const __m256i raised = _mm256_add_epi32(bits, _mm256_and_si256(small, _mm256_set1_epi32(1 << 23)));
    const Vec value = _mm256_castsi256_ps(raised) - _mm256_and_ps(_mm256_castsi256_ps(small), set(0x1p-6F));
    const __m256i sign = _mm256_slli_epi32(_mm256_andnot_si256(_mm256_set1_epi32(0x7f), x), 24);
    const __m256i nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f));
    return _mm256_blendv_ps(_mm256_or_ps(value, _mm256_castsi256_ps(sign)), set(__builtin_nanf("")),
                            _mm256_castsi256_ps(nan));
  }

  [[gnu::always_inline]] static Vec broadcast(const void* p) {
    return _mm256_broadcast_ss(static_cast<const float*>(p));
  }
  [[gnu::always_inline]] static Vec load_twice(const float* p, Index n) {
    const __m128 half = _mm_maskload_ps(p, _mm256_castsi256_si128(first(n / 2)));
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(half), _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
  }
  [[gnu::always_inline]] static Vec swap_pairs(Vec v) { return _mm256_permute_ps(v, 0xb1); }
  [[gnu::always_inline]] static Vec fmaddsub(Vec a, Vec b, Vec c) { return _mm256_fmaddsub_ps(a, b, c); }
  [[gnu::always_inline]] static Vec fmsubadd(Vec a, Vec b, Vec c) { return _mm256_fmsubadd_ps(a, b, c); }
  /// Transposes an 8 x 8 matrix of 32-bit words, a row in each vector.
  [[gnu::always_inline]] static void transpose(Vec (&r)[8]) {
    Vec t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    Vec s[8];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      s[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      s[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      s[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      s[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      r[i] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
      r[i + 4] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
    }
  }

 private:
  [[gnu::always_inline]] static Vec widen(__m128i v) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
  }
  /// Rounds to nearest even; NaN stays NaN.
  [[gnu::always_inline]] static __m128i narrow(Vec v) {
    const __m256i u = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }
  [[gnu::always_inline]] static Vec power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
};

}  // namespace hone::kernels::cpu
