// The micro-kernel on AMX tiles: up to 32 rows times one panel, sums in four tiles of 16 x 16.
//
// k is taken 32 elements at a time, from the beginning of a piece of k, and filled up with zeros at its end:
// what an element sums to depends on its row, its column and k alone (see micro_kernel.h), however few rows
// its tile has. A multiplication sums its 32 products by themselves, even and odd ones apart, and adds them
// to the tile at once, so that a piece of 512 elements is a chain of 16 additions. It goes on from the sum
// that waits (MicroArgs::start), which costs nothing; whoever cuts k sees to it that such a chain
// ends (kGroupPieces of gemm.h, kGroupBlocks of attention_code.h). Four sums hide the latency of TDPBF16PS
// (52 cycles, one begun every 16); each step of k loads four tiles and multiplies four times, which is what
// L2 can feed. Floats take six times as many multiplications: amx_split.h.
#pragma once

#include "kernels/cpu/amx_split.h"

namespace hone::kernels::cpu {

/// Tiles 0 to 3 are the sums (0 and 1 those of the first 16 rows), 4 and 5 the left operand, 6 and 7 the
/// right one.
template <class Isa, int kTile>
[[gnu::always_inline]] inline void load_sums(const float* start, Index stride) {
  if (start != nullptr) {
    Isa::template load_tile<kTile>(start, stride * Index{sizeof(float)});
    Isa::template load_tile<kTile + 1>(start + Isa::kLanes, stride * Index{sizeof(float)});
  } else {
    Isa::template zero_tile<kTile>();
    Isa::template zero_tile<kTile + 1>();
  }
}
template <class Isa, int kTile>
[[gnu::always_inline]] inline void store_sums(float* to, Index stride) {
  Isa::template store_tile<kTile>(to, stride * Index{sizeof(float)});
  Isa::template store_tile<kTile + 1>(to + Isa::kLanes, stride * Index{sizeof(float)});
}

/// One word block; kTall: more than 16 rows.
template <class Isa, bool kTall>
[[gnu::always_inline]] inline void multiply_word_block(const char* a, Index a_stride, const float* b) {
  constexpr Index kPanelBytes = kPanel<Isa> * Index{sizeof(float)};
  Isa::template load_tile<6>(b, kPanelBytes);
  Isa::template load_tile<4>(a, a_stride);
  Isa::template multiply_tiles<0, 4, 6>();
  Isa::template load_tile<7>(b + Isa::kLanes, kPanelBytes);
  Isa::template multiply_tiles<1, 4, 7>();
  if constexpr (kTall) {
    Isa::template load_tile<5>(a + 16 * a_stride, a_stride);
    Isa::template multiply_tiles<2, 5, 6>();
    Isa::template multiply_tiles<3, 5, 7>();
  }
}

template <class Isa, bool kTall>
[[gnu::always_inline]] inline void load_all_sums(const MicroArgs& args) {
  const float* start = args.start;
  load_sums<Isa, 0>(start, args.start_stride);
  if constexpr (kTall) {
    load_sums<Isa, 2>(start == nullptr ? nullptr : start + 16 * args.start_stride, args.start_stride);
  }
}

template <class Isa, class E, bool kTall>
requires(kSplit<E>) [[gnu::noinline]] void sum_on_tiles(const MicroArgs& args) {
  load_all_sums<Isa, kTall>(args);
  const char *a = args.a, *ahead = args.prefetch.start;
  const float* b = args.b;
  for (Index words = args.words; words > 0; words -= kSplitBlock) {
    multiply_split_block<Isa, kTall>(a, b);
    for (Index l = 0; l < args.prefetch.lines; l++) {
      __builtin_prefetch(ahead + l * args.prefetch.step, 0, 2);
      __builtin_prefetch(ahead + l * args.prefetch.step + 64, 0, 2);
    }
    a += args.a_step;
    b += 3 * kSplitPlane<Isa>;
    ahead += args.prefetch.block_step;
  }
}
template <class Isa, class E, bool kTall>
requires(!kSplit<E>) [[gnu::noinline]] void sum_on_tiles(const MicroArgs& args) {
  constexpr Index kBlock = kWordBlock<Isa, BFloat16>;
  load_all_sums<Isa, kTall>(args);
  const char *a = args.a, *ahead = args.prefetch.start, *left = args.prefetch_left.start;
  const float* b = args.b;
  for (Index words = args.words; words > 0; words -= kBlock) {
    multiply_word_block<Isa, kTall>(a, args.a_stride, b);
    for (Index l = 0; l < args.prefetch.lines; l++) __builtin_prefetch(ahead + l * args.prefetch.step, 0, 2);
    for (Index l = 0; l < args.prefetch_left.lines; l++) {
      __builtin_prefetch(left + l * args.prefetch_left.step, 0, 2);
    }
    a += args.a_step;
    b += kBlock * kPanel<Isa>;
    ahead += kBlock * args.prefetch.step;
    left += 64;
  }
  if (args.a_tail != nullptr) multiply_word_block<Isa, kTall>(args.a_tail, 64, b);
}

template <class Isa, class E, bool kPackedA>
requires kOnTiles<Isa, E>
struct MicroKernel<Isa, E, kPackedA> {
  MicroKernel() = default;
  MicroKernel(const MicroKernel&) = delete;
  MicroKernel& operator=(const MicroKernel&) = delete;
  ~MicroKernel() {
    if (rows_ > 0) Isa::release_tiles();
  }

  /// Makes the tiles fit for so many rows, 1 … 32, and 0.
  [[gnu::noinline]] void configure(Index rows) {
    typename Isa::TileShapes shapes{};
    shapes.palette = 1;
    const auto low = static_cast<std::uint8_t>(least(rows, 16));
    const auto high = static_cast<std::uint8_t>(most(rows - 16, 1));
    const std::uint8_t heights[8] = {low, low, high, high, low, high, 16, 16};
    for (int tile = 0; tile < 8; tile++) {
      shapes.rows[tile] = heights[tile];
      shapes.row_bytes[tile] = 64;
    }
    Isa::configure_tiles(shapes);
    rows_ = rows;
  }

  template <class C>
  [[gnu::always_inline]] void run(Index rows, const MicroArgs& args, const TileOut<Isa, C>& out) {
    if (rows != rows_) configure(rows);
    if constexpr (kSplit<E>) {
      if (args.special) [[unlikely]]
        return run_special(rows, args, out);
    }
    sum(args);
    if constexpr (std::is_same_v<C, float>) {
      if (!out.stream) return store(out.c, out.stride);
    }
    alignas(64) float sums[kTileRows<Isa, E> * kPanel<Isa>];
    store(sums, kPanel<Isa>);
    out.store(rows, sums);
  }

 private:
  [[gnu::always_inline]] void sum(const MicroArgs& args) const {
    if (rows_ > 16) {
      sum_on_tiles<Isa, E, true>(args);
    } else {
      sum_on_tiles<Isa, E, false>(args);
    }
  }
  /// Where some floats are not finite.
  template <class C>
  [[gnu::noinline]] void run_special(Index rows, const MicroArgs& args, const TileOut<Isa, C>& out) {
    alignas(64) float sums[kTileRows<Isa, E> * kPanel<Isa>];
    sum(args);
    store(sums, kPanel<Isa>);
    mend_sums<Isa>(args, rows, sums);
    out.store(rows, sums);
  }
  [[gnu::always_inline]] void store(float* to, Index stride) const {
    store_sums<Isa, 0>(to, stride);
    if (rows_ > 16) store_sums<Isa, 2>(to + 16 * stride, stride);
  }

  Index rows_ = 0;  // that the tiles are configured for; 0: not configured
};

}  // namespace hone::kernels::cpu
