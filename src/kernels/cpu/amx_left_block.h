// The left operand of a block as the micro-kernel on AMX tiles reads it: read in place where k runs along its
// rows, but for the end of a k that is no whole number of word blocks, which is copied and filled up; else as
// blocks [tile][word block][row][16 words].
#pragma once

#include "kernels/cpu/left_block.h"

namespace hone::kernels::cpu {

/// Fills up a packed panel of k elements to a whole number of word blocks.
template <class Isa, class E>
[[gnu::always_inline]] inline void fill_word_block(Index k, float* panel) {
  const Index words = ceil_div(k, kPerWord<E>), missing = words_of<Isa, E>(k) - words;
  if (missing == 0) return;
  __builtin_memset(panel + words * kPanel<Isa>, 0,
                   static_cast<std::size_t>(missing * kPanel<Isa>) * sizeof(float));
}

/// Packs a word block of up to 16 columns of a, elements k0 … k0 + k - 1: target[column][word].
template <class Isa, class E>
[[gnu::always_inline]] inline void pack_word_block(const AcrossK<E>& a, Index column, Index columns, Index k0,
                                                   Index k, float* target) {
  constexpr Index kLanes = Isa::kLanes;
  typename Isa::Vec block[kLanes];
  if (k == 2 * kLanes) [[likely]] {
#pragma GCC unroll 16
    for (Index w = 0; w < kLanes; w++) {
      block[w] = Isa::zip(a.row(k0 + 2 * w) + column, a.row(k0 + 2 * w + 1) + column, columns);
    }
  } else {
    for (Index w = 0; w < kLanes; w++) {
      block[w] =
          2 * w < k ? word_across<Isa, E>(a, k0 + 2 * w, 2 * w + 1 == k, column, columns) : Isa::zero();
    }
  }
  Isa::transpose(block);
#pragma GCC unroll 16
  for (Index i = 0; i < kLanes; i++) Isa::store(target + i * kLanes, block[i]);
}

template <class Isa, class E, class A>
requires kOnTiles<Isa, E>
struct LeftBlock<Isa, E, A> {
  static constexpr bool kPlace = kInPlace<E, A>;
  static constexpr Index kRows = kTileRows<Isa, E>, kBlock = kWordBlock<Isa, E>, kElements = 2 * kBlock;
  const E* start = nullptr;  // in place
  Index stride = 0;
  const float* packed = nullptr;  // the blocks, or the ends of rows in place
  Index rows, words, k;           // words: of whole blocks, in place

  LeftBlock(const A& a, Range range, Index k0, Index elements, float* scratch)
      : packed(scratch), rows(range.size()), words(words_of<Isa, E>(elements)), k(elements) {
    if constexpr (kPlace) {
      start = a.data + range.begin * a.stride + k0;
      stride = a.stride;
      words = k / kElements * kBlock;
      if (k % kElements != 0) copy_blocks(start + k - k % kElements, k % kElements, scratch, 0);
    } else if constexpr (kTiled<A>) {
      pack_blocks(a, range.begin, k0, scratch);
    } else {
      start = a.data + range.begin * a.stride + k0;
      stride = a.stride;
      copy_blocks(start, k, scratch, words);
    }
  }
  /// Floats of scratch memory for `rows` rows of `words` words.
  static Index size(Index rows, Index words) { return round_up(rows, kRows) * (kPlace ? kBlock : words); }

  /// The tile'th tile, whose first row is `row` of the block.
  [[gnu::always_inline]] void aim(Index tile, Index row, MicroArgs& args) const {
    args.words = words;
    if constexpr (kPlace) {
      args.a = reinterpret_cast<const char*>(start + row * stride);
      args.a_stride = stride * Index{sizeof(E)};
      args.a_step = 64;
      if (k % kElements != 0) args.a_tail = reinterpret_cast<const char*>(packed + row * kBlock);
    } else {
      args.a = reinterpret_cast<const char*>(packed + tile * kRows * words);
      args.a_stride = 64;
      args.a_step = kRows * 64;
    }
  }
  /// What of the next tile is prefetched while this one, which ends at row `end`, meets panel `panel` of
  /// `panels`.
  [[gnu::always_inline]] PrefetchPlan next(Index end, Index panel, Index panels) const {
    if constexpr (kPlace) {
      const Index share = ceil_div(kRows, panels), first = end + panel * share;
      const Index lines = least(share, least(rows, end + kRows) - first);
      if (lines > 0)
        return {reinterpret_cast<const char*>(start + first * stride), stride * Index{sizeof(E)}, lines};
    }
    return {};
  }

 private:
  /// Copies `elements` of every row, as blocks; block_words 0: as one block of each row.
  void copy_blocks(const E* from, Index elements, float* target, Index block_words) const {
    for (Index i = 0; i < rows; i++, from += stride) {
      float* to = target + i / kRows * kRows * most(kBlock, block_words) + i % kRows * kBlock;
      Index j = 0;
      for (; j + kElements <= elements; j += kElements, to += kRows * kBlock)
        Isa::store(to, Isa::load_pairs(from + j));
      if (j < elements) Isa::store(to, Isa::load_pairs(from + j, elements - j));
    }
  }
  void pack_blocks(const AcrossK<E>& a, Index column, Index k0, float* target) const {
    for (Index i = 0; i < k; i += kElements) {
      const Index elements = least(kElements, k - i);
      for (Index t = 0; t < rows; t += kRows) {
        float* to = target + t * words + i / kElements * kRows * kBlock;
        // The same columns of the next word block: its rows lie too far apart for the processor to see a
        // pattern.
        for (Index e = i + kElements; e < least(k, i + 2 * kElements); e++) {
          __builtin_prefetch(a.row(k0 + e) + column + t);
        }
        pack_word_block<Isa, E>(a, column + t, least(16, rows - t), k0 + i, elements, to);
        if (rows - t > 16) {
          pack_word_block<Isa, E>(a, column + t + 16, least(16, rows - t - 16), k0 + i, elements,
                                  to + 16 * kBlock);
        }
      }
    }
  }
};

}  // namespace hone::kernels::cpu
