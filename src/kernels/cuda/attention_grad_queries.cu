// The gradient of attention by its queries: a tile of packed rows at a time, over the keys that they see.
#include "kernels/cuda/attention_grad.cuh"

namespace hone::kernels::cuda {
namespace {

/// As in attention.cu; of the keys there are two tiles, one being filled.
template <typename T, typename Size>
struct Blocks {
  static constexpr bool kHalf = sizeof(T) == 2;
  static constexpr int kWarps = kHalf || Size::kQ <= 64 ? 4 : 2, kRows = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kKeys = kHalf ? (Size::kQ <= 64    ? 64
                                        : Size::kV <= 128 ? 32
                                                          : 16)
                                     : (Size::kQ <= 64    ? 32
                                        : Size::kV <= 128 ? 16
                                                          : 8);
  static constexpr int kStage = kKeys * (Size::kQ + Size::kV);  // numbers
  static constexpr int kTurnedAt = kRows * (Size::kQ + Size::kV) + 2 * kStage;
  static constexpr std::size_t kBytes =
      sizeof(T) * static_cast<std::size_t>(kTurnedAt) + kWarps * Turned<T, kKeys / 8>::kBytes;
  static_assert(kBytes <= kSharedBytesOfAll);
};

/// With p the probabilities: ds = p (dout v^T - delta), dq = scale ds k. Block (x, y): tile x of packed rows
/// (the last first), kv head y.
template <typename T, typename Size>
__global__ void __launch_bounds__(Blocks<T, Size>::kThreads, 1) query_grad(AttentionGradOperands<T> a) {
  begin_kernel();
  using B = Blocks<T, Size>;
  HONE_DYNAMIC_SHARED(T, memory);
  const Tile<T, Size::kQ> q{memory};
  const Tile<T, Size::kV> dout{memory + B::kRows * Size::kQ};
  T* const stages = memory + B::kRows * (Size::kQ + Size::kV);
  const AttentionShape& shape = a.shape;
  const Piece piece = find_piece(static_cast<int>(gridDim.x - 1 - blockIdx.x), B::kRows, shape.sequences,
                                 [&](int s) { return shape.queries_of(s) * shape.group; });
  if (piece.sequence < 0) return;
  const Sequence sequence = shape.at(piece.sequence);
  const int kv_head = static_cast<int>(blockIdx.y), rows = sequence.queries * shape.group;
  const PackedRows packed{sequence.first_query, shape.group, kv_head * shape.group};
  const int first = piece.first, given = min(B::kRows, rows - first);
  const int high = shape.position(sequence, first + given - 1) + 1;
  const int low = shape.first_key(shape.position(sequence, first));
  const int steps = (high - low + B::kKeys - 1) / B::kKeys;

  const auto keys_of = [&](int step) { return Tile<T, Size::kQ>{stages + step % 2 * B::kStage}; };
  const auto values_of = [&](int step) {
    return Tile<T, Size::kV>{stages + step % 2 * B::kStage + B::kKeys * Size::kQ};
  };
  const auto copy_step = [&](int step) {
    const int key = low + step * B::kKeys, count = min(B::kKeys, high - key);
    const auto row_of = [&](const Rows<const T>& m, int dim) {
      return [=](int row) { return m.at(sequence.first_key + key + row, static_cast<Index>(kv_head) * dim); };
    };
    copy_rows<B::kThreads>(keys_of(step), B::kKeys, count, shape.head_dim, a.vectors,
                           row_of(a.k, shape.head_dim));
    copy_rows<B::kThreads>(values_of(step), B::kKeys, count, shape.v_dim, a.vectors,
                           row_of(a.v, shape.v_dim));
    commit_copies();
  };
  copy_rows<B::kThreads>(q, B::kRows, given, shape.head_dim, a.vectors,
                         [&](int row) { return packed.in(a.q, shape.head_dim, first + row); });
  copy_rows<B::kThreads>(dout, B::kRows, given, shape.v_dim, a.vectors,
                         [&](int row) { return packed.in(a.dout, shape.v_dim, first + row); });
  copy_step(0);

  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int my_rows = min(16, given - warp_row);  // 0 or less: this warp has none
  const int first_position = shape.position(sequence, first + warp_row);
  const int last_position = shape.position(sequence, first + warp_row + 15);
  int position[2];
  float lse2[2], delta[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = warp_row + lane / 4 + 8 * i;
    position[i] = shape.position(sequence, first + row);
    lse2[i] = kInfinity;  // of no row: its probabilities are 0
    delta[i] = 0;
    if (row >= given) continue;
    const Index at = packed.at(first + row).in(shape.heads);
    lse2[i] = a.lse[at] * kLog2E;
    delta[i] = a.delta[at];
  }
  float dq[Size::kQ / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();  // these keys are there, and nobody reads those before them any more
    if (step + 1 < steps) copy_step(step + 1);
    const int key = low + step * B::kKeys;
    if (my_rows <= 0 || !shape.any_sees(first_position, last_position, key, key + B::kKeys)) continue;
    float p[B::kKeys / 8][4], ds[B::kKeys / 8][4];
    multiply_rows(p, q, warp_row, keys_of(step));
    multiply_rows(ds, dout, warp_row, values_of(step));
    const bool all = shape.all_see(first_position, last_position, key, key + B::kKeys);
    shape.score(p);
#pragma unroll
    for (int n = 0; n < B::kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool seen = all || shape.sees(position[i / 2], key + n * 8 + lane % 4 * 2 + i % 2);
        const float probability = seen ? exp2f(p[n][i] - lse2[i / 2]) : 0.0F;
        const bool moves = all || !shape.is_certain(position[i / 2]);
        ds[n][i] = moves ? probability * (ds[n][i] - delta[i / 2]) * shape.slope(p[n][i]) : 0.0F;
      }
    multiply_columns(dq, ds, turned_of_warp<T, B::kKeys / 8>(memory + B::kTurnedAt), keys_of(step), 0);
  }
  if (my_rows <= 0) return;
  const float factor[2] = {shape.scale, shape.scale};
  write_rows(dq, factor, q, warp_row, 0, my_rows, shape.head_dim, a.vectors,
             [&](int i) { return packed.in(a.dq, shape.head_dim, first + warp_row + i); });
}

}  // namespace

void attention_grad_of_queries(const AttentionGradArgs& g, const float* delta, bool hopper, Stream& stream) {
  if (hopper) return launch_query_grad_hopper(g, delta, cuda_stream(stream));
  const AttentionArgs& a = g.forward;
  with_dtype(a.q.dtype, [&](auto t) {
    with_head_size(a, [&](auto size) {
      using T = TypeOf<decltype(t)>;
      using Size = decltype(size);
      using B = Blocks<T, Size>;
      const Index tiles = tiles_for(a.q.rows * (a.heads / a.kv_heads), a.sequences, B::kRows);
      HONE_LAUNCH((query_grad<T, Size>),
                  dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(a.kv_heads)), B::kThreads,
                  B::kBytes, cuda_stream(stream), grad_operands<T>(g, delta));
    });
  });
}

}  // namespace hone::kernels::cuda
