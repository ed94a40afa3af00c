// What the language-model head does with the tiles of its products: logits become exponentials and sums, and
// the sums of a row's gradient get the target's part.
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/matmul.h"

namespace hone::kernels::cpu {

/// What a row's logits within one group of panels amount to.
struct LogitGroup {
  float largest;
  float sum;  // of exp(logit - largest)
};

/// softcap * tanh(logit / softcap) and its slope; without a softcap the logit itself.
struct CappedLogit {
  double value, slope = 1;
  [[gnu::always_inline]] CappedLogit(double logit, double softcap) : value(logit) {
    if (softcap <= 0) return;
    value = softcap * __builtin_tanh(logit / softcap);
    const double cosh = __builtin_cosh(logit / softcap);
    slope = 1 / (cosh * cosh);
  }
};

/// Takes the logits of a chunk of rows, for columns from `first` on.
template <class Isa, class S>
struct LogitSink {
  const std::int32_t* words;  // of each row: its target's column, or one that there is none of
  float* target_logit;        // of each row; before a softcap
  LogitGroup* groups;         // (rows, group_count)
  Index group_count, group_columns, first;
  S* exponentials;  // (rows, stride): exp(logit - largest), with a softcap times its slope; or null
  Index stride;
  float* logits;  // (kTileRows, group_columns): the thread's own
  float logit_scale, softcap;

  [[gnu::always_inline]] bool direct(Index /*j*/, Index /*columns*/) const { return true; }
  [[gnu::always_inline]] TileOut<Isa, float> target(Index /*row*/, Index j) const {
    return {logits + j % group_columns, group_columns, false};
  }
  [[gnu::always_inline]] void prefetch(Index /*row*/, Index /*rows*/, Index /*j*/) const {}
  void finish(Index /*row*/, Index /*rows*/, Index /*j*/, Index /*columns*/, const float* /*tile*/) {}
  void row_done(Index row, Index rows, Index j, Index end) {
    for (Index i = 0; i < rows; i++) {
      float* x = logits + i * group_columns;
      if (logit_scale != 1) scale_logits(x, end - j);
      const Index wanted = words[row + i] - j;
      if (wanted >= 0 && wanted < end - j) target_logit[row + i] = x[wanted];
      S* out = exponentials != nullptr ? exponentials + (row + i) * stride + (j - first) : nullptr;
      groups[(row + i) * group_count + (j - first) / group_columns] =
          softcap > 0 ? take_exponentials<true>(x, end - j, out) : take_exponentials<false>(x, end - j, out);
    }
  }

 private:
  void scale_logits(float* x, Index n) const {
    for (Index c = 0; c < n; c += Isa::kLanes) Isa::store(x + c, Isa::load(x + c) * Isa::set(logit_scale));
  }
  template <bool kCapped>
  LogitGroup take_exponentials(const float* x, Index n, S* out) const {
    using Vec = typename Isa::Vec;
    constexpr Index kLanes = Isa::kLanes;
    const Index whole = n / kLanes * kLanes, rest = n - whole;
    const Vec lowest = Isa::set(-__builtin_inff()), cap = Isa::set(softcap), inverse = Isa::set(1 / softcap);
    Vec top = lowest;
    for (Index c = 0; c < whole; c += kLanes) top = Isa::max(top, Isa::load(x + c));
    if (rest > 0) top = Isa::max(top, Isa::blend(Isa::load(x + whole), lowest, rest));
    Vec at = Isa::set(Isa::max_of(top)), sum = Isa::zero();
    if constexpr (kCapped) at = cap * Tanh<Isa>(at * inverse).value;
    const auto take = [&](Index c, Index lanes) __attribute__((always_inline)) {
      Vec logit = Isa::load(x + c), slope = Isa::zero();
      if constexpr (kCapped) {
        const Tanh<Isa> tanh(logit * inverse);
        logit = cap * tanh.value;
        slope = tanh.slope;
      }
      Vec e = Isa::exp(logit - at);
      if (lanes < kLanes) e = Isa::blend(e, Isa::zero(), lanes);
      sum = sum + e;
      if (out == nullptr) return;
      if constexpr (kCapped) e = e * slope;
      store_lanes<Isa>(out + c, e, lanes);
    };
    for (Index c = 0; c < whole; c += kLanes) take(c, kLanes);
    if (rest > 0) take(whole, rest);
    return {Isa::max_of(at), Isa::sum(sum)};
  }
};

/// Stores dhidden = sum + of_target * the target's row of the weight: the one large term of a row of the
/// vocabulary's sum comes last, so that no small term is rounded to it (and is f32 where the others are
/// bf16). With it inside, GradientGolden's whole gradient is 1.4 times as far from float64, model.norm's 4.7.
template <class Isa, class T, class C>
struct HiddenGradSink {
  MatmulSink<Isa, T, C> out;
  const std::int32_t* words;  // of each row: its target's row of the weight
  const float* of_target;     // of each row; 0 where the weight has no such row
  Matrix weight;

  [[gnu::always_inline]] bool direct(Index /*j*/, Index /*columns*/) const { return false; }
  [[gnu::always_inline]] TileOut<Isa, C> target(Index row, Index j) const { return out.target(row, j); }
  [[gnu::always_inline]] void prefetch(Index row, Index rows, Index j) const {
    for (Index i = row; i < row + rows; i++) {
      if (of_target[i] != 0) prefetch_panel<Isa>(row_of(i) + j);
    }
  }
  void finish(Index row, Index rows, Index j, Index columns, float* tile) {
    for (Index i = 0; i < rows; i++) {
      if (of_target[row + i] == 0) continue;
      const T* w = row_of(row + i) + j;
      const auto scale = Isa::set(of_target[row + i]);
      for (Index h = 0; h < columns; h += Isa::kLanes) {
        float* sum = tile + i * kPanel<Isa> + h;
        Isa::store(sum,
                   Isa::fma(scale, load_lanes<Isa>(w + h, least(Isa::kLanes, columns - h)), Isa::load(sum)));
      }
    }
    out.finish(row, rows, j, columns, tile);
  }

 private:
  [[gnu::always_inline]] const T* row_of(Index i) const {
    return static_cast<const T*>(weight.data) + words[i] * weight.stride;
  }
};

}  // namespace hone::kernels::cpu
