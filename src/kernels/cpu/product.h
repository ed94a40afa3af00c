// A product over all threads: cuts it into blocks and hands these out. Which thread does which block changes
// nothing in the result (see micro_kernel.h).
#pragma once

#include "device/stream.h"
#include "kernels/cpu/block_plan.h"
#include "kernels/cpu/dot.h"

namespace hone::kernels::cpu {

/// What packing an element costs beside multiplying it by one column: measured, roughly. AMX multiplies ten
/// times as fast (floats three) and packs as everybody does; floats are dear to split, however they lie.
template <class Isa, class E>
inline constexpr double kPackScale = kSplit<E>          ? 10.0
                                     : kOnTiles<Isa, E> ? 6.0
                                                        : 1.0;
template <class E, class B>
inline constexpr double kPackCost = kTiled<B> || kSplit<E> ? 4.0 : 12.0;

template <class Isa, class E, class A, class B>
BlockProblem block_problem(const A& /*a*/, const B& /*b*/, Index m, Index n, Index k, int threads) {
  const KPieces<Isa, E> pieces(k);
  const bool waits = pieces.count > 1, packs_left = !kInPlace<E, A>;
  return {.m = m,
          .n = n,
          .tile_rows = kTileRows<Isa, E>,
          .panel = kPanel<Isa>,
          .max_rows = waits || packs_left ? kMaxBlockRows : m,
          .max_columns = waits ? kMaxWaitingColumns<E> : round_up(n, kPanel<Isa>),
          .pack_left = kPackScale<Isa, E> * (packs_left ? 4.0 : 0.5),
          .pack_right = kPackScale<Isa, E> * kPackCost<E, B>,
          .threads = threads};
}

/// Columns from which on copying a crowded left operand costs less than it saves.
inline constexpr Index kWorthCopying = 128;

/// Scratch memory of every thread, at least `floats` each; taken before a parallel region, where running out
/// of memory can still be reported.
template <class Isa>
class ThreadScratch {
 public:
  ThreadScratch(device::Stream& stream, int threads, Index floats) : stream_(stream) {
    bytes_ = static_cast<std::size_t>(floats) * sizeof(float);
    for (int t = 0; t < threads; t++) stream.workspace(t, bytes_);
  }
  float* of(int thread) const { return static_cast<float*>(stream_.workspace(thread, bytes_)); }

 private:
  device::Stream& stream_;
  std::size_t bytes_;
};

template <class Isa, class T, class B, class Sink>
void few_rows_product(const AlongK<T>& a, const B& b, Index m, Index n, Index k, const Sink& sink,
                      device::Stream& stream) {
  const Index panels = ceil_div(n, kPanel<Isa>);
  const bool small = m * n * k < 1 << 16;
  const int threads = small ? 1 : static_cast<int>(least(stream.num_threads(), panels));
  const Index blocks = least(panels, 4 * threads);
  stream.team().parallel_for(threads, blocks, [&](Index i, int) {
    alignas(64) float tile[kMaxDotRows * kPanel<Isa>];
    Sink own = sink;
    const Range columns{panels * i / blocks * kPanel<Isa>, least(n, panels * (i + 1) / blocks * kPanel<Isa>)};
    dot_block<Isa>(a, b, Range{0, m}, columns, k, tile, own);
  });
}

/// Multiplies (m, k) by (k, n) on the stream's threads. T is the element type of the operands.
template <class Isa, class T, class A, class B, class Sink>
void product(const A& a, const B& b, Index m, Index n, Index k, const Sink& sink, device::Stream& stream) {
  using E = Compute<Isa, T>;
  if (m == 0 || n == 0) return;
  if constexpr (std::is_same_v<A, AlongK<T>> && !kTiled<B>) {
    if (m <= kMaxDotRows && stream.is_meta()) return;
    if (m <= kMaxDotRows) return few_rows_product<Isa>(a, b, m, n, k, sink, stream);
  }
  if constexpr (kInPlace<E, A>) {
    if (is_crowded<Isa>(a) && m >= kTileRows<Isa, E> && n >= kWorthCopying) {
      return product<Isa, T>(Crowded<E>{a.data, a.stride}, b, m, n, k, sink, stream);
    }
  }
  const bool small = m * n * k < 1 << 18;
  const BlockPlan plan = plan_blocks(block_problem<Isa, E>(a, b, m, n, k, small ? 1 : stream.num_threads()));
  const int threads = small ? 1 : static_cast<int>(least(stream.num_threads(), plan.count()));
  using Scratch = GemmScratch<Isa, E>;
  const ThreadScratch<Isa> memory(stream, threads, Scratch::template size<A>(plan.rows, plan.columns, k));
  if (stream.is_meta()) return;
  stream.team().parallel_for(threads, plan.count(), [&](Index i, int thread) {
    const auto scratch = Scratch::template carve<A>(memory.of(thread), plan.rows, k);
    Sink own = sink;
    const Index row = i % plan.row_blocks * plan.rows, column = i / plan.row_blocks * plan.columns;
    gemm_block<Isa, E>(a, b, Range{row, least(m, row + plan.rows)},
                       Range{column, least(n, column + plan.columns)}, n, k, scratch, own);
  });
}

}  // namespace hone::kernels::cpu
