// The gradient of attention by its keys and values on compute capability 9.0.
#include "kernels/cuda/attention_grad_hopper.cuh"

namespace hone::kernels::cuda {
namespace {

/// Where a block's shared memory has what: its keys and values (each warpgroup's 64 apart), the buffers of
/// queries and dout, and of each packed row in them lse and delta.
template <int kD, bool kSoftcap>
struct KeyCut {
  static constexpr int kRows = HopperAttentionCut::kRowsAtOnce / (kSoftcap ? 2 : 1), kStages = 4;
  using Own = HeadSlabs<HopperAttention::kOfGroup, kD>;
  using Other = HeadSlabs<kRows, kD>;
  static constexpr int kStagesAt = 4 * Own::kBytes, kStageBytes = 2 * Other::kBytes;
  static constexpr int kStatisticsAt = kStagesAt + kStages * kStageBytes;
  static constexpr int kBarriersAt = kStatisticsAt + kStages * kRows * 8;
  static constexpr int kSharedBytes = kBarriersAt + (2 * kStages + 1) * 8;
  static_assert(kSharedBytes <= 227 << 10);
  static_assert(2 * kRows <= HopperAttention::kFetching);  // a thread fetches one number of the statistics
};

/// Transposed: p^T (64 keys, 64 rows) of each warpgroup = exp(k q^T - lse), dv += p^T dout, ds^T = p^T (v
/// dout^T
/// - delta), dk += ds^T q. Block i: of tile i / (kv heads * parts) of the keys (the first, which most see,
/// first) a kv head and a part of the rows.
template <int kD, bool kSoftcap>
__global__ void __launch_bounds__(HopperAttention::kThreads, 1)
    key_grad_hopper(AttentionGradOperands<__nv_bfloat16> a, RowParts parts) {
#if HONE_HOPPER
  using Cut = KeyCut<kD, kSoftcap>;
  using Own = typename Cut::Own;
  using Other = typename Cut::Other;
  constexpr int kRows = Cut::kRows, kOfGroup = HopperAttention::kOfGroup;
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
  const int of_tile = parts.kv_heads * parts.count, block = static_cast<int>(blockIdx.x);
  const int kv_head = block % of_tile % parts.kv_heads, part = block % of_tile / parts.kv_heads;
  const Piece piece = find_piece(block / of_tile, HopperAttention::kOwn, shape.sequences,
                                 [&](int s) { return shape.key_length[s]; });
  if (piece.sequence < 0) return;
  __syncthreads();
  const Sequence sequence = shape.at(piece.sequence);
  const int given = min(HopperAttention::kOwn, sequence.keys - piece.first);
  const RowRange range = shape.rows_that_see(sequence, piece.first, given);
  const int low = range.begin, high = range.end;
  const StepRange steps = steps_of_part(parts, part, high > low ? (high - low + kRows - 1) / kRows : 0);
  const auto keys_of = [&](int group) { return Own{memory + group * Own::kBytes}; };
  const auto values_of = [&](int group) { return Own{memory + (2 + group) * Own::kBytes}; };
  const auto queries_in = [&](int buffer) {
    return Other{memory + Cut::kStagesAt + buffer * Cut::kStageBytes};
  };
  const auto douts_in = [&](int buffer) { return Other{queries_in(buffer).data + Other::kBytes}; };
  auto* statistics = reinterpret_cast<float*>(memory + Cut::kStatisticsAt);  // 64 of lse, 64 of delta

  if (threadIdx.x >= HopperAttention::kMultiplying) {
    give_registers<HopperAttention::kFetchingRegisters>();
    const int thread = static_cast<int>(threadIdx.x) - HopperAttention::kMultiplying;
#pragma unroll 1
    for (int group = 0; group < 2; ++group)
      fetch_heads(keys_of(group), values_of(group), a.k, a.v, given - group * kOfGroup, shape.head_dim,
                  thread, [&](int row) {
                    const int key = min(piece.first + group * kOfGroup + row, sequence.keys - 1);
                    return PackedRows::Row{sequence.first_key + key, kv_head};
                  });
    arrive_after_copies(own_full);
    const PackedRows packed{sequence.first_query, shape.group, kv_head * shape.group};
    const float* statistic = thread < kRows ? a.lse : a.delta;
    BufferStage<Cut::kStages> stage;
#pragma unroll 1
    for (int step = steps.begin; step < steps.end; ++step) {
      wait_for(empty + stage.at, stage.phase ^ 1);
      const int first = low + step * kRows, count = min(kRows, high - first);
      fetch_heads(queries_in(stage.at), douts_in(stage.at), a.q, a.dout, count, shape.head_dim, thread,
                  [&](int row) { return packed.at(first + row); });
      // of no row: 0, as its query and dout, so that nothing comes of it
      const bool there = thread % kRows < count;
      const Index at = packed.at(first + (there ? thread % kRows : 0)).in(shape.heads);
      if (thread < 2 * kRows)
        copy_async_4(statistics + stage.at * 2 * kRows + thread, statistic + at, there ? 4 : 0);
      arrive_after_copies(full + stage.at);
      stage.advance();
    }
  } else {
    take_registers<HopperAttention::kMultiplyingRegisters>();
    const int group = static_cast<int>(threadIdx.x) / 128,
              warp_row = static_cast<int>(threadIdx.x) / 32 % 4 * 16;
    const int lane = static_cast<int>(threadIdx.x) % 32, first_key = piece.first + group * kOfGroup;
    const Own k = keys_of(group), v = values_of(group);
    // The steps that see one of this warpgroup's keys. Packed rows are counted from `low` on from here.
    int begin = steps.end, end = steps.end;
    const int my_given = min(kOfGroup, given - group * kOfGroup);
    if (my_given > 0) {
      const RowRange mine = shape.rows_that_see(sequence, first_key, my_given);
      begin = min(max((mine.begin - low) / kRows, steps.begin), steps.end);
      end = max(min((mine.end - low + kRows - 1) / kRows, steps.end), begin);
    }
    // What masks are made of, in rows: the first that sees the warpgroup's first key (those that see key i
    // begin i * group later, and end window * group after they begin), the end of all, the end of those that
    // AttentionShape::is_certain is true of. A row is so not divided by the group.
    const int sees_first = (first_key - sequence.earlier) * shape.group - low, row_end = high - low;
    const int certain_end = shape.sinks             ? 0
                            : shape.window == 1     ? row_end
                            : sequence.earlier == 0 ? shape.group - low
                                                    : 0;
    const HopperScore<kSoftcap> score(shape);
    float dk[kD / 8][4] = {}, dv[kD / 8][4] = {}, p[kRows / 8][4], ds[kRows / 8][4];
    std::uint32_t p_left[kRows / 16][4], ds_left[kRows / 16][4];
    wait_for(own_full, 0);
    fence_for_async();
    AttentionBuffers<Cut::kStages> buffers{full, empty};
    buffers.skip(begin - steps.begin);
#pragma unroll 1
    for (int step = begin; step < end; ++step) {
      const int buffer = buffers.take();
      const Other q = queries_in(buffer), dout = douts_in(buffer);
      // (The left sides of the last two products and the sums of these two at once would be more registers
      // than there are. The other warpgroup multiplies while this one finds its probabilities.)
      multiply_heads(p, k, q);
      wgmma_wait<1>();  // dv and dk of the last step
      buffers.give_back_last();
      multiply_heads(ds, v, dout);
      wgmma_wait<0>();
      keep_after_wait(p);
      keep_after_wait(ds);
      const float *lse = statistics + buffer * 2 * kRows + lane % 4 * 2, *delta = lse + kRows;
      const int first = step * kRows, window_rows = shape.window * shape.group;
      const auto sees_until = [&](int sees_from) {
        return shape.window == 0 ? row_end : min(row_end, sees_from + window_rows);
      };
      if (first < sees_first + (kOfGroup - 1) * shape.group || first + kRows > sees_until(sees_first)) {
        int from[2], until[2];  // rows that see this thread's two keys
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          from[r] = sees_first + (warp_row + lane / 4 + 8 * r) * shape.group;
          until[r] = sees_until(from[r]);
        }
#pragma unroll
        for (int n = 0; n < kRows / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int row = first + n * 8 + lane % 4 * 2 + i % 2;
            if (row < from[i / 2] || row >= until[i / 2]) p[n][i] = -kInfinity;
            if (row < certain_end) ds[n][i] = delta[n * 8 + i % 2];  // so that nothing is left
          }
      }
#pragma unroll
      for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float slope;
          p[n][i] = score.probability(p[n][i], lse[n * 8 + i % 2] * kLog2E, slope);
          ds[n][i] = p[n][i] * slope * (ds[n][i] - delta[n * 8 + i % 2]);
        }
        put_left(p_left, n, p[n]);
        put_left(ds_left, n, ds[n]);
      }
      add_heads(dv, p_left, dout);
      add_heads(dk, ds_left, q);
      buffers.advance();
    }
    wgmma_wait<0>();
    keep_after_wait(dk);
    keep_after_wait(dv);
    buffers.give_back_last();
    buffers.skip(steps.end - end);
    meet(1 + group, 128);  // no warp of the four multiplies by these keys and values any more
    const int my_keys = min(16, my_given - warp_row);
    if (my_keys <= 0) return;
    // read once more: in the loop there is no register for it
    const Index key = shape.key_begin[piece.sequence] + first_key + warp_row;
    if (parts.count > 1) {
      const auto to = [&](float* sums) {
        return [=](int i) { return parts.in(sums, part, key + i, kv_head, shape.head_dim); };
      };
      write_pairs(dk, shape.scale, my_keys, shape.head_dim, to(parts.dk));
      write_pairs(dv, 1, my_keys, shape.head_dim, to(parts.dv));
      return;
    }
    const auto to = [&](const Rows<__nv_bfloat16>& m) {
      return [=](int i) { return m.at(key + i, static_cast<Index>(kv_head) * shape.head_dim); };
    };
    const float scales[2] = {shape.scale, shape.scale}, ones[2] = {1, 1};
    using Staged = Tile<__nv_bfloat16, kD>;
    write_rows(dk, scales, Staged{reinterpret_cast<__nv_bfloat16*>(k.data)}, warp_row, 0, my_keys,
               shape.head_dim, true, to(a.dk));
    write_rows(dv, ones, Staged{reinterpret_cast<__nv_bfloat16*>(v.data)}, warp_row, 0, my_keys,
               shape.head_dim, true, to(a.dv));
  }
#endif
}

}  // namespace

void launch_key_grad_hopper(const AttentionGradArgs& g, const float* delta, const RowParts& parts,
                            cudaStream_t stream) {
  const AttentionArgs& a = g.forward;
  const Index tiles = tiles_for(a.k.rows, a.sequences, HopperAttention::kOwn);
  with_hopper_heads(a, [&](auto dim, auto softcap) {
    constexpr int kD = decltype(dim)::value;
    constexpr bool kSoftcap = decltype(softcap)::value;
    HONE_LAUNCH((key_grad_hopper<kD, kSoftcap>), static_cast<unsigned>(tiles * a.kv_heads * parts.count),
                HopperAttention::kThreads, KeyCut<kD, kSoftcap>::kSharedBytes, stream,
                grad_operands<__nv_bfloat16>(g, delta), parts);
  });
}

}  // namespace hone::kernels::cuda
