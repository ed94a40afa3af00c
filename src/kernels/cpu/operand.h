// The operands of a matrix product as they lie in memory, and how a piece of one is brought into the form
// that the micro-kernel reads.
//
// A product sums over k. The micro-kernel works on 32-bit words: a float, or where the processor multiplies
// bf16 itself, a pair of bf16 that are neighbours along k (an odd k is filled up with 0). The right operand
// is read as panels of 2 * kLanes columns, [word][column]; the left one either straight from its rows, or,
// where k does not run along them, as packed tiles [word][kLanes], a column for each row of the tile.
#pragma once

#include <type_traits>

#include "base/dtype.h"
#include "kernels/cpu/isa.h"

namespace hone::kernels::cpu {

/// A float that is multiplied as the sum of three bf16 (amx_split.h); it lies in memory as a float.
struct SplitF32;

/// The element type that Isa multiplies when the operands are of type T.
template <class Isa, class T>
using Compute = std::conditional_t<Isa::kAmx && std::is_same_v<T, float>, SplitF32,
                                   std::conditional_t<Isa::kDotBf16, T, float>>;

/// The type in which elements that are multiplied as E are kept.
template <class E>
using Stored = std::conditional_t<std::is_same_v<E, SplitF32>, float, E>;

/// How many elements a word holds.
template <class E>
inline constexpr Index kPerWord = std::is_same_v<E, float> ? 1 : 2;

/// Whether elements are split, and how many words then stand for a word of elements in packed operands.
template <class E>
inline constexpr bool kSplit = std::is_same_v<E, SplitF32>;
template <class E>
inline constexpr Index kPlanes = kSplit<E> ? 3 : 1;

/// Whether operands of type E are multiplied on AMX tiles.
template <class Isa, class E>
inline constexpr bool kOnTiles = Isa::kAmx&& kPerWord<E> == 2;

/// The rows of the micro-kernel.
template <class Isa, class E>
inline constexpr Index kTileRows = kOnTiles<Isa, E> ? 32 : Isa::kTileRows;

/// The words that the micro-kernel takes at a time. A piece of k is filled up with zeros to so many.
template <class Isa, class E>
inline constexpr Index kWordBlock = kOnTiles<Isa, E> ? 16 : 1;

/// The words that k elements take.
template <class Isa, class E>
[[gnu::always_inline]] constexpr Index words_of(Index k) {
  return round_up(ceil_div(k, kPerWord<E>), kWordBlock<Isa, E>);
}

/// The width of a panel.
template <class Isa>
inline constexpr Index kPanel = 2 * Isa::kLanes;

/// An operand whose k runs along its rows: (m, k) on the left, (n, k) on the right.
template <class S>
struct AlongK {
  using Element = S;
  const S* data;
  Index stride;
};
/// A left operand as AlongK, to be copied before it is read.
template <class S>
struct Crowded {
  using Element = S;
  const S* data;
  Index stride;
};
/// Whether a left operand is better copied: its rows lie a multiple of 4 KiB apart, so that those of a tile
/// would crowd each other out of the few places of the first cache that they share; or AMX would load tiles
/// whose rows straddle cache lines, at a third of the speed.
template <class Isa, class S>
[[gnu::always_inline]] inline bool is_crowded(const AlongK<S>& a) {
  const Index row_bytes = a.stride * Index{sizeof(S)};
  if (row_bytes % 4096 == 0) return true;
  return kOnTiles<Isa, S> && (row_bytes % 64 != 0 || reinterpret_cast<std::uintptr_t>(a.data) % 64 != 0);
}
/// An operand whose k runs down its columns: (k, m) on the left, (k, n) on the right. With an index, row k is
/// row index[k] of the data.
template <class S>
struct AcrossK {
  using Element = S;
  const S* data;
  Index stride;
  const std::int32_t* index = nullptr;

  [[gnu::always_inline]] const S* row(Index k) const {
    return data + (index != nullptr ? Index{index[k]} : k) * stride;
  }
};
/// A right operand of (2 * ffn, k), gate rows then up rows, whose panels are half gate and half up: panel
/// column c of panel p is row p * kLanes + c, or ffn + p * kLanes + c - kLanes.
template <class S>
struct GateUp {
  using Element = S;
  const S* data;
  Index stride;
  Index ffn;
};

/// One step of a sequence of addresses, to be prefetched a line per word of k (on AMX tiles, the first
/// `lines` of the sixteen of a word block; of split floats, `lines` times two lines, and block_step from word
/// block to word block). Null: nothing.
struct PrefetchPlan {
  const char* start = nullptr;
  Index step = 0;
  Index lines = 0;
  Index block_step = 0;
};

/// Words of `count` elements from p, as a vector: kLanes words where whole, else what there is and zeros.
template <class Isa, class E, class S>
[[gnu::always_inline]] inline typename Isa::Vec load_words(const S* p, Index count) {
  if constexpr (kPerWord<E> == 2) {
    return Isa::load_pairs(p, least(count, 2 * Isa::kLanes));
  } else {
    return Isa::load(p, least(count, Isa::kLanes));
  }
}
template <class Isa, class E, class S>
[[gnu::always_inline]] inline typename Isa::Vec load_words(const S* p) {
  if constexpr (kPerWord<E> == 2) {
    return Isa::load_pairs(p);
  } else {
    return Isa::load(p);
  }
}

/// Packs `rows` (at most kLanes) rows of k elements as columns of half a panel: target[word * width + row].
template <class Isa, class E, class S>
void pack_rows(const S* source, Index stride, Index rows, Index k, float* target, Index width) {
  constexpr Index kLanes = Isa::kLanes;
  const Index words = ceil_div(k, kPerWord<E>);
  typename Isa::Vec block[kLanes];
  for (Index w = 0; w < words; w += kLanes) {
    const Index left = k - w * kPerWord<E>;
    if (rows == kLanes && left >= kLanes * kPerWord<E>) [[likely]] {
#pragma GCC unroll 16
      for (Index i = 0; i < kLanes; i++) block[i] = load_words<Isa, E>(source + i * stride + w * kPerWord<E>);
    } else {
      for (Index i = 0; i < kLanes; i++) {
        block[i] = i < rows ? load_words<Isa, E>(source + i * stride + w * kPerWord<E>, left) : Isa::zero();
      }
    }
    Isa::transpose(block);
    float* out = target + w * width;
    if (words - w >= kLanes) [[likely]] {
#pragma GCC unroll 16
      for (Index i = 0; i < kLanes; i++) Isa::store(out + i * width, block[i]);
    } else {
      for (Index i = 0; i < words - w; i++) Isa::store(out + i * width, block[i]);
    }
  }
}

/// `count` (at most kLanes) words that start at column `column` of rows k and, for pairs, k + 1; `last` is
/// true where there is no row k + 1.
template <class Isa, class E, class S>
[[gnu::always_inline]] inline typename Isa::Vec word_across(const AcrossK<S>& from, Index k, bool last,
                                                            Index column, Index count) {
  if constexpr (kPerWord<E> == 2) {
    return Isa::zip(from.row(k) + column, last ? nullptr : from.row(k + 1) + column, count);
  } else {
    return Isa::load(from.row(k) + column, count);
  }
}

/// How many rows ahead an AcrossK operand is prefetched while it is packed: its rows lie too far apart for
/// the processor to see a pattern.
inline constexpr Index kRowsAhead = 24;
template <class E, class S>
[[gnu::always_inline]] inline void prefetch_across(const AcrossK<S>& from, Index k, Index column,
                                                   Index count) {
  const char* line = reinterpret_cast<const char*>(from.row(k) + column);
  __builtin_prefetch(line);
  if (count * Index{sizeof(S)} > 64) __builtin_prefetch(line + 64);
  if constexpr (kPerWord<E> == 2) __builtin_prefetch(line + from.stride * Index{sizeof(S)});
}

/// Packs the panel whose first column is j (of n), from element k0 of k on, `k` elements.
template <class Isa, class E, class S>
void pack_panel(const AlongK<S>& b, Index j, Index n, Index k0, Index k, float* panel) {
  constexpr Index kLanes = Isa::kLanes;
  for (Index half = 0; half < 2; half++) {
    const Index first = j + half * kLanes;
    pack_rows<Isa, E>(b.data + first * b.stride + k0, b.stride, most(0, least(kLanes, n - first)), k,
                      panel + half * kLanes, kPanel<Isa>);
  }
}
template <class Isa, class E, class S>
void pack_panel(const AcrossK<S>& b, Index j, Index n, Index k0, Index k, float* panel) {
  constexpr Index kLanes = Isa::kLanes;
  const Index whole = n - j >= kPanel<Isa> ? k / kPerWord<E> * kPerWord<E> : 0;
  Index i = 0;
  for (; i < whole; i += kPerWord<E>, panel += kPanel<Isa>) {
    prefetch_across<E>(b, k0 + least(k - 1, i + kRowsAhead), j, kPanel<Isa>);
    const S* row = b.row(k0 + i) + j;
    typename Isa::Vec low, high;
    if constexpr (kPerWord<E> == 2) {
      Isa::zip(row, b.row(k0 + i + 1) + j, low, high);
    } else {
      low = Isa::load(row);
      high = Isa::load(row + kLanes);
    }
    Isa::store(panel, low);
    Isa::store(panel + kLanes, high);
  }
  const Index low = least(kLanes, n - j), high = most(0, least(kLanes, n - j - kLanes));
  for (; i < k; i += kPerWord<E>, panel += kPanel<Isa>) {
    const bool last = i + 1 == k;
    Isa::store(panel, word_across<Isa, E>(b, k0 + i, last, j, low));
    Isa::store(panel + kLanes,
               high > 0 ? word_across<Isa, E>(b, k0 + i, last, j + kLanes, high) : Isa::zero());
  }
}
/// n and j count panel columns: 2 * round_up(ffn, kLanes) in all.
template <class Isa, class E, class S>
void pack_panel(const GateUp<S>& b, Index j, Index /*n*/, Index k0, Index k, float* panel) {
  constexpr Index kLanes = Isa::kLanes;
  const Index first = j / 2, rows = least(kLanes, b.ffn - first);
  for (Index half = 0; half < 2; half++) {
    pack_rows<Isa, E>(b.data + (half * b.ffn + first) * b.stride + k0, b.stride, rows, k,
                      panel + half * kLanes, kPanel<Isa>);
  }
}

/// The addresses to prefetch for panel j, as up to two sequences (which = 0, 1) of one line per word of k.
template <class Isa, class E, class S>
PrefetchPlan prefetch_plan(const AlongK<S>& b, Index j, Index k0, Index k, Index which) {
  if (b.stride != k) return {};  // not in one piece
  const Index half = Isa::kLanes * k;
  return {reinterpret_cast<const char*>(b.data + j * b.stride + k0 + which * half),
          half * Index{sizeof(S)} / ceil_div(k, kPerWord<E>)};
}
template <class Isa, class E, class S>
PrefetchPlan prefetch_plan(const AcrossK<S>& b, Index j, Index k0, Index /*k*/, Index which) {
  if (b.index != nullptr) return {};
  const Index step = b.stride * kPerWord<E> * Index{sizeof(S)};
  const char* start = reinterpret_cast<const char*>(b.row(k0) + j);
  if (which == 0) return {start, step};
  if (kPerWord<E> == 2) return {start + b.stride * Index{sizeof(S)}, step};
  return kPanel<Isa> * Index{sizeof(S)} > 64 ? PrefetchPlan{start + 64, step} : PrefetchPlan{};
}
template <class Isa, class E, class S>
PrefetchPlan prefetch_plan(const GateUp<S>& b, Index j, Index k0, Index k, Index which) {
  return prefetch_plan<Isa, E>(AlongK<S>{b.data + which * b.ffn * b.stride, b.stride}, j / 2, k0, k, 0);
}

template <class Isa, class B>  // amx_split_pack.h
PrefetchPlan prefetch_split(const B& b, Index j, Index k0, Index tile, Index tiles);

/// What of panel j is prefetched while tile `tile` of `tiles` is multiplied.
template <class Isa, class E, class B>
[[gnu::always_inline]] inline PrefetchPlan prefetch_plan(const B& b, Index j, Index k0, Index k, Index tile,
                                                         Index tiles) {
  if constexpr (kSplit<E>) {
    return prefetch_split<Isa>(b, j, k0, tile, tiles);
  } else if constexpr (kOnTiles<Isa, E>) {
    // Two tiles are over so soon that the lines would queue: spread over up to sixteen.
    const Index lines = tiles >= 16 ? 2 : tiles >= 8 ? 4 : tiles >= 4 ? 8 : 16;
    const Index share = kWordBlock<Isa, E> / lines;
    if (tile >= 2 * share) return {};
    PrefetchPlan plan = prefetch_plan<Isa, E>(b, j, k0, k, tile / share);
    if (plan.start == nullptr) return {};
    plan.start += tile % share * lines * plan.step;
    plan.lines = lines;
    return plan;
  } else {
    return tile < 2 ? prefetch_plan<Isa, E>(b, j, k0, k, tile) : PrefetchPlan{};
  }
}

/// The tiles that m rows are cut into: as few as possible, of nearly equal height. AMX tiles are all whole
/// but the last: a new height is a new configuration.
template <class Isa, class E>
struct Tiles {
  Index m, count;
  explicit Tiles(Index rows) : m(rows), count(ceil_div(rows, kTileRows<Isa, E>)) {}
  [[gnu::always_inline]] Index begin(Index tile) const {
    return kOnTiles<Isa, E> ? least(m, tile * kTileRows<Isa, E>) : m * tile / count;
  }
};

/// Packs columns [i0, i0 + m) of a, elements k0 … k0 + k - 1, as tiles: target[(tile * words + word) *
/// kLanes]. A few words of all tiles at a time, so that the lines that tiles share are read once.
template <class Isa, class E, class S>
void pack_tiles(const AcrossK<S>& a, Index i0, Index m, Index k0, Index k, float* target) {
  constexpr Index kChunk = 32;
  const Tiles<Isa, E> tiles(m);
  const Index words = ceil_div(k, kPerWord<E>);
  for (Index chunk = 0; chunk < words; chunk += kChunk) {
    const Index end = least(words, chunk + kChunk);
    for (Index t = 0; t < tiles.count; t++) {
      const Index begin = tiles.begin(t), height = tiles.begin(t + 1) - begin;
      for (Index w = chunk; w < end; w++) {
        const Index i = w * kPerWord<E>;
        prefetch_across<E>(a, k0 + least(k - 1, i + kChunk * kPerWord<E>), i0 + begin, 1);
        Isa::store(target + (t * words + w) * Isa::kLanes,
                   word_across<Isa, E>(a, k0 + i, i + 1 == k, i0 + begin, height));
      }
    }
  }
}

/// Converts m rows of k elements; target rows lie `width` apart.
template <class Isa, class S, class D>
void convert_rows(const S* source, Index stride, Index m, Index k, D* target, Index width) {
  for (Index i = 0; i < m; i++) {
    const S* from = source + i * stride;
    D* to = target + i * width;
    if constexpr (std::is_same_v<S, D>) {
      __builtin_memcpy(to, from, static_cast<std::size_t>(k) * sizeof(S));
      continue;
    }
    Index j = 0;
    for (; j + Isa::kLanes <= k; j += Isa::kLanes) Isa::store(to + j, Isa::load(from + j));
    if (j < k) Isa::store(to + j, Isa::load(from + j, k - j), k - j);
  }
}

}  // namespace hone::kernels::cpu
