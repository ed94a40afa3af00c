// attention: forward (attention.cuh), and where few rows see many keys, as in generation, in parts of the
// keys that a second kernel puts together. What cuDNN takes (cudnn.h) it takes.
#include <algorithm>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/cuts.h"
#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {
namespace {

/// Four warps of sixteen packed rows; the keys of a step so many that the accumulators stay in registers and
/// the tiles in what every card has.
template <typename T, typename Size>
struct Blocks {
  static constexpr int kWarps = 4, kRows = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kKeys = sizeof(T) == 2 ? (Size::kQ <= 128 ? 64 : 32) : (Size::kV <= 128 ? 32 : 8);
  static constexpr int kTurnedAt = (kRows + kKeys) * Size::kQ + kKeys * Size::kV;  // numbers
  static constexpr std::size_t kBytes =
      sizeof(T) * static_cast<std::size_t>(kTurnedAt) + kWarps * Turned<T, kKeys / 8>::kBytes;
  static_assert(kBytes <= kSharedBytesOfAll);
};

template <typename T>
struct Operands {
  AttentionShape shape;
  Rows<const T> q, k, v;
  const T* sinks;  // null: none
  Rows<T> out;
  float* lse;  // null: not wanted
  bool vectors;
};

/// What each part of the keys makes of a row: the mean of the values under its own softmax, and the log2 of
/// the sum of exp2 of its scores (-infinity where it sees none of them: the mean is 0).
struct Parts {
  int count;  // 1: there are none
  float *mean, *lse2;
  Index tokens;
  __device__ __forceinline__ Index row(int part, Index token, int heads, int head) const {
    return (part * tokens + token) * heads + head;
  }
};

/// The softmax of a row so far: of scores in units of log2.
struct SoftmaxRow {
  float largest = -kInfinity, sum = 0;  // sum: of this lane's columns
};

/// Block (x, y, z): tile x of packed rows (the last, which see most, first), kv head y, part z of the keys.
template <typename T, typename Size>
__global__ void __launch_bounds__(Blocks<T, Size>::kThreads, 2) attend(Operands<T> a, Parts parts) {
  begin_kernel();
  using B = Blocks<T, Size>;
  HONE_DYNAMIC_SHARED(T, memory);
  const Tile<T, Size::kQ> q{memory}, k{memory + B::kRows * Size::kQ};
  const Tile<T, Size::kV> v{memory + (B::kRows + B::kKeys) * Size::kQ};
  const AttentionShape& shape = a.shape;
  const Piece piece = find_piece(static_cast<int>(gridDim.x - 1 - blockIdx.x), B::kRows, shape.sequences,
                                 [&](int s) { return shape.queries_of(s) * shape.group; });
  if (piece.sequence < 0) return;
  const Sequence sequence = shape.at(piece.sequence);
  const int kv_head = static_cast<int>(blockIdx.y), rows = sequence.queries * shape.group;
  const PackedRows packed{sequence.first_query, shape.group, kv_head * shape.group};
  const int first = piece.first, given = min(B::kRows, rows - first);
  // the keys that some row sees, from `low` to `high`; of them this part's
  const int high = shape.position(sequence, first + given - 1) + 1;
  const int low = shape.first_key(shape.position(sequence, first));
  const int steps = (high - low + B::kKeys - 1) / B::kKeys, of_part = (steps + parts.count - 1) / parts.count;
  const int begin = static_cast<int>(blockIdx.z) * of_part, end = min(steps, begin + of_part);

  const auto copy_keys = [&](auto tile, const Rows<const T>& m, int dim, int step) {
    const int key = low + step * B::kKeys;
    copy_rows<B::kThreads>(tile, B::kKeys, min(B::kKeys, high - key), dim, a.vectors, [&](int row) {
      return m.at(sequence.first_key + key + row, static_cast<Index>(kv_head) * dim);
    });
    commit_copies();
  };
  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int my_rows = min(16, given - warp_row);  // 0 or less: this warp has none
  const int first_position = shape.position(sequence, first + warp_row);
  const int last_position = shape.position(sequence, first + warp_row + 15);
  int position[2];
  for (int i = 0; i < 2; ++i) position[i] = shape.position(sequence, first + warp_row + lane / 4 + 8 * i);
  SoftmaxRow softmax[2];
  float out[Size::kV / 8][4] = {};
  if (begin < end) {
    copy_rows<B::kThreads>(q, B::kRows, given, shape.head_dim, a.vectors,
                           [&](int row) { return packed.in(a.q, shape.head_dim, first + row); });
    copy_keys(k, a.k, shape.head_dim, begin);
  }
  for (int step = begin; step < end; ++step) {
    wait_copies<0>();
    __syncthreads();  // the keys are there, and nobody reads the values before them any more
    copy_keys(v, a.v, shape.v_dim, step);
    const int key = low + step * B::kKeys;
    const bool works = my_rows > 0 && shape.any_sees(first_position, last_position, key, key + B::kKeys);
    float s[B::kKeys / 8][4];
    if (works) multiply_rows(s, q, warp_row, k);
    wait_copies<0>();
    __syncthreads();  // the values are there, and nobody reads these keys any more
    if (step + 1 < end) copy_keys(k, a.k, shape.head_dim, step + 1);
    if (!works) continue;
    const bool all = shape.all_see(first_position, last_position, key, key + B::kKeys);
    float largest[2] = {-kInfinity, -kInfinity};
    shape.score(s);
#pragma unroll
    for (int n = 0; n < B::kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!all && !shape.sees(position[i / 2], key + n * 8 + lane % 4 * 2 + i % 2)) s[n][i] = -kInfinity;
        largest[i / 2] = fmaxf(largest[i / 2], s[n][i]);
      }
    float base[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float before = softmax[i].largest, now = fmaxf(before, row_max(largest[i]));
      base[i] = now == -kInfinity ? 0.0F : now;  // a row that has seen nothing yet
      const float factor = exp2f(before - base[i]);
      softmax[i].largest = now;
      softmax[i].sum *= factor;
#pragma unroll
      for (int n = 0; n < Size::kV / 8; ++n) {
        out[n][2 * i] *= factor;
        out[n][2 * i + 1] *= factor;
      }
    }
#pragma unroll
    for (int n = 0; n < B::kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        s[n][i] = exp2f(s[n][i] - base[i / 2]);
        softmax[i / 2].sum += s[n][i];
      }
    multiply_columns(out, s, turned_of_warp<T, B::kKeys / 8>(memory + B::kTurnedAt), v, 0);
  }
  if (my_rows <= 0) return;

  float factor[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = warp_row + lane / 4 + 8 * i;
    const PackedRows::Row of = packed.at(first + row);
    const bool mine = lane % 4 == 0 && row < given;
    float largest = softmax[i].largest, sum = row_sum(softmax[i].sum);
    factor[i] = sum == 0 ? 0.0F : 1.0F / sum;
    if (parts.count > 1) {
      const float lse2 = largest + log2f(sum);  // -infinity where it sees none
      if (mine) parts.lse2[parts.row(static_cast<int>(blockIdx.z), of.token, shape.heads, of.head)] = lse2;
      continue;
    }
    if (a.sinks != nullptr && row < given) {
      const float sink = to_float(a.sinks[of.head]) * kLog2E, now = fmaxf(largest, sink);
      const float scaled = exp2f(largest - now);
      sum = sum * scaled + exp2f(sink - now);
      largest = now;
      factor[i] = scaled / sum;
    }
    if (a.lse != nullptr && mine) a.lse[of.in(shape.heads)] = (largest + log2f(sum)) * kLn2;
  }
  if (parts.count == 1) {
    write_rows(out, factor, q, warp_row, 0, my_rows, shape.v_dim, a.vectors,
               [&](int i) { return packed.in(a.out, shape.v_dim, first + warp_row + i); });
    return;
  }
  write_floats(out, factor, 0, my_rows, shape.v_dim, [&](int i) {
    const PackedRows::Row of = packed.at(first + warp_row + i);
    return parts.mean + parts.row(static_cast<int>(blockIdx.z), of.token, shape.heads, of.head) * shape.v_dim;
  });
}

/// One warp for each row of out: the parts' means, weighed by what each has of the softmax's sum, in order.
template <typename T>
__global__ void join_parts(Operands<T> a, Parts parts) {
  begin_kernel();
  const AttentionShape& shape = a.shape;
  const Index row = static_cast<Index>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const Index token = row / shape.heads;
  const int head = static_cast<int>(row % shape.heads), lane = static_cast<int>(threadIdx.x) % 32;
  if (token < shape.q_offsets[0] || token >= shape.q_offsets[shape.sequences]) return;
  const float sink = a.sinks != nullptr ? to_float(a.sinks[head]) * kLog2E : -kInfinity;
  float largest = sink;
  for (int part = 0; part < parts.count; ++part)
    largest = fmaxf(largest, parts.lse2[parts.row(part, token, shape.heads, head)]);
  float sum = exp2f(sink - largest);
  for (int part = 0; part < parts.count; ++part)
    sum += exp2f(parts.lse2[parts.row(part, token, shape.heads, head)] - largest);
  if (a.lse != nullptr && lane == 0) a.lse[row] = (largest + log2f(sum)) * kLn2;
  T* const to = a.out.at(token, static_cast<Index>(head) * shape.v_dim);
  for (int col = lane; col < shape.v_dim; col += 32) {
    float mean = 0;
    for (int part = 0; part < parts.count; ++part) {
      const Index at = parts.row(part, token, shape.heads, head);
      mean = fmaf(exp2f(parts.lse2[at] - largest), parts.mean[at * shape.v_dim + col], mean);
    }
    put(to[col], mean / sum);
  }
}

/// Tiles of packed rows, and into how many parts the keys are cut: where there are fewer than 128 blocks, as
/// many as make 256, each of at least four steps of keys, as the shapes alone say it.
struct Plan {
  Index tiles;
  int parts;
};
template <typename B>
Plan plan_of(const AttentionArgs& a) {
  const Index tiles = tiles_for(a.q.rows * (a.heads / a.kv_heads), a.sequences, B::kRows);
  Index parts = 256 / (tiles * a.kv_heads);
  const Index most = a.k.rows / (4 * B::kKeys);
  if (parts > most) parts = most;
  return {tiles, static_cast<int>(parts > 64 ? 64 : parts > 1 ? parts : 1)};
}
template <typename F>
void with_blocks(const AttentionArgs& a, F f) {
  with_dtype(a.q.dtype, [&](auto t) {
    with_head_size(a, [&](auto size) { f(t, size, Blocks<TypeOf<decltype(t)>, decltype(size)>{}); });
  });
}
bool is_nothing(const AttentionArgs& a) {
  return a.q.rows == 0 || a.sequences == 0;
}
Index bytes_of(const AttentionArgs& a, int parts) {
  return parts == 1 ? 0
                    : parts * a.q.rows * a.heads * (a.value_dim() + 1) * static_cast<Index>(sizeof(float));
}

}  // namespace

std::int64_t scratch_bytes_of(const AttentionArgs& a) {
  if (is_nothing(a)) return 0;
  Index bytes = 0;
  with_blocks(a, [&](auto, auto, auto blocks) { bytes = bytes_of(a, plan_of<decltype(blocks)>(a).parts); });
  return is_for_cudnn(a) ? std::max<Index>(bytes, cudnn_scratch_bytes(a)) : bytes;
}
void attention(const AttentionArgs& a, Stream& stream) {
  if (is_nothing(a)) return;
  const Index bytes = scratch_bytes_of(a);
  void* const scratch = bytes > 0 ? stream.shared_workspace(static_cast<std::size_t>(bytes)) : nullptr;
  if (is_for_cudnn(a) && cudnn_attention(a, stream, scratch)) return;
  with_blocks(a, [&](auto t, auto size, auto blocks) {
    using T = TypeOf<decltype(t)>;
    using Size = decltype(size);
    using B = decltype(blocks);
    const Plan plan = plan_of<B>(a);
    Parts parts{plan.parts, nullptr, nullptr, a.q.rows};
    if (plan.parts > 1) {
      parts.lse2 = static_cast<float*>(scratch);
      parts.mean = parts.lse2 + plan.parts * a.q.rows * a.heads;
    }
    const Operands<T> operands{shape_of(a),
                               rows_of<const T>(a.q),
                               rows_of<const T>(a.k),
                               rows_of<const T>(a.v),
                               a.has_sinks ? static_cast<const T*>(a.sinks) : nullptr,
                               rows_of<T>(a.out),
                               a.wants_lse ? a.lse : nullptr,
                               has_head_vectors(a.q, a.head_dim) && has_head_vectors(a.k, a.head_dim) &&
                                   has_head_vectors(a.v, a.value_dim()) &&
                                   has_head_vectors(a.out, a.value_dim())};
    HONE_LAUNCH((attend<T, Size>),
                dim3(static_cast<unsigned>(plan.tiles), static_cast<unsigned>(a.kv_heads),
                     static_cast<unsigned>(plan.parts)),
                B::kThreads, B::kBytes, cuda_stream(stream), operands, parts);
    if (plan.parts > 1)
      HONE_LAUNCH(join_parts<T>, static_cast<unsigned>(ceil_div(a.q.rows * a.heads, kThreads / 32)), kThreads,
                  0, cuda_stream(stream), operands, parts);
  });
}

}  // namespace hone::kernels::cuda
