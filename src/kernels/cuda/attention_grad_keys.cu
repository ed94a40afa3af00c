// The gradient of attention by its keys and values: a tile of keys at a time, over the packed rows that see
// it, those of all heads of the group, in order.
#include "kernels/cuda/attention_grad.cuh"
#include "kernels/cuda/cuts.h"

namespace hone::kernels::cuda {
namespace {

/// A warp has sixteen keys; of the packed rows there are two tiles, one being filled. kColumnParts: how many
/// blocks share the columns of dk and dv of a tile, so that they stay in registers (each computes all of p
/// and ds).
template <typename T, typename Size>
struct Blocks {
  static constexpr bool kHalf = sizeof(T) == 2;
  static constexpr int kWarps = kHalf || Size::kQ <= 64 ? 4 : 2, kKeys = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kRows = kHalf ? (Size::kQ <= 64    ? 64
                                        : Size::kQ <= 128 ? 32
                                                          : 16)
                                     : (Size::kQ <= 64    ? 32
                                        : Size::kV <= 128 ? 16
                                                          : 8);
  static constexpr int kColumnParts = Size::kQ <= 128 ? 1 : 2;
  static constexpr int kStage = kRows * (Size::kQ + Size::kV);  // numbers
  static constexpr int kTurnedAt = kKeys * (Size::kQ + Size::kV) + 2 * kStage;
  static constexpr std::size_t kStatisticsAt =
      sizeof(T) * static_cast<std::size_t>(kTurnedAt) + kWarps * Turned<T, kRows / 8>::kBytes;
};

/// What a packed row brings to each of its probabilities.
struct RowStatistics {
  float lse2, delta;
  int position;
};
template <typename B>
constexpr std::size_t bytes_of() {
  constexpr std::size_t kBytes = B::kStatisticsAt + 2 * B::kRows * sizeof(RowStatistics);
  static_assert(kBytes <= kSharedBytesOfAll);
  return kBytes;
}

/// dv = p^T dout, dk = scale ds^T q. Block (x, y, z): tile x of the keys (the first, which most see, first),
/// kv head y, part z of the rows and of the columns.
template <typename T, typename Size>
__global__ void __launch_bounds__(Blocks<T, Size>::kThreads, 1)
    key_grad(AttentionGradOperands<T> a, RowParts parts) {
  begin_kernel();
  using B = Blocks<T, Size>;
  HONE_DYNAMIC_SHARED(T, memory);
  const Tile<T, Size::kQ> k{memory};
  const Tile<T, Size::kV> v{memory + B::kKeys * Size::kQ};
  T* const stages = memory + B::kKeys * (Size::kQ + Size::kV);
  auto* const statistics =
      reinterpret_cast<RowStatistics*>(reinterpret_cast<unsigned char*>(memory) + B::kStatisticsAt);
  const AttentionShape& shape = a.shape;
  const Piece piece = find_piece(static_cast<int>(blockIdx.x), B::kKeys, shape.sequences,
                                 [&](int s) { return shape.key_length[s]; });
  if (piece.sequence < 0) return;
  const Sequence sequence = shape.at(piece.sequence);
  const int kv_head = static_cast<int>(blockIdx.y), first = piece.first;
  const int given = min(B::kKeys, sequence.keys - first);
  const PackedRows packed{sequence.first_query, shape.group, kv_head * shape.group};
  const RowRange range = shape.rows_that_see(sequence, first, given);
  const int low = range.begin, high = range.end;
  const int all_steps = high > low ? (high - low + B::kRows - 1) / B::kRows : 0;
  const int row_part = static_cast<int>(blockIdx.z) / B::kColumnParts;
  const int column_part = static_cast<int>(blockIdx.z) % B::kColumnParts;
  const StepRange steps = steps_of_part(parts, row_part, all_steps);
  const int begin = steps.begin, end = steps.end;

  const auto row_of_key = [&](const auto& m, int dim) {
    return [=](int row) { return m.at(sequence.first_key + first + row, static_cast<Index>(kv_head) * dim); };
  };
  const auto queries_of = [&](int step) { return Tile<T, Size::kQ>{stages + step % 2 * B::kStage}; };
  const auto douts_of = [&](int step) {
    return Tile<T, Size::kV>{stages + step % 2 * B::kStage + B::kRows * Size::kQ};
  };
  const auto copy_step = [&](int step) {
    const int row = low + step * B::kRows, count = min(B::kRows, high - row);
    copy_rows<B::kThreads>(queries_of(step), B::kRows, count, shape.head_dim, a.vectors,
                           [&](int i) { return packed.in(a.q, shape.head_dim, row + i); });
    copy_rows<B::kThreads>(douts_of(step), B::kRows, count, shape.v_dim, a.vectors,
                           [&](int i) { return packed.in(a.dout, shape.v_dim, row + i); });
    commit_copies();
  };
  const int me = static_cast<int>(threadIdx.x);
  const auto statistics_of = [&](int step) {
    const int row = low + step * B::kRows + me;
    float2 mine = make_float2(kInfinity, 0);  // of no row: its probabilities are 0
    if (me >= B::kRows || row >= high) return mine;
    const Index at = packed.at(row).in(shape.heads);
    mine.x = a.lse[at] * kLog2E;
    mine.y = a.delta[at];
    return mine;
  };
  const auto keep = [&](int step, float2 mine) {
    if (me < B::kRows)
      statistics[step % 2 * B::kRows + me] = {mine.x, mine.y,
                                              shape.position(sequence, low + step * B::kRows + me)};
  };
  static_assert(B::kRows <= B::kThreads);
  copy_rows<B::kThreads>(k, B::kKeys, given, shape.head_dim, a.vectors, row_of_key(a.k, shape.head_dim));
  copy_rows<B::kThreads>(v, B::kKeys, given, shape.v_dim, a.vectors, row_of_key(a.v, shape.v_dim));
  commit_copies();
  if (begin < end) {
    copy_step(begin);
    keep(begin, statistics_of(begin));
  }

  constexpr int kQueryColumns = Size::kQ / B::kColumnParts, kValueColumns = Size::kV / B::kColumnParts;
  const int query_col = column_part * kQueryColumns;
  const int value_col = column_part * kValueColumns;
  const int lane = me % 32, warp_row = me / 32 * 16;
  const int first_key = first + warp_row;
  float dk[kQueryColumns / 8][4] = {}, dv[kValueColumns / 8][4] = {};
  for (int step = begin; step < end; ++step) {
    wait_copies<0>();
    __syncthreads();  // these rows are there, and nobody reads those before them any more
    float2 next{};
    if (step + 1 < end) {
      copy_step(step + 1);
      next = statistics_of(step + 1);
    }
    const int row = low + step * B::kRows;
    const int first_position = shape.position(sequence, row);
    const int last_position = shape.position(sequence, row + B::kRows - 1);
    if (warp_row < given && shape.any_sees(first_position, last_position, first_key, first_key + 16)) {
      float p[B::kRows / 8][4], ds[B::kRows / 8][4];
      multiply_rows(p, k, warp_row, queries_of(step));
      multiply_rows(ds, v, warp_row, douts_of(step));
      const bool all = shape.all_see(first_position, last_position, first_key, first_key + 16);
      shape.score(p);
#pragma unroll
      for (int n = 0; n < B::kRows / 8; ++n)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const RowStatistics of = statistics[step % 2 * B::kRows + n * 8 + lane % 4 * 2 + j];
#pragma unroll
          for (int i = j; i < 4; i += 2) {
            const bool seen = all || shape.sees(of.position, first_key + lane / 4 + i / 2 * 8);
            const float probability = seen ? exp2f(p[n][i] - of.lse2) : 0.0F;
            const bool moves = all || !shape.is_certain(of.position);
            ds[n][i] = moves ? probability * (ds[n][i] - of.delta) * shape.slope(p[n][i]) : 0.0F;
            p[n][i] = probability;
          }
        }
      const auto turned = turned_of_warp<T, B::kRows / 8>(memory + B::kTurnedAt);
      multiply_columns(dv, p, turned, douts_of(step), value_col);
      multiply_columns(dk, ds, turned, queries_of(step), query_col);
    }
    if (step + 1 < end) keep(step + 1, next);
  }
  wait_copies<0>();
  __syncthreads();  // where there were no rows, k and v may still be under way
  const int my_keys = min(16, given - warp_row);
  if (my_keys <= 0) return;
  const float scales[2] = {shape.scale, shape.scale}, ones[2] = {1, 1};
  if (parts.count > 1) {
    const auto to = [&](float* sums, int dim) {
      return
          [=](int i) { return parts.in(sums, row_part, sequence.first_key + first_key + i, kv_head, dim); };
    };
    write_floats(dk, scales, query_col, my_keys, shape.head_dim, to(parts.dk, shape.head_dim));
    write_floats(dv, ones, value_col, my_keys, shape.v_dim, to(parts.dv, shape.v_dim));
    return;
  }
  const auto to = [&](const Rows<T>& m, int dim) {
    return [=, row_of = row_of_key(m, dim)](int i) { return row_of(warp_row + i); };
  };
  write_rows(dk, scales, k, warp_row, query_col, my_keys, shape.head_dim, a.vectors,
             to(a.dk, shape.head_dim));
  write_rows(dv, ones, v, warp_row, value_col, my_keys, shape.v_dim, a.vectors, to(a.dv, shape.v_dim));
}

/// The sums of the parts, in order: block (x, y) has tile x of `tile` keys, kv head y.
template <typename T>
__global__ void join_row_parts(AttentionGradOperands<T> a, RowParts parts, int tile) {
  begin_kernel();
  const AttentionShape& shape = a.shape;
  const Piece piece = find_piece(static_cast<int>(blockIdx.x), tile, shape.sequences,
                                 [&](int s) { return shape.key_length[s]; });
  if (piece.sequence < 0) return;
  const Sequence sequence = shape.at(piece.sequence);
  const int kv_head = static_cast<int>(blockIdx.y), given = min(tile, sequence.keys - piece.first);
  const auto join = [&](float* sums, const Rows<T>& to, int dim) {
    const int packs = (dim + kPack - 1) / kPack;
    for (int i = static_cast<int>(threadIdx.x); i < given * packs; i += kThreads) {
      const Index key = sequence.first_key + piece.first + i / packs;
      const int col = i % packs * kPack;
      float sum[kPack] = {}, v[kPack];
      for (int part = 0; part < parts.count; ++part) {
        load(parts.in(sums, part, key, kv_head, dim) + col, dim - col, a.vectors, v);
#pragma unroll
        for (int j = 0; j < kPack; ++j) sum[j] += v[j];
      }
      store(to.at(key, static_cast<Index>(kv_head) * dim + col), dim - col, a.vectors, sum);
    }
  };
  join(parts.dk, a.dk, shape.head_dim);
  join(parts.dv, a.dv, shape.v_dim);
}

template <typename F>
void with_blocks(const AttentionArgs& a, F f) {
  with_dtype(a.q.dtype, [&](auto t) {
    with_head_size(a, [&](auto size) { f(t, size, Blocks<TypeOf<decltype(t)>, decltype(size)>{}); });
  });
}

}  // namespace

void attention_grad_of_keys(const AttentionGradArgs& g, const float* delta, float* scratch, bool hopper,
                            Stream& stream) {
  const AttentionArgs& a = g.forward;
  with_blocks(a, [&](auto t, auto size, auto blocks) {
    using T = TypeOf<decltype(t)>;
    using B = decltype(blocks);
    const Index count = key_grad_parts(a);
    const RowParts parts{static_cast<int>(count), scratch,
                         scratch + count * a.k.rows * a.kv_heads * a.head_dim, a.k.rows,
                         static_cast<int>(a.kv_heads)};
    const auto tiles = static_cast<unsigned>(tiles_for(a.k.rows, a.sequences, B::kKeys));
    const auto kv_heads = static_cast<unsigned>(a.kv_heads);
    const AttentionGradOperands<T> operands = grad_operands<T>(g, delta);
    if (hopper)
      launch_key_grad_hopper(g, delta, parts, cuda_stream(stream));
    else
      HONE_LAUNCH((key_grad<T, decltype(size)>),
                  dim3(tiles, kv_heads, static_cast<unsigned>(B::kColumnParts * count)), B::kThreads,
                  bytes_of<B>(), cuda_stream(stream), operands, parts);
    if (count > 1)
      HONE_LAUNCH(join_row_parts<T>, dim3(tiles, kv_heads), kThreads, 0, cuda_stream(stream), operands, parts,
                  B::kKeys);
  });
}

}  // namespace hone::kernels::cuda
