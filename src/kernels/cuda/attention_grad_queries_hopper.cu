// The gradient of attention by its queries on compute capability 9.0.
#include "kernels/cuda/attention_grad_hopper.cuh"

namespace hone::kernels::cuda {
namespace {

/// Where a block's shared memory has what: its queries and dout (each warpgroup's 64 rows apart), and the
/// buffers of keys and values.
template <int kD, bool kSoftcap>
struct QueryCut {
  static constexpr int kKeys = HopperAttentionCut::kKeysAtOnce / (kSoftcap ? 2 : 1);
  static constexpr int kStages = kD <= 64 ? 4 : 2;
  using Own = HeadSlabs<HopperAttention::kOfGroup, kD>;
  using Other = HeadSlabs<kKeys, kD>;
  static constexpr int kStagesAt = 4 * Own::kBytes, kStageBytes = 2 * Other::kBytes;
  static constexpr int kBarriersAt = kStagesAt + kStages * kStageBytes;
  static constexpr int kSharedBytes = kBarriersAt + (2 * kStages + 1) * 8;
  static_assert(kSharedBytes <= 227 << 10);
};

/// p (64 rows, 128 keys) of each warpgroup = exp(q k^T - lse), ds = p (dout v^T - delta), dq += ds k. Block
/// i: of tile i / kv heads of the packed rows (the last, which see most, first) a kv head.
template <int kD, bool kSoftcap>
__global__ void __launch_bounds__(HopperAttention::kThreads, 1)
    query_grad_hopper(AttentionGradOperands<__nv_bfloat16> a, int tiles) {
#if HONE_HOPPER
  using Cut = QueryCut<kD, kSoftcap>;
  using Own = typename Cut::Own;
  using Other = typename Cut::Other;
  constexpr int kKeys = Cut::kKeys, kOfGroup = HopperAttention::kOfGroup;
  HONE_SWIZZLED_SHARED(memory);
  auto* own_full = reinterpret_cast<std::uint64_t*>(memory + Cut::kBarriersAt);
  std::uint64_t *full = own_full + 1, *empty = full + Cut::kStages;
  let_next_kernel_in();
  if (threadIdx.x == 0) {
    init_mbarrier(own_full, HopperAttention::kFetching);
    for (int i = 0; i < Cut::kStages; ++i) {
      init_mbarrier(full + i, HopperAttention::kFetching);
      init_mbarrier(empty + i, HopperAttention::kMultiplying / 32);
    }
  }
  wait_for_kernels_before();
  const AttentionShape& shape = a.shape;
  const int kv_heads = shape.heads / shape.group, block = static_cast<int>(blockIdx.x);
  const int kv_head = block % kv_heads;
  const Piece piece = find_piece(tiles - 1 - block / kv_heads, HopperAttention::kOwn, shape.sequences,
                                 [&](int s) { return shape.queries_of(s) * shape.group; });
  if (piece.sequence < 0) return;
  __syncthreads();
  const Sequence sequence = shape.at(piece.sequence);
  const PackedRows packed{sequence.first_query, shape.group, kv_head * shape.group};
  const int rows = sequence.queries * shape.group, given = min(HopperAttention::kOwn, rows - piece.first);
  const int high = shape.position(sequence, piece.first + given - 1) + 1;
  const int low = shape.first_key(shape.position(sequence, piece.first));
  const int steps = (high - low + kKeys - 1) / kKeys;
  const auto queries_of = [&](int group) { return Own{memory + group * Own::kBytes}; };
  const auto douts_of = [&](int group) { return Own{memory + (2 + group) * Own::kBytes}; };
  const auto keys_in = [&](int buffer) { return Other{memory + Cut::kStagesAt + buffer * Cut::kStageBytes}; };
  const auto values_in = [&](int buffer) { return Other{keys_in(buffer).data + Other::kBytes}; };

  if (threadIdx.x >= HopperAttention::kMultiplying) {
    give_registers<HopperAttention::kFetchingRegisters>();
    const int thread = static_cast<int>(threadIdx.x) - HopperAttention::kMultiplying;
#pragma unroll 1
    for (int group = 0; group < 2; ++group)
      fetch_heads(queries_of(group), douts_of(group), a.q, a.dout, given - group * kOfGroup, shape.head_dim,
                  thread,
                  [&](int row) { return packed.at(min(piece.first + group * kOfGroup + row, rows - 1)); });
    arrive_after_copies(own_full);
    BufferStage<Cut::kStages> stage;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      wait_for(empty + stage.at, stage.phase ^ 1);
      const int first = low + step * kKeys;
      fetch_heads(keys_in(stage.at), values_in(stage.at), a.k, a.v, high - first, shape.head_dim, thread,
                  [&](int row) {
                    return PackedRows::Row{sequence.first_key + first + row, kv_head};
                  });
      arrive_after_copies(full + stage.at);
      stage.advance();
    }
  } else {
    take_registers<HopperAttention::kMultiplyingRegisters>();
    const int group = static_cast<int>(threadIdx.x) / 128,
              warp_row = static_cast<int>(threadIdx.x) / 32 % 4 * 16;
    const int lane = static_cast<int>(threadIdx.x) % 32, first_row = piece.first + group * kOfGroup;
    const Own q = queries_of(group), dout = douts_of(group);
    const int my_given = min(kOfGroup, given - group * kOfGroup), col = lane % 4 * 2;
    const int first_position = shape.position(sequence, first_row);
    const int last_position = shape.position(sequence, first_row + kOfGroup - 1);
    int begin = steps, end = steps;  // the steps of keys that one of this warpgroup's rows sees
    if (my_given > 0) {
      begin = (shape.first_key(first_position) - low) / kKeys;
      end = (min(last_position + 1, high) - low + kKeys - 1) / kKeys;
    }
    int from[2], until[2];  // the keys by which this thread's rows move, by its columns
    float lse2[2], delta[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warp_row + lane / 4 + 8 * r, position = shape.position(sequence, first_row + row);
      from[r] = shape.first_key(position) - col;
      until[r] = shape.is_certain(position) ? from[r] : position + 1 - col;
      lse2[r] = kInfinity;  // of no row: its probabilities are 0
      delta[r] = 0;
      if (row >= my_given) continue;
      const Index at = packed.at(first_row + row).in(shape.heads);
      lse2[r] = a.lse[at] * kLog2E;
      delta[r] = a.delta[at];
    }
    const HopperScore<kSoftcap> score(shape);
    float dq[kD / 8][4] = {}, p[kKeys / 8][4], ds[kKeys / 8][4];
    std::uint32_t left[kKeys / 16][4];
    wait_for(own_full, 0);
    fence_for_async();
    AttentionBuffers<Cut::kStages> buffers{full, empty};
    buffers.skip(begin);
#pragma unroll 1
    for (int step = begin; step < end; ++step) {
      const int buffer = buffers.take();
      const Other k = keys_in(buffer), v = values_in(buffer);
      multiply_heads(p, q, k);
      wgmma_wait<1>();  // dq of the last step
      buffers.give_back_last();
      multiply_heads(ds, dout, v);
      wgmma_wait<1>();  // p
      keep_after_wait(p);
      const int first = low + step * kKeys;
      if (!shape.all_see(first_position, last_position, first, first + kKeys)) {
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int key = first + n * 8 + i % 2;
            if (key < from[i / 2] || key >= until[i / 2]) p[n][i] = -kInfinity;
          }
      }
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float slope;
          p[n][i] = score.probability(p[n][i], lse2[i / 2], slope) * slope;
        }
      wgmma_wait<0>();
      keep_after_wait(ds);
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) ds[n][i] = p[n][i] * (ds[n][i] - delta[i / 2]);
        put_left(left, n, ds[n]);
      }
      add_heads(dq, left, k);
      buffers.advance();
    }
    wgmma_wait<0>();
    keep_after_wait(dq);
    buffers.give_back_last();
    buffers.skip(steps - end);
    meet(1 + group, 128);  // no warp of the four multiplies by these queries any more
    const int my_rows = min(16, my_given - warp_row);
    if (my_rows <= 0) return;
    const float factor[2] = {shape.scale, shape.scale};
    write_rows(dq, factor, Tile<__nv_bfloat16, kD>{reinterpret_cast<__nv_bfloat16*>(q.data)}, warp_row, 0,
               my_rows, shape.head_dim, true,
               [&](int i) { return packed.in(a.dq, shape.head_dim, first_row + warp_row + i); });
  }
#endif
}

}  // namespace

void launch_query_grad_hopper(const AttentionGradArgs& g, const float* delta, cudaStream_t stream) {
  const AttentionArgs& a = g.forward;
  const Index tiles = tiles_for(a.q.rows * (a.heads / a.kv_heads), a.sequences, HopperAttention::kOwn);
  with_hopper_heads(a, [&](auto dim, auto softcap) {
    constexpr int kD = decltype(dim)::value;
    constexpr bool kSoftcap = decltype(softcap)::value;
    HONE_LAUNCH((query_grad_hopper<kD, kSoftcap>), static_cast<unsigned>(tiles * a.kv_heads),
                HopperAttention::kThreads, QueryCut<kD, kSoftcap>::kSharedBytes, stream,
                grad_operands<__nv_bfloat16>(g, delta), static_cast<int>(tiles));
  });
}

}  // namespace hone::kernels::cuda
