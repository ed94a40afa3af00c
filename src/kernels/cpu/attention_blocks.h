// What the attention kernels share: packing, the softmax of a row, masks, and products of blocks.
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/attention_code.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/gemm.h"

namespace hone::kernels::cpu {

/// Calls f with the type that the attention's matrices store, as a value. With AMX, f32 is another
/// instruction set's (register_attention.cpp).
template <class Isa, class F>
[[gnu::always_inline]] inline void with_storage(const Matrix& m, const F& f) {
  if (m.dtype == DType::kBF16) {
    f(BFloat16{});
  } else if constexpr (Isa::kAmx) {
    __builtin_trap();
  } else {
    f(0.0F);
  }
}

/// Prefetches `count` elements. Rows of a head lie too far apart for the processor to see a pattern.
template <class S>
[[gnu::always_inline]] inline void prefetch_row(const S* p, Index count) {
  for (Index j = 0; j < count; j += 64 / Index{sizeof(S)}) __builtin_prefetch(p + j);
}

/// Rows of `count` elements as words, filled up with zeros: `stride` words apart, a multiple of kLanes.
template <class Isa, class E, class S>
void copy_rows(const S* source, Index source_stride, Index rows, Index count, float* target, Index stride) {
  constexpr Index kStep = Isa::kLanes * kPerWord<E>;
  for (Index i = 0; i < rows; i++, source += source_stride, target += stride) {
    prefetch_row(source + 8 * source_stride, i + 8 < rows ? count : 0);
    Index j = 0;
    for (; j + kStep <= count; j += kStep)
      Isa::store(target + j / kPerWord<E>, load_words<Isa, E>(source + j));
    if (j < count) Isa::store(target + j / kPerWord<E>, load_words<Isa, E>(source + j, count - j));
  }
}

/// Packs `n` columns whose k of `k` elements runs along rows, as panels.
template <class Isa, class E, class S>
void pack_along(const S* source, Index stride, Index n, Index k, float* panels) {
  const Index size = words_of<Isa, E>(k) * kPanel<Isa>;
  for (Index j = 0; j < n; j += kPanel<Isa>, panels += size) {
    pack_panel<Isa, E>(AlongK<S>{source, stride}, j, n, 0, k, panels);
    fill_word_block<Isa, E>(k, panels);
  }
}
/// The same where k runs down the columns.
template <class Isa, class E, class S>
void pack_across(const S* source, Index stride, Index n, Index k, float* panels) {
  const Index size = words_of<Isa, E>(k) * kPanel<Isa>;
  for (Index j = 0; j < n; j += kPanel<Isa>, panels += size) {
    pack_panel<Isa, E>(AcrossK<S>{source, stride}, j, n, 0, k, panels);
    fill_word_block<Isa, E>(k, panels);
  }
}

/// Lanes [begin, end) of v, zeros elsewhere (begin and end may lie outside the vector).
template <class Isa>
[[gnu::always_inline]] inline typename Isa::Vec keep(typename Isa::Vec v, Index begin, Index end) {
  v = Isa::blend(v, Isa::zero(), most(0, least(end, Isa::kLanes)));
  return Isa::blend(Isa::zero(), v, most(0, least(begin, Isa::kLanes)));
}

/// s[seen] = cap * tanh(scale * s / cap), in whole vectors.
template <class Isa>
[[gnu::noinline]] void cap_row(float* s, Range seen, float scale, float cap) {
  const typename Isa::Vec factor = Isa::set(scale / cap), most = Isa::set(cap);
  for (Index j = seen.begin / Isa::kLanes * Isa::kLanes; j < seen.end; j += Isa::kLanes)
    Isa::store(s + j, Tanh<Isa>(Isa::load(s + j) * factor).value * most);
}

/// The running softmax of a row.
struct RowState {
  float max = -__FLT_MAX__;  // of the scaled scores so far
  float sum = 0;             // of exp(score - max)
};

/// log(sum of exp(score)), rounded once: its error makes every probability of the row wrong by one factor.
inline float log_sum_exp(const RowState& state) {
  return static_cast<float>(static_cast<double>(state.max) + __builtin_log(static_cast<double>(state.sum)));
}

/// Takes a score without a value into a row. Returns what the row's sums have to be multiplied by.
inline float add_sink(float sink, RowState& state) {
  const auto score = static_cast<double>(sink), before = static_cast<double>(state.max);
  const double max = before > score ? before : score;
  const double correction = __builtin_exp(before - max);
  state.sum = static_cast<float>(static_cast<double>(state.sum) * correction + __builtin_exp(score - max));
  state.max = static_cast<float>(max);
  return static_cast<float>(correction);
}
/// Ends a row of a head: what its sums have to be multiplied by.
template <class Isa, class T>
[[gnu::always_inline]] inline float end_row(const AttentionArgs& a, Index head, RowState& state) {
  if (!a.has_sinks) return 1 / state.sum;
  const float correction = add_sink(Isa::load(static_cast<const T*>(a.sinks) + head, 1)[0], state);
  return correction / state.sum;
}

/// Turns the scores s[seen] of a row into exp(scale * score - maximum so far), stored as E where they were,
/// with zeros in the rest of `all`, which begins and ends with whole vectors. Returns what the row's sums so
/// far have to be multiplied by.
template <class Isa, class E>
float softmax_row(float* s, Range all, Range seen, float scale, RowState& state) {
  using Vec = typename Isa::Vec;
  constexpr Index kLanes = Isa::kLanes;
  E* out = reinterpret_cast<E*>(s);
  const Vec factor = Isa::set(scale), lowest = Isa::set(-__FLT_MAX__);
  const Index begin = seen.size() > 0 ? seen.begin / kLanes * kLanes : all.end;
  Vec largest = Isa::set(state.max);
  for (Index j = begin; j < seen.end; j += kLanes) {
    Vec v = Isa::load(s + j) * factor;
    if (j < seen.begin || j + kLanes > seen.end) [[unlikely]] {
      v = Isa::blend(v, lowest, least(seen.end - j, kLanes));
      v = Isa::blend(lowest, v, most(seen.begin - j, 0));
    }
    largest = Isa::max(v, largest);
  }
  const float max = Isa::max_of(largest);
  for (Index j = all.begin; j < least(begin, all.end); j += kLanes) Isa::store(out + j, Isa::zero());
  largest = Isa::set(max);  // as rounded as what it is taken from: the largest gives exactly 1
  Vec sum = Isa::zero();
  Index j = begin;
  for (; j < seen.end; j += kLanes) {
    Vec e = Isa::exp(Isa::load(s + j) * factor - largest);
    if (j < seen.begin || j + kLanes > seen.end) [[unlikely]]
      e = keep<Isa>(e, seen.begin - j, seen.end - j);
    sum = sum + e;
    Isa::store(out + j, e);
  }
  for (; j < all.end; j += kLanes) Isa::store(out + j, Isa::zero());
  const float correction = Isa::exp(Isa::set(state.max - max))[0];
  state.sum = state.sum * correction + Isa::sum(sum);
  state.max = max;
  return correction;
}

/// k elements of a row that the micro-kernel takes at a time. What is left of a product is given in whole
/// ones, zeros where nobody sees anybody.
template <class Isa, class E>
inline constexpr Index kStepElements = kWordBlock<Isa, E>* kPerWord<E>;
/// How far a row of squares of kLanes is written.
template <class Isa, class E>
[[gnu::always_inline]] constexpr Index square_end(Index n) {
  return round_up(n, most(Isa::kLanes, kStepElements<Isa, E>));
}

/// Adds the softmax sums of more keys to those of a row: what belongs to the state `more`.
template <class Isa>
void join_row(RowState& state, float* sums, const RowState& more, const float* other, Index count) {
  const float max = state.max > more.max ? state.max : more.max;
  const float mine = Isa::exp(Isa::set(state.max - max))[0], its = Isa::exp(Isa::set(more.max - max))[0];
  for (Index j = 0; j < count; j += Isa::kLanes) {
    Isa::store(sums + j, Isa::load(sums + j) * Isa::set(mine) + Isa::load(other + j) * Isa::set(its));
  }
  state = {max, state.sum * mine + more.sum * its};
}

/// The left operand of a product and where its sums are: rows of words, and rows of floats.
struct BlockProduct {
  const float* left = nullptr;
  Index left_stride = 0;
  const float* panels = nullptr;  // of the right operand
  Index panel_words = 0;          // words of k in a panel
  float* sums = nullptr;
  Index sums_stride = 0;
  Index before = 0;  // words of k before the panel's first: chains begin where k is a multiple of theirs
};

/// sums(rows of a tile, panel) = left * panel over words [words.begin, words.end), added to what is there if
/// kAdd.
template <bool kAdd, class Isa, class E>
[[gnu::always_inline]] inline void multiply_tile(MicroKernel<Isa, E, false>& kernel, const BlockProduct& p,
                                                 Range rows, Index panel, Range words) {
  MicroArgs args;
  args.a = reinterpret_cast<const char*>(p.left + rows.begin * p.left_stride + words.begin);
  args.a_stride = p.left_stride * Index{sizeof(float)};
  args.a_step = kWordBlock<Isa, E> * Index{sizeof(float)};
  args.b = p.panels + (panel * p.panel_words + words.begin) * kPanel<Isa>;
  args.words = words.size();
  args.words_before = p.before + words.begin;
  float* sums = p.sums + rows.begin * p.sums_stride + panel * kPanel<Isa>;
  if constexpr (kAdd) {
    args.start = sums;
    args.start_stride = p.sums_stride;
  }
  kernel.run(rows.size(), args, TileOut<Isa, float>{sums, p.sums_stride, false});
}

/// sums += left * right for `rows` rows and `panels` panels; terms(tile) gives the elements of k that count
/// for the rows of a tile, of which those outside may be left out.
template <class Isa, class E, class Terms>
[[gnu::always_inline]] inline void multiply_add_block(MicroKernel<Isa, E, false>& kernel,
                                                      const BlockProduct& p, Index rows, Index panels,
                                                      const Terms& terms) {
  const Tiles<Isa, E> tiles(rows);
  for (Index panel = 0; panel < panels; panel++) {
    for (Index t = 0; t < tiles.count; t++) {
      const Range tile{tiles.begin(t), tiles.begin(t + 1)};
      const Range k = terms(tile);
      if (k.begin >= k.end) continue;
      constexpr Index kBlock = kWordBlock<Isa, E>, kStep = kStepElements<Isa, E>;
      multiply_tile<true>(kernel, p, tile, panel,
                          Range{k.begin / kStep * kBlock, ceil_div(k.end, kStep) * kBlock});
    }
  }
}

/// Stores a row of sums times `factor`.
template <class Isa, class T>
[[gnu::always_inline]] inline void store_scaled(const float* sums, float factor, Index count, T* out) {
  const typename Isa::Vec f = Isa::set(factor);
  Index j = 0;
  for (; j + Isa::kLanes <= count; j += Isa::kLanes) Isa::store(out + j, Isa::load(sums + j) * f);
  if (j < count) Isa::store(out + j, Isa::load(sums + j, count - j) * f, count - j);
}

[[gnu::always_inline]] inline void fill_zero(float* p, Index floats) {
  __builtin_memset(p, 0, static_cast<std::size_t>(floats) * sizeof(float));
}
/// to += from; a whole number of vectors.
template <class Isa>
[[gnu::always_inline]] inline void add_floats(const float* from, Index floats, float* to) {
  for (Index j = 0; j < floats; j += Isa::kLanes) Isa::store(to + j, Isa::load(to + j) + Isa::load(from + j));
}

}  // namespace hone::kernels::cpu
