// Optimizers whose state takes fewer bits (moments.h): block by block through buffers of floats.
#pragma once

#include "kernels/cpu/rows.h"
#include "kernels/moments.h"

namespace hone::kernels::cpu {

/// AdamW's formula over vectors.
template <class Isa>
struct AdamWStep {
  using Vec = typename Isa::Vec;
  Vec beta1, beta2;
  Vec of_first, of_second;  // the gradient's part of the first moment, the root of its part of the second
  Vec eps, correction2, rate, keep;

  /// scale, scale_sq: what the moments are in units of.
  [[gnu::always_inline]] explicit AdamWStep(const AdamWArgs& a, float scale = 1, float scale_sq = 1) {
    const StepScalars& s = *a.scalars;
    const float learning_rate = a.rate_scale * s.learning_rate;
    beta1 = Isa::set(a.beta1 * scale), beta2 = Isa::set(a.beta2 * scale_sq);
    of_first = Isa::set(s.clip_factor * (1 - a.beta1));
    of_second = Isa::set(s.clip_factor * __builtin_sqrtf(1 - a.beta2));
    eps = Isa::set(a.eps);
    correction2 = Isa::set(1.0F / __builtin_sqrtf(s.bias_correction2));
    rate = Isa::set(learning_rate / s.bias_correction1);
    keep = Isa::set(1 - learning_rate * a.weight_decay);
  }
  /// The new weight; the moments become the new ones, as they are.
  [[gnu::always_inline]] Vec operator()(Vec grad, Vec& avg, Vec& avg_sq, Vec weight) const {
    const Vec root = grad * of_second;
    avg = Isa::fma(beta1, avg, grad * of_first);
    avg_sq = Isa::fma(root, root, beta2 * avg_sq);
    return Isa::fnma(rate, avg / Isa::fma(Isa::sqrt(avg_sq), correction2, eps), keep * weight);
  }
};

/// n numbers of a block into whole vectors; what is beyond n is 0.
template <class Isa, class T>
[[gnu::always_inline]] inline void load_block(const T* from, Index n, float (&to)[kMomentBlock]) {
  for (Index j = 0; j < kMomentBlock; j += Isa::kLanes) Isa::store(to + j, Isa::zero());
  for_lanes<Isa>(
      n, [&](Index j, auto lanes)
             __attribute__((always_inline)) { store<Isa>(to + j, load<Isa>(from + j, lanes), lanes); });
}
template <class Isa, class T>
[[gnu::always_inline]] inline void store_block(const float (&from)[kMomentBlock], Index n, T* to) {
  for_lanes<Isa>(
      n, [&](Index j, auto lanes)
             __attribute__((always_inline)) { store<Isa>(to + j, load<Isa>(from + j, lanes), lanes); });
}

/// A block of masters, f32 or bf16.
template <class Isa, class Args>
[[gnu::always_inline]] inline void load_masters(const Args& a, Index begin, Index n,
                                                float (&to)[kMomentBlock]) {
  if (a.master_dtype == DType::kBF16)
    load_block<Isa>(static_cast<const BFloat16*>(a.master) + begin, n, to);
  else
    load_block<Isa>(static_cast<const float*>(a.master) + begin, n, to);
}
/// Back, those of bf16 rounded at random; and the weights that are kept besides.
template <class Isa, class Args>
[[gnu::always_inline]] inline void store_masters(const Args& a, Index begin, Index n,
                                                 const float (&from)[kMomentBlock]) {
  if (a.master_dtype == DType::kBF16) {
    const std::uint32_t key = rounding_key(a.rounding_seed, a.scalars->step);
    auto* to = static_cast<std::uint16_t*>(a.master) + begin;
    for (Index i = 0; i < n; i++) {
      std::uint32_t bits = 0;
      __builtin_memcpy(&bits, &from[i], sizeof bits);
      to[i] = round_at_random(bits, rounding_bits(key, a.first_index + begin + i));
    }
    return;
  }
  store_block<Isa>(from, n, static_cast<float*>(a.master) + begin);
  if (a.has_weight) store_block<Isa>(from, n, static_cast<BFloat16*>(a.weight) + begin);
}

/// moment_scale of a block; what is larger becomes the scale.
[[gnu::always_inline]] inline float scale_of(float (&x)[kMomentBlock]) {
  float largest = 0;
  for (Index i = 0; i < kMomentBlock; i++) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    largest = magnitude > largest ? magnitude : largest;
  }
  const float scale = moment_scale(largest);
  if (largest > scale)
    for (Index i = 0; i < kMomentBlock; i++) x[i] = x[i] > scale ? scale : (x[i] < -scale ? -scale : x[i]);
  return scale;
}

template <class Isa, class G>
void adamw_compact(const AdamWArgs& a, Stream& stream) {
  using Vec = typename Isa::Vec;
  const bool coded = a.moments == MomentKind::kDynamic8;
  const auto block = [&](Index index) __attribute__((always_inline)) {
    const AdamWStep<Isa> step(a, coded ? a.exp_avg_scales[index] : 1, coded ? a.exp_avg_sq_scales[index] : 1);
    const Index begin = index * kMomentBlock, n = least(kMomentBlock, a.n - begin);
    alignas(64) float master[kMomentBlock], grad[kMomentBlock], avg[kMomentBlock], avg_sq[kMomentBlock];
    load_masters<Isa>(a, begin, n, master);
    load_block<Isa>(static_cast<const G*>(a.grad) + begin, n, grad);
    auto* codes = static_cast<std::uint8_t*>(a.exp_avg) + begin;
    auto* codes_sq = static_cast<std::uint8_t*>(a.exp_avg_sq) + begin;
    if (coded) {
      for (Index i = 0; i < kMomentBlock; i++) {
        avg[i] = i < n ? first_moment(kMomentLevels, codes[i]) : 0;
        avg_sq[i] = i < n ? kMomentLevels.second[codes_sq[i]] : 0;
      }
    } else {
      load_block<Isa>(static_cast<const float*>(a.exp_avg) + begin, n, avg);
      load_block<Isa>(static_cast<const float*>(a.exp_avg_sq) + begin, n, avg_sq);
    }
    for (Index j = 0; j < kMomentBlock; j += Isa::kLanes) {
      Vec m = Isa::load(avg + j), v = Isa::load(avg_sq + j);
      Isa::store(master + j, step(Isa::load(grad + j), m, v, Isa::load(master + j)));
      Isa::store(avg + j, m);
      Isa::store(avg_sq + j, v);
    }
    store_masters<Isa>(a, begin, n, master);
    if (!coded) {
      store_block<Isa>(avg, n, static_cast<float*>(a.exp_avg) + begin);
      store_block<Isa>(avg_sq, n, static_cast<float*>(a.exp_avg_sq) + begin);
      return;
    }
    const float scale = scale_of(avg), scale_sq = scale_of(avg_sq);
    a.exp_avg_scales[index] = scale;
    a.exp_avg_sq_scales[index] = scale_sq;
    const float inverse = 1 / scale, inverse_sq = 1 / scale_sq;
    for (Index i = 0; i < n; i++) codes[i] = first_moment_code(avg[i] * inverse);
    for (Index i = 0; i < n; i++) codes_sq[i] = second_moment_code(avg_sq[i] * inverse_sq);
  };
  const Index blocks = ceil_div(a.n, kMomentBlock);
  stream.team().parallel_ranges(threads_for(a.n, stream), blocks, [&](Index begin, Index end, int) {
    for (Index i = begin; i < end; i++) block(i);
  });
}

/// With bf16 masters.
template <class Isa, class G>
void sgd_compact(const SgdArgs& a, Stream& stream) {
  using Vec = typename Isa::Vec;
  const auto block = [&](Index index) __attribute__((always_inline)) {
    const Vec clip = Isa::set(a.scalars->clip_factor), decay = Isa::set(a.weight_decay);
    const Vec rate = Isa::set(a.rate_scale * a.scalars->learning_rate), momentum = Isa::set(a.momentum);
    const Index begin = index * kMomentBlock, n = least(kMomentBlock, a.n - begin);
    alignas(64) float master[kMomentBlock], grad[kMomentBlock], buffer[kMomentBlock];
    load_masters<Isa>(a, begin, n, master);
    load_block<Isa>(static_cast<const G*>(a.grad) + begin, n, grad);
    const bool buffered = a.momentum != 0, adds = buffered && !a.first;
    if (adds) load_block<Isa>(a.momentum_buffer + begin, n, buffer);
    for (Index j = 0; j < kMomentBlock; j += Isa::kLanes) {
      const Vec old = Isa::load(master + j);
      Vec step = Isa::fma(decay, old, Isa::load(grad + j) * clip);
      if (adds) step = Isa::fma(momentum, Isa::load(buffer + j), step);
      Isa::store(buffer + j, step);
      Isa::store(master + j, Isa::fnma(rate, step, old));
    }
    if (buffered) store_block<Isa>(buffer, n, a.momentum_buffer + begin);
    store_masters<Isa>(a, begin, n, master);
  };
  const Index blocks = ceil_div(a.n, kMomentBlock);
  stream.team().parallel_ranges(threads_for(a.n, stream), blocks, [&](Index begin, Index end, int) {
    for (Index i = begin; i < end; i++) block(i);
  });
}

}  // namespace hone::kernels::cpu
