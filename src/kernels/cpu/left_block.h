// The left operand of a block as the micro-kernel reads it. That of AMX is in amx_left_block.h.
#pragma once

#include "kernels/cpu/micro_kernel.h"

namespace hone::kernels::cpu {

struct Range {
  Index begin, end;
  [[gnu::always_inline]] Index size() const { return end - begin; }
};

/// Whether a left operand is read in place.
template <class E, class A>
inline constexpr bool kInPlace = std::is_same_v<A, AlongK<E>>;
/// Whether a left operand is packed into tiles (else its rows are, if it is not read in place).
template <class A>
inline constexpr bool kTiled = std::is_same_v<A, AcrossK<typename A::Element>>;

/// Rows `rows` of a, elements k0 … k0 + k - 1, for one piece of k.
template <class Isa, class E, class A>
struct LeftBlock {
  static constexpr bool kPacked = kTiled<A>;
  const char* start;
  Index row_bytes;  // of rows
  Index words;
  bool half_word;  // the last word is half one

  LeftBlock(const A& a, Range rows, Index k0, Index k, float* scratch)
      : words(ceil_div(k, kPerWord<E>)), half_word(!kPacked && k % kPerWord<E> != 0) {
    if constexpr (kPacked) {
      pack_tiles<Isa, E>(a, rows.begin, rows.size(), k0, k, scratch);
      start = reinterpret_cast<const char*>(scratch);
      row_bytes = 0;
    } else if constexpr (kInPlace<E, A>) {
      start = reinterpret_cast<const char*>(a.data + rows.begin * a.stride + k0);
      row_bytes = a.stride * Index{sizeof(E)};
    } else {
      convert_rows<Isa>(a.data + rows.begin * a.stride + k0, a.stride, rows.size(), k,
                        reinterpret_cast<E*>(scratch), row_stride(words) * kPerWord<E>);
      start = reinterpret_cast<const char*>(scratch);
      row_bytes = row_stride(words) * Index{sizeof(float)};
    }
  }
  /// Floats of scratch memory for `rows` rows of `words` words.
  static Index size(Index rows, Index words) {
    if constexpr (kPacked) {
      return round_up(Tiles<Isa, E>(rows).count * words * Isa::kLanes, 16);
    } else {
      return kInPlace<E, A> ? 0 : rows * row_stride(words);
    }
  }
  /// The tile'th tile, whose first row is `row` of the block.
  [[gnu::always_inline]] void aim(Index tile, Index row, MicroArgs& args) const {
    args.a = kPacked ? start + tile * words * Isa::kLanes * Index{sizeof(float)} : start + row * row_bytes;
    args.a_stride = row_bytes;
    args.half_word = half_word;
    args.words = half_word ? words - 1 : words;
  }

 private:
  /// The distance of rows that are packed without tiles: not a power of two, which would crowd the caches.
  static Index row_stride(Index words) { return round_up(words, 16) + 16; }
};

}  // namespace hone::kernels::cpu
