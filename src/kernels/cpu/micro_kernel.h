// The micro-kernel: up to kTileRows rows times one panel of 2 * kLanes columns, all sums in registers.
//
// Every element of a product is a sum of chains of fused multiply-adds (in pairs for bf16), each of
// kChainWords words of k, each starting at zero, and added up pairwise: once a large term is in, the small
// ones of its own chain are rounded to it, and no others. Where chains begin and which make a pair depends on
// k alone; how a product is cut into tiles therefore never changes its result.
#pragma once

#include <utility>

#include "kernels/cpu/operand.h"

namespace hone::kernels::cpu {

/// The words of k that are summed in one chain. The rounding error of a sum of random terms in chains of L is
/// about sqrt(L / 6) units in the last place, and of order L where all have one sign beside a large one;
/// what ends a chain (fourteen rows: 28 loads and stores) costs 1.5 % of the time of 128 words, 3 % of 64.
inline constexpr Index kChainWords = 128;
/// Levels of pairs of chains: 16 chains, the longest piece of k, are a tree. Adding them up in order would
/// take as many additions, and a head's dweight over 30,011 rows (LongSums) is 1.05 times as far from
/// float64.
inline constexpr Index kChainLevels = 4;

/// What the micro-kernel multiplies. Strides in bytes for the left operand, in floats elsewhere.
struct MicroArgs {
  const char* a = nullptr;  // rows, or a packed tile
  Index a_stride = 0;       // from row to row; not used for a packed tile
  const float* b = nullptr;
  Index words = 0;               // whole words of k
  bool half_word = false;        // rows of bf16 pairs only: one more element follows, half a word
  Index words_before = 0;        // how many lie before these, that count as zeros
  const float* start = nullptr;  // what the sum is added to: [row][column], or null for nothing
  Index start_stride = 0;
  PrefetchPlan prefetch;
  // On AMX tiles only, where `words` is a whole number of word blocks:
  Index a_step = 0;              // from word block to word block
  const char* a_tail = nullptr;  // one more word block of the left operand, rows of 64 bytes; or null
  PrefetchPlan prefetch_left;    // rows to be prefetched, a line of each per word block
  bool special = false;          // split floats only: some are infinite or not numbers
};

/// Where a tile goes: rows of full panel width.
template <class Isa, class C>
struct TileOut {
  C* c;
  Index stride;
  bool stream;  // past the caches

  [[gnu::always_inline]] void store(Index row, typename Isa::Vec low, typename Isa::Vec high) const {
    C* p = c + row * stride;
    if (stream) {
      Isa::stream(p, low, high);
    } else {
      Isa::store(p, low);
      Isa::store(p + Isa::kLanes, high);
    }
  }
  /// Rows of a tile of sums, [row][kPanel].
  void store(Index rows, const float* sums) const {
    for (Index i = 0; i < rows; i++, sums += kPanel<Isa>) {
      store(i, Isa::load(sums), Isa::load(sums + Isa::kLanes));
    }
  }
};

template <class Isa, class E>
[[gnu::always_inline]] inline typename Isa::Vec multiply_add(typename Isa::Vec a, typename Isa::Vec b,
                                                             typename Isa::Vec c) {
  if constexpr (kPerWord<E> == 2) {
    return Isa::dot(a, b, c);
  } else {
    return Isa::fma(a, b, c);
  }
}

template <class Isa, int kRows>
[[gnu::always_inline]] inline void clear_sums(typename Isa::Vec (&sum)[kRows][2]) {
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++) sum[i][0] = sum[i][1] = Isa::zero();
}
/// sum = from + sum.
template <class Isa, int kRows>
[[gnu::always_inline]] inline void add_sums(const float* from, Index stride,
                                            typename Isa::Vec (&sum)[kRows][2]) {
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++) {
    sum[i][0] = Isa::load(from + i * stride) + sum[i][0];
    sum[i][1] = Isa::load(from + i * stride + Isa::kLanes) + sum[i][1];
  }
}

template <class Isa, class E, bool kPackedA, int kRows, class C>
[[gnu::noinline]] void micro_kernel(const MicroArgs& args, const TileOut<Isa, C>& out) {
  using Vec = typename Isa::Vec;
  Vec sum[kRows][2];
  alignas(64) float over[kChainLevels][kRows * kPanel<Isa>];  // of the chains that are over
  unsigned waits = 0;                                         // a bit for each level that holds a sum
  clear_sums<Isa>(sum);
  const char* a = args.a;
  const float* b = args.b;
  // Without a plan, the panel itself: a prefetch from nowhere would walk the page tables in vain.
  const char* ahead = args.prefetch.start != nullptr ? args.prefetch.start : reinterpret_cast<const char*>(b);
  const Index a_stride = kPackedA ? Index{sizeof(float)} : args.a_stride, ahead_step = args.prefetch.step;
  // Rows in threes, each reached from its group's pointer by a scaled index: fourteen offsets would not fit
  // the registers.
  constexpr int kGroups = (kRows + 2) / 3;
  constexpr Index kStep = Index{sizeof(float)} * (kPackedA ? Isa::kLanes : 1);  // from word to word
  const char* group[kGroups];
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; g++) group[g] = a + 3 * g * a_stride;
  Index number = args.words_before / kChainWords;  // of the chain
  Index left = args.words, chain = least(left, kChainWords - args.words_before % kChainWords);
  for (;; chain = least(left, kChainWords), number++) {
    for (Index w = chain; w > 0; w--) {
      const Vec low = Isa::load(b), high = Isa::load(b + Isa::kLanes);
      __builtin_prefetch(ahead, 0, 2);
      ahead += ahead_step;
#pragma GCC unroll 16
      for (int i = 0; i < kRows; i++) {
        const Vec x = Isa::broadcast(group[i / 3] + (i % 3) * a_stride);
        sum[i][0] = multiply_add<Isa, E>(x, low, sum[i][0]);
        sum[i][1] = multiply_add<Isa, E>(x, high, sum[i][1]);
      }
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; g++) group[g] += kStep;
      b += kPanel<Isa>;
    }
    left -= chain;
    if (left == 0) break;
    const Index level = least(__builtin_ctzl(static_cast<unsigned long>(~number)), kChainLevels - 1);
    for (Index l = 0; l <= level; l++) {  // the odd one of a pair, of pairs …
      if ((waits >> l & 1) != 0) add_sums<Isa>(over[l], kPanel<Isa>, sum);
    }
    waits = (waits >> level | 1) << level;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
      Isa::store(over[level] + i * kPanel<Isa>, sum[i][0]);
      Isa::store(over[level] + i * kPanel<Isa> + Isa::kLanes, sum[i][1]);
    }
    clear_sums<Isa>(sum);
  }
  if constexpr (kPerWord<E> == 2 && !kPackedA) {
    if (args.half_word) {
      const Vec low = Isa::load(b), high = Isa::load(b + Isa::kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; i++) {
        std::uint16_t element;
        __builtin_memcpy(&element, group[i / 3] + (i % 3) * a_stride, sizeof element);
        const std::uint32_t word = element;
        const Vec x = Isa::broadcast(&word);
        sum[i][0] = multiply_add<Isa, E>(x, low, sum[i][0]);
        sum[i][1] = multiply_add<Isa, E>(x, high, sum[i][1]);
      }
    }
  }
  for (Index l = 0; waits >> l != 0; l++) {
    if ((waits >> l & 1) != 0) add_sums<Isa>(over[l], kPanel<Isa>, sum);
  }
  if (args.start != nullptr) add_sums<Isa>(args.start, args.start_stride, sum);
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++) out.store(i, sum[i][0], sum[i][1]);
}

/// Calls the micro-kernel for `rows` rows, 1 … kTileRows. Not for AMX tiles: see MicroKernel.
template <class Isa, class E, bool kPackedA, class C>
[[gnu::always_inline]] inline void run_micro_kernel(Index rows, const MicroArgs& args,
                                                    const TileOut<Isa, C>& out) {
  using Function = void (*)(const MicroArgs&, const TileOut<Isa, C>&);
  static constexpr auto kTable = []<int... kRow>(std::integer_sequence<int, kRow...>) {
    struct {
      Function of[sizeof...(kRow)];
    } table{{micro_kernel<Isa, E, kPackedA, kRow + 1, C>...}};
    return table;
  }
  (std::make_integer_sequence<int, Isa::kTileRows>{});
  kTable.of[rows - 1](args, out);
}

/// The micro-kernel with what it has to remember from call to call: nothing, but for AMX (amx_kernel.h).
template <class Isa, class E, bool kPackedA>
struct MicroKernel {
  template <class C>
  [[gnu::always_inline]] void run(Index rows, const MicroArgs& args, const TileOut<Isa, C>& out) {
    run_micro_kernel<Isa, E, kPackedA>(rows, args, out);
  }
};

}  // namespace hone::kernels::cpu
