// How floats are split into planes of bf16 (amx_split.h) while they are packed. All of these return whether
// every float was finite.
#pragma once

#include "kernels/cpu/amx_split.h"
#include "kernels/cpu/left_block.h"

namespace hone::kernels::cpu {

/// The longest piece of k of split floats, in words: 32 rows and a panel of so many fill the first cache (490
/// GFLOP/s of a core; twice as many, from L2, 410), and a block with its waiting sums fits L2.
inline constexpr Index kMaxSplitWords = 64;

/// Where word w of a packed panel begins; its planes lie kSplitPlane apart.
template <class Isa>
[[gnu::always_inline]] inline float* split_word(float* panel, Index w) {
  return panel + w / kSplitBlock * 3 * kSplitPlane<Isa> + w % kSplitBlock * kPanel<Isa>;
}
/// Fills up a packed panel of so many words to whole word blocks.
template <class Isa>
void fill_split_panel(Index words, float* panel) {
  for (Index w = words; w < round_up(words, kSplitBlock); w++) {
    for (Index plane = 0; plane < 3; plane++) {
      float* to = split_word<Isa>(panel, w) + plane * kSplitPlane<Isa>;
      Isa::store(to, Isa::zero());
      Isa::store(to + Isa::kLanes, Isa::zero());
    }
  }
}

/// pack_rows: up to 16 rows as half the columns of a panel.
template <class Isa>
bool pack_split_rows(const float* source, Index stride, Index rows, Index k, float* panel) {
  constexpr Index kLanes = Isa::kLanes;
  bool finite = true;
  typename Isa::Vec block[kLanes];
  for (Index i = 0; i < k; i += kLanes) {
    if (rows == kLanes && k - i >= kLanes) [[likely]] {
#pragma GCC unroll 16
      for (Index r = 0; r < kLanes; r++) block[r] = Isa::load(source + r * stride + i);
    } else {
      for (Index r = 0; r < kLanes; r++) {
        block[r] = r < rows ? Isa::load(source + r * stride + i, least(kLanes, k - i)) : Isa::zero();
      }
    }
    Isa::transpose(block);
    float* to = split_word<Isa>(panel, i / 2);
    if (k - i >= kLanes) [[likely]] {
#pragma GCC unroll 8
      for (Index w = 0; w < kLanes / 2; w++) {
        finite &= Isa::split(block[2 * w], block[2 * w + 1], to + w * kPanel<Isa>, kSplitPlane<Isa>);
      }
    } else {
      for (Index w = 0; 2 * w < k - i; w++) {
        finite &= Isa::split(block[2 * w], block[2 * w + 1], to + w * kPanel<Isa>, kSplitPlane<Isa>);
      }
    }
  }
  return finite;
}

/// pack_panel.
template <class Isa>
bool pack_split_panel(const AlongK<float>& b, Index j, Index n, Index k0, Index k, float* panel) {
  constexpr Index kLanes = Isa::kLanes;
  bool finite = true;
  for (Index half = 0; half < 2; half++) {
    const Index first = j + half * kLanes;
    finite &= pack_split_rows<Isa>(b.data + first * b.stride + k0, b.stride,
                                   most(0, least(kLanes, n - first)), k, panel + half * kLanes);
  }
  fill_split_panel<Isa>(ceil_div(k, 2), panel);
  return finite;
}
template <class Isa>
bool pack_split_panel(const GateUp<float>& b, Index j, Index /*n*/, Index k0, Index k, float* panel) {
  const Index first = j / 2, rows = least(Index{Isa::kLanes}, b.ffn - first);
  bool finite = true;
  for (Index half = 0; half < 2; half++) {
    finite &= pack_split_rows<Isa>(b.data + (half * b.ffn + first) * b.stride + k0, b.stride, rows, k,
                                   panel + half * Isa::kLanes);
  }
  fill_split_panel<Isa>(ceil_div(k, 2), panel);
  return finite;
}
template <class Isa>
bool pack_split_panel(const AcrossK<float>& b, Index j, Index n, Index k0, Index k, float* panel) {
  constexpr Index kLanes = Isa::kLanes;
  bool finite = true;
  const Index whole = n - j >= kPanel<Isa> ? k / 2 * 2 : 0;
  Index i = 0;
  for (; i < whole; i += 2) {
    for (Index next = 0; next < 2; next++) {
      prefetch_across<float>(b, k0 + least(k - 1, i + kRowsAhead + next), j, kPanel<Isa>);
    }
    const float *even = b.row(k0 + i) + j, *odd = b.row(k0 + i + 1) + j;
    float* to = split_word<Isa>(panel, i / 2);
    finite &= Isa::split(Isa::load(even), Isa::load(odd), to, kSplitPlane<Isa>);
    finite &= Isa::split(Isa::load(even + kLanes), Isa::load(odd + kLanes), to + kLanes, kSplitPlane<Isa>);
  }
  for (; i < k; i += 2) {
    for (Index half = 0; half < 2; half++) {
      const Index column = j + half * kLanes, columns = most(0, least(kLanes, n - column));
      typename Isa::Vec even = Isa::zero(), odd = even;
      if (columns > 0) even = Isa::load(b.row(k0 + i) + column, columns);
      if (columns > 0 && i + 1 < k) odd = Isa::load(b.row(k0 + i + 1) + column, columns);
      finite &= Isa::split(even, odd, split_word<Isa>(panel, i / 2) + half * kLanes, kSplitPlane<Isa>);
    }
  }
  fill_split_panel<Isa>(ceil_div(k, 2), panel);
  return finite;
}

/// What of panel j is prefetched while tile `tile` of `tiles` is multiplied: a share of the 32 rows (of k or
/// of the panel's columns) that make up a word block of it, two lines of each.
template <class Isa, class B>
[[gnu::always_inline]] inline PrefetchPlan prefetch_split(const B& b, Index j, Index k0, Index tile,
                                                          Index tiles) {
  const Index share = tiles >= 16 ? 2 : tiles >= 8 ? 4 : tiles >= 4 ? 8 : 16, row = tile * share;
  if (row >= kSplitElements) return {};
  const Index row_bytes = b.stride * Index{sizeof(float)};
  if constexpr (kTiled<B>) {
    if (b.index != nullptr) return {};
    return {reinterpret_cast<const char*>(b.row(k0 + row) + j), row_bytes, share, kSplitElements * row_bytes};
  } else {
    const float* start = nullptr;
    if constexpr (std::is_same_v<B, GateUp<float>>) {
      const Index half = row / Isa::kLanes;
      start = b.data + (half * b.ffn + j / 2 + row % Isa::kLanes) * b.stride + k0;
    } else {
      start = b.data + (j + row) * b.stride + k0;
    }
    return {reinterpret_cast<const char*>(start), row_bytes, share, kSplitElements * Index{sizeof(float)}};
  }
}

/// The left operand, never in place: blocks [tile][word block][plane][row][16 words].
template <class Isa, class A>
requires(Isa::kAmx) struct LeftBlock<Isa, SplitF32, A> {
  static constexpr Index kBlockFloats = 3 * kSplitPlane<Isa>;
  const float* packed;
  Index rows, words, k;
  bool finite = true;

  LeftBlock(const A& a, Range range, Index k0, Index elements, float* scratch)
      : packed(scratch), rows(range.size()), words(words_of<Isa, SplitF32>(elements)), k(elements) {
    if constexpr (kTiled<A>) {
      pack_blocks(a, range.begin, k0, scratch);
    } else {
      copy_blocks(a.data + range.begin * a.stride + k0, a.stride, scratch);
    }
  }
  /// Floats of scratch memory for `rows` rows of `words` words.
  static Index size(Index rows, Index words) { return round_up(rows, kSplitRows) * words * 3; }

  /// The tile'th tile, whose first row is `row` of the block.
  [[gnu::always_inline]] void aim(Index tile, Index /*row*/, MicroArgs& args) const {
    args.a = reinterpret_cast<const char*>(packed + tile * kSplitRows * words * 3);
    args.a_stride = 64;
    args.a_step = kBlockFloats * Index{sizeof(float)};
    args.words = words;
    args.special = !finite;
  }

 private:
  void copy_blocks(const float* from, Index stride, float* target) {
    for (Index i = 0; i < rows; i++, from += stride) {
      float* to = target + i / kSplitRows * kSplitRows * words * 3 + i % kSplitRows * kSplitBlock;
      typename Isa::Vec even, odd;
      Index j = 0;
      for (; j + kSplitElements <= k; j += kSplitElements, to += kBlockFloats) {
        Isa::unzip(Isa::load(from + j), Isa::load(from + j + Isa::kLanes), even, odd);
        finite &= Isa::split(even, odd, to, kSplitPlane<Isa>);
      }
      if (j < k) {
        const Index low = least(Isa::kLanes, k - j), high = k - j - low;
        Isa::unzip(Isa::load(from + j, low), high > 0 ? Isa::load(from + j + Isa::kLanes, high) : Isa::zero(),
                   even, odd);
        finite &= Isa::split(even, odd, to, kSplitPlane<Isa>);
      }
    }
  }
  void pack_blocks(const AcrossK<float>& a, Index column, Index k0, float* target) {
    for (Index i = 0; i < k; i += kSplitElements) {
      const Index elements = least(kSplitElements, k - i);
      for (Index t = 0; t < rows; t += 16) {
        // The same columns of the next word block: its rows lie too far apart for the processor to see a
        // pattern.
        for (Index e = i + kSplitElements; e < least(k, i + 2 * kSplitElements); e++) {
          __builtin_prefetch(a.row(k0 + e) + column + t);
        }
        float* to = target + t / kSplitRows * kSplitRows * words * 3 + i / kSplitElements * kBlockFloats +
                    t % kSplitRows * kSplitBlock;
        pack_block(a, column + t, least(16, rows - t), k0 + i, elements, to);
      }
    }
  }
  /// Up to 16 columns of up to 32 elements.
  void pack_block(const AcrossK<float>& a, Index column, Index columns, Index k0, Index elements,
                  float* target) {
    constexpr Index kLanes = Isa::kLanes;
    typename Isa::Vec even[kLanes], odd[kLanes];
    if (elements == kSplitElements && columns == kLanes) [[likely]] {
#pragma GCC unroll 16
      for (Index w = 0; w < kLanes; w++) even[w] = Isa::load(a.row(k0 + 2 * w) + column);
      Isa::transpose(even);
#pragma GCC unroll 16
      for (Index w = 0; w < kLanes; w++) odd[w] = Isa::load(a.row(k0 + 2 * w + 1) + column);
    } else {
      for (Index w = 0; w < kLanes; w++) {
        even[w] = 2 * w < elements ? Isa::load(a.row(k0 + 2 * w) + column, columns) : Isa::zero();
        odd[w] = 2 * w + 1 < elements ? Isa::load(a.row(k0 + 2 * w + 1) + column, columns) : Isa::zero();
      }
      Isa::transpose(even);
    }
    Isa::transpose(odd);
    for (Index i = 0; i < kLanes; i++) {
      finite &= Isa::split(even[i], odd[i], target + i * kSplitBlock, kSplitPlane<Isa>);
    }
  }
};

}  // namespace hone::kernels::cpu
