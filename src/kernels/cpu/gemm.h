// The product of one block by one thread: everything that multiplies matrices on the CPU ends up here.
//
// A block is a range of rows times a range of columns. The right operand is packed a group of panels at a
// time into L2 while the next group is prefetched; the left operand is read in place where k runs along its
// rows and no conversion is due. A long k is cut into pieces whose sums wait in f32: those of a few pieces
// are added up, then those of four such groups, and so on, in order, so that no sum is a long chain of
// additions (see micro_kernel.h). Results leave through a sink:
//
//   struct Sink {
//     /// Whether the tile of full panel width at column j may be stored as it is, by target(row, j).
//     bool direct(Index j, Index columns) const;
//     TileOut<Isa, C> target(Index row, Index j) const;
//     /// Prefetches what finish will read for this tile. Must be inlined: GCC takes a function that only
//     /// prefetches for one without effect.
//     void prefetch(Index row, Index rows, Index j) const;
//     /// Takes a tile of sums: `rows` rows from row on, `columns` columns from j on; tile is
//     /// [row][kPanel] floats.
//     void finish(Index row, Index rows, Index j, Index columns, float* tile);
//     /// May be left out. All panels of a group are done for these rows: columns j to end.
//     void row_done(Index row, Index rows, Index j, Index end);
//   };
//
// Rows and columns are those of the whole product.
#pragma once

#include "kernels/cpu/amx_kernel.h"
#include "kernels/cpu/amx_left_block.h"
#include "kernels/cpu/amx_split_pack.h"

namespace hone::kernels::cpu {

/// The longest piece of k, in words, that is summed in registers in one go. On AMX tiles, 32 rows and a panel
/// of so many fill the first cache: 2,370 GFLOP/s of a core, half as many 2,950, twice as many 1,830; half as
/// many have to wait twice as often.
template <class Isa, class E>
inline constexpr Index kMaxWords = kSplit<E>          ? kMaxSplitWords
                                   : kOnTiles<Isa, E> ? 256
                                                      : 2048;
/// The most rows of a block whose left operand is packed or whose sums have to wait.
inline constexpr Index kMaxBlockRows = 512;
/// The most columns of a block whose sums have to wait. Those of split floats wait more often: in L2.
template <class E>
inline constexpr Index kMaxWaitingColumns = kSplit<E> ? 512 : 1024;
/// The most panels that are packed at a time.
inline constexpr Index kMaxGroupPanels = 8;

/// How many pieces are a group, whose sums are added up one after another; then four groups are, and so on:
/// as exact as adding pairwise, with half as many sums that wait. On AMX tiles a piece goes on from the sum
/// of those before it in its group, and a group makes 128 additions in a row to a sum, each of 32 products of
/// bf16 (of split floats 96, six for 32 products).
template <class Isa, class E>
inline constexpr Index kFanIn = kOnTiles<Isa, E> && !kSplit<E> ? 8 : 4;

/// How many pieces k is cut into, and their length (a whole number of word blocks).
template <class Isa, class E>
struct KPieces {
  Index k, count, length;
  explicit KPieces(Index elements) : k(elements) {
    const Index longest = kMaxWords<Isa, E> * kPerWord<E>;
    length = words_of<Isa, E>(ceil_div(k, most(1, ceil_div(k, longest)))) * kPerWord<E>;
    count = k > 0 ? ceil_div(k, length) : 1;
  }
  [[gnu::always_inline]] Index begin(Index piece) const { return least(piece * length, k); }
  [[gnu::always_inline]] Index words() const { return length / kPerWord<E>; }

  /// The pieces whose sum waits at a level: one, a group of them, a group of groups.
  [[gnu::always_inline]] static Index at(Index level) {
    return level == 0 ? 1 : kFanIn<Isa, E> << 2 * (level - 1);
  }
  /// How many levels of sums wait.
  [[gnu::always_inline]] Index levels() const {
    Index n = 0;
    while (n < kWaitingLevels && count > at(n)) n++;
    return n;
  }
  /// Whether sums wait at this level before a piece.
  [[gnu::always_inline]] static bool waits(Index level, Index piece) {
    return (level + 1 < kWaitingLevels ? piece % at(level + 1) : piece) >= at(level);
  }
  /// The level at which a piece's sum, with those below, waits for later ones.
  [[gnu::always_inline]] static Index level_of(Index piece) {
    Index n = 0;
    while (n + 1 < kWaitingLevels && (piece + 1) % at(n + 1) == 0) n++;
    return n;
  }
};

/// The floats of a packed panel.
template <class Isa, class E>
[[gnu::always_inline]] inline Index panel_floats(Index piece_words) {
  return piece_words * kPlanes<E> * kPanel<Isa>;
}
/// How many panels are packed at a time.
template <class Isa, class E>
[[gnu::always_inline]] inline Index group_panels(Index piece_words) {
  const Index panel_bytes = panel_floats<Isa, E>(most(1, piece_words)) * Index{sizeof(float)};
  return most(1, least(kMaxGroupPanels, Isa::kL2Bytes / 4 / panel_bytes));
}

/// Packs a panel (pack_panel), filled up to whole word blocks. Returns whether all of it is finite, where
/// that matters.
template <class Isa, class E, class B>
[[gnu::always_inline]] inline bool pack_whole_panel(const B& b, Index j, Index n, Index k0, Index k,
                                                    float* panel) {
  if constexpr (kSplit<E>) {
    return pack_split_panel<Isa>(b, j, n, k0, k, panel);
  } else {
    pack_panel<Isa, E>(b, j, n, k0, k, panel);
    fill_word_block<Isa, E>(k, panel);
    return true;
  }
}

/// Where a block's scratch memory lies, all of it 64-byte aligned.
template <class Isa, class E>
struct GemmScratch {
  float* tile;     // a tile of sums
  float* panels;   // a group of packed panels
  float* left;     // the packed left operand
  float* waiting;  // sums of a k in pieces, level after level

  /// Floats needed for blocks of at most `rows` x `columns`.
  template <class A>
  static Index size(Index rows, Index columns, Index k) {
    const KPieces<Isa, E> pieces(k);
    const Index groups = group_panels<Isa, E>(pieces.words()) * panel_floats<Isa, E>(pieces.words());
    return kTileRows<Isa, E> * kPanel<Isa> + groups + LeftBlock<Isa, E, A>::size(rows, pieces.words()) +
           pieces.levels() * rows * round_up(columns, kPanel<Isa>);
  }
  template <class A>
  static GemmScratch carve(float* memory, Index rows, Index k) {
    const KPieces<Isa, E> pieces(k);
    GemmScratch s;
    s.tile = memory;
    s.panels = s.tile + kTileRows<Isa, E> * kPanel<Isa>;
    s.left = s.panels + group_panels<Isa, E>(pieces.words()) * panel_floats<Isa, E>(pieces.words());
    s.waiting = s.left + LeftBlock<Isa, E, A>::size(rows, pieces.words());
    return s;
  }
};

/// Multiplies rows `rows` of a with columns `columns` (of n; columns.begin a multiple of kPanel) of b, over
/// k >= 1 elements. Blocks whose left operand is packed or whose k is in pieces are limited as scratch was.
template <class Isa, class E, class A, class B, class Sink>
void gemm_block(const A& a, const B& b, Range rows, Range columns, Index n, Index k,
                const GemmScratch<Isa, E>& scratch, Sink& sink) {
  constexpr Index kWidth = kPanel<Isa>;
  const KPieces<Isa, E> pieces(k);
  const Tiles<Isa, E> tiles(rows.size());
  const Index group = group_panels<Isa, E>(pieces.words()) * kWidth;
  const Index waiting_stride = round_up(columns.size(), kWidth), waiting_size = rows.size() * waiting_stride;
  MicroKernel<Isa, E, kTiled<A>> kernel;
  bool finite = true;  // all that was packed so far
  for (Index piece = 0; piece < pieces.count; piece++) {
    const Index k0 = pieces.begin(piece), piece_k = pieces.begin(piece + 1) - k0;
    const bool final = piece + 1 == pieces.count;
    const Index level = final ? kWaitingLevels - 1 : pieces.level_of(piece);
    Index waits_at[kWaitingLevels], starts = 0;  // offsets of the sums that wait for this piece, or -1
    for (Index l = 0; l <= level; l++) {
      waits_at[l] = pieces.waits(l, piece) ? l * waiting_size : -1;
      if (waits_at[l] >= 0) starts = l + 1;
    }
    const LeftBlock<Isa, E, A> left(a, rows, k0, piece_k, scratch.left);
    const Index panel_size = panel_floats<Isa, E>(words_of<Isa, E>(piece_k));
    for (Index j0 = columns.begin; j0 < columns.end; j0 += group) {
      const Index j1 = least(columns.end, j0 + group);
      for (Index j = j0; j < j1; j += kWidth) {
        float* panel = scratch.panels + (j - j0) / kWidth * panel_size;
        finite = pack_whole_panel<Isa, E>(b, j, n, k0, piece_k, panel) && finite;
      }
      for (Index t = 0; t < tiles.count; t++) {
        const Index row = tiles.begin(t), height = tiles.begin(t + 1) - row;
        MicroArgs args;
        left.aim(t, row, args);
        args.special = args.special || !finite;
        for (Index j = j0; j < j1; j += kWidth) {
          args.b = scratch.panels + (j - j0) / kWidth * panel_size;
          args.prefetch = j + group < columns.end
                              ? prefetch_plan<Isa, E>(b, j + group, k0, piece_k, t, tiles.count)
                              : PrefetchPlan{};
          if constexpr (requires { left.next(row, j, j); }) {
            args.prefetch_left = left.next(row + height, (j - j0) / kWidth, ceil_div(j1 - j0, kWidth));
          }
          float* waiting = scratch.waiting + row * waiting_stride + (j - columns.begin);
          for (Index l = 0; l < starts; l++) {
            args.start[l] = waits_at[l] >= 0 ? waiting + waits_at[l] : nullptr;
          }
          args.start_stride = waiting_stride;
          if (!final) {
            kernel.run(height, args,
                       TileOut<Isa, float>{waiting + level * waiting_size, waiting_stride, false});
          } else if (sink.direct(j, least(kWidth, columns.end - j))) {
            kernel.run(height, args, sink.target(rows.begin + row, j));
          } else {
            sink.prefetch(rows.begin + row, height, j);
            kernel.run(height, args, TileOut<Isa, float>{scratch.tile, kWidth, false});
            sink.finish(rows.begin + row, height, j, least(kWidth, columns.end - j), scratch.tile);
          }
        }
        if constexpr (requires { sink.row_done(row, height, j0, j1); }) {
          if (final) sink.row_done(rows.begin + row, height, j0, j1);
        }
      }
    }
  }
}

}  // namespace hone::kernels::cpu
