// The product of one block by one thread: everything that multiplies matrices on the CPU ends up here.
//
// A block is a range of rows times a range of columns. The right operand is packed a group of panels at a
// time into L2 while the next group is prefetched; the left operand is read in place where k runs along its
// rows and no conversion is due. A long k is cut into pieces, whose sums are added up in f64 and rounded
// once: of what f32 loses (see micro_kernel.h) only what a piece loses is left. Results leave through a sink:
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

/// How many pieces are a group. On AMX tiles a piece goes on from the sum of those before it in its group,
/// and a group makes 128 additions in a row to a sum, each of 32 products of bf16 (of split floats 96, six
/// for 32 products).
template <class Isa, class E>
inline constexpr Index kGroupPieces = kSplit<E>          ? 4
                                      : kOnTiles<Isa, E> ? 8
                                                         : 1;

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
  float* tile;    // a tile of sums
  float* panels;  // a group of packed panels
  float* left;    // the packed left operand
  float* sums;    // of a k in pieces: of the groups of pieces that are over, f64; of the one that is not

  /// Floats needed for blocks of at most `rows` x `columns`.
  template <class A>
  static Index size(Index rows, Index columns, Index k) {
    const KPieces<Isa, E> pieces(k);
    const Index groups = group_panels<Isa, E>(pieces.words()) * panel_floats<Isa, E>(pieces.words());
    const Index sums = pieces.count > 1 ? rows * round_up(columns, kPanel<Isa>) : 0;
    return kTileRows<Isa, E> * kPanel<Isa> + groups + LeftBlock<Isa, E, A>::size(rows, pieces.words()) +
           (kGroupPieces<Isa, E> > 1 ? 3 : 2) * sums;
  }
  template <class A>
  static GemmScratch carve(float* memory, Index rows, Index k) {
    const KPieces<Isa, E> pieces(k);
    GemmScratch s;
    s.tile = memory;
    s.panels = s.tile + kTileRows<Isa, E> * kPanel<Isa>;
    s.left = s.panels + group_panels<Isa, E>(pieces.words()) * panel_floats<Isa, E>(pieces.words());
    s.sums = s.left + LeftBlock<Isa, E, A>::size(rows, pieces.words());
    return s;
  }
};

/// totals = tile, or += tile; a tile of sums, [row][kPanel].
template <class Isa>
[[gnu::noinline]] void add_to_totals(const float* tile, Index rows, bool first, double* totals,
                                     Index stride) {
  for (Index i = 0; i < rows; i++, totals += stride) {
    for (Index j = 0; j < kPanel<Isa>; j += Isa::kLanes, tile += Isa::kLanes) {
      const auto before = first ? Isa::wide_zero() : Isa::load(totals + j);
      Isa::store(totals + j, Isa::add(before, Isa::load(tile)));
    }
  }
}
/// tile += totals, rounded once.
template <class Isa>
[[gnu::noinline]] void add_totals(const double* totals, Index stride, Index rows, float* tile) {
  for (Index i = 0; i < rows; i++, totals += stride) {
    for (Index j = 0; j < kPanel<Isa>; j += Isa::kLanes, tile += Isa::kLanes) {
      Isa::store(tile, Isa::rounded(Isa::add(Isa::load(totals + j), Isa::load(tile))));
    }
  }
}

/// Multiplies rows `rows` of a with columns `columns` (of n; columns.begin a multiple of kPanel) of b, over
/// k >= 1 elements. Blocks whose left operand is packed or whose k is in pieces are limited as scratch was.
template <class Isa, class E, class A, class B, class Sink>
void gemm_block(const A& a, const B& b, Range rows, Range columns, Index n, Index k,
                const GemmScratch<Isa, E>& scratch, Sink& sink) {
  constexpr Index kWidth = kPanel<Isa>;
  const KPieces<Isa, E> pieces(k);
  const Tiles<Isa, E> tiles(rows.size());
  const Index group = group_panels<Isa, E>(pieces.words()) * kWidth;
  const Index stride = round_up(columns.size(), kWidth);  // of the sums of a k in pieces
  double* totals = reinterpret_cast<double*>(scratch.sums);
  float* waiting = scratch.sums + 2 * rows.size() * stride;
  MicroKernel<Isa, E, kTiled<A>> kernel;
  bool finite = true;  // all that was packed so far
  for (Index piece = 0; piece < pieces.count; piece++) {
    const Index k0 = pieces.begin(piece), piece_k = pieces.begin(piece + 1) - k0;
    const bool final = piece + 1 == pieces.count;
    constexpr Index kGroup = kGroupPieces<Isa, E>;
    const bool goes_on = piece % kGroup != 0, waits = !final && (piece + 1) % kGroup != 0;
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
          const Index sums = row * stride + (j - columns.begin);
          args.start = goes_on ? waiting + sums : nullptr;
          args.start_stride = stride;
          const Index width = least(kWidth, columns.end - j);
          const TileOut<Isa, float> tile{scratch.tile, kWidth, false};
          if (waits) {
            kernel.run(height, args, TileOut<Isa, float>{waiting + sums, stride, false});
          } else if (!final) {
            kernel.run(height, args, tile);
            add_to_totals<Isa>(scratch.tile, height, piece < kGroup, totals + sums, stride);
          } else if (piece < kGroup && sink.direct(j, width)) {
            kernel.run(height, args, sink.target(rows.begin + row, j));
          } else {
            sink.prefetch(rows.begin + row, height, j);
            kernel.run(height, args, tile);
            if (piece >= kGroup) add_totals<Isa>(totals + sums, stride, height, scratch.tile);
            if (sink.direct(j, width)) {
              sink.target(rows.begin + row, j).store(height, scratch.tile);
            } else {
              sink.finish(rows.begin + row, height, j, width, scratch.tile);
            }
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
