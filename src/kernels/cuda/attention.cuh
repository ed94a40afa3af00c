// What the attention kernels share: tiles in shared memory, products of them by one warp, and who sees whom.
//
// FlashAttention-2 (arXiv:2307.08691) over *packed rows*: the queries of a sequence times the heads of a
// group (those that read one kv head), query by query. One tile of packed rows so serves all heads of its
// group with the keys and values that it loads, and a single query is as many rows as it has heads. A warp
// has sixteen rows of a tile; products are by tensor cores (bf16) or multiply-adds (f32), with the same
// layout of what comes out (PTX ISA, "Matrix Fragments for mma.m16n8k16"): of 16 x 8 numbers lane l holds in
// [0], [1] those of row l / 4 and columns 2 (l % 4) and the next, in [2], [3] those of row l / 4 + 8.
#pragma once

#include <limits>

#include "kernels/cuda/attention_sizes.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {

inline constexpr float kLog2E = 1.44269504088896341F, kLn2 = 0.693147180559945309F;
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// One sequence: `earlier` keys come before its first query's.
struct Sequence {
  Index first_query, first_key;
  int queries, keys, earlier;
};

struct RowRange {
  int begin, end;
};

/// The sequences, and what a score is (AttentionArgs).
struct AttentionShape {
  const std::int32_t *q_offsets, *key_begin, *key_length;
  int sequences, heads, group, head_dim, v_dim, window;
  float scale, softcap;
  bool sinks;

  __device__ __forceinline__ int queries_of(int s) const { return q_offsets[s + 1] - q_offsets[s]; }
  __device__ __forceinline__ Sequence at(int s) const {
    const int queries = queries_of(s), keys = key_length[s];
    return {q_offsets[s], key_begin[s], queries, keys, keys - queries};
  }
  /// The first key that a query at this position sees.
  __device__ __forceinline__ int first_key(int position) const {
    return window > 0 ? max(0, position - window + 1) : 0;
  }
  /// The key position of a packed row's query.
  __device__ __forceinline__ int position(const Sequence& sequence, int row) const {
    return sequence.earlier + static_cast<int>(static_cast<unsigned>(row) / static_cast<unsigned>(group));
  }
  __device__ __forceinline__ bool sees(int position, int key) const {
    return key <= position && (window == 0 || key > position - window);
  }
  /// Whether it sees one key and nothing else: its probability is 1 whatever the score, so that nothing comes
  /// back by the score (what dout v less delta leaves would be rounding alone).
  __device__ __forceinline__ bool is_certain(int position) const {
    return (position == 0 || window == 1) && !sinks;
  }
  /// Whether a query at `first` … `last` sees one of the keys begin … end - 1; whether each sees them all.
  __device__ __forceinline__ bool any_sees(int first, int last, int begin, int end) const {
    return begin <= last && (window == 0 || end - 1 > first - window);
  }
  __device__ __forceinline__ bool all_see(int first, int last, int begin, int end) const {
    return end - 1 <= first && (window == 0 || begin > last - window);
  }
  /// The packed rows, begin … end - 1, of a sequence that see one of `count` keys from `first` on; end may be
  /// below begin.
  __device__ __forceinline__ RowRange rows_that_see(const Sequence& sequence, int first, int count) const {
    const int end =
        window == 0 ? sequence.queries : min(sequence.queries, first + count - 1 + window - sequence.earlier);
    return {max(0, first - sequence.earlier) * group, end * group};
  }
  /// From products of queries and keys to scores times log2(e).
  template <int kTiles>
  __device__ __forceinline__ void score(float (&s)[kTiles][4]) const {
    const float factor = softcap > 0 ? scale / softcap : scale * kLog2E;
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] *= factor;
    if (softcap <= 0) return;
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = softcap * kLog2E * tanhf(s[n][i]);
  }
  /// The derivative of such a score by scale * log2(e) * the product.
  __device__ __forceinline__ float slope(float score) const {
    if (softcap <= 0) return 1;
    const float t = score / (softcap * kLog2E);
    return 1.0F - t * t;
  }
};
inline AttentionShape shape_of(const AttentionArgs& a) {
  // a window as long as all keys is none
  return {a.q_offsets,
          a.key_begin,
          a.key_length,
          static_cast<int>(a.sequences),
          static_cast<int>(a.heads),
          static_cast<int>(a.heads / a.kv_heads),
          static_cast<int>(a.head_dim),
          static_cast<int>(a.value_dim()),
          a.window < a.k.rows ? static_cast<int>(a.window) : 0,
          a.scale,
          a.softcap,
          a.has_sinks};
}

/// The packed rows of one kv head of one sequence.
struct PackedRows {
  Index first_query;
  int group, first_head;
  struct Row {
    Index token;
    int head;
    /// Where it is in (tokens, heads).
    __device__ __forceinline__ Index in(int heads) const { return token * heads + head; }
  };
  __device__ __forceinline__ Row at(int row) const {
    const int query = static_cast<int>(static_cast<unsigned>(row) / static_cast<unsigned>(group));
    return {first_query + query, first_head + row - query * group};
  }
  /// Row `row` of them in a matrix of heads of `dim` numbers.
  template <typename T>
  __device__ __forceinline__ T* in(const Rows<T>& m, int dim, int row) const {
    const Row of = at(row);
    return m.at(of.token, static_cast<Index>(of.head) * dim);
  }
};

/// A tile of one sequence, which begins with its row (or key) `first`; sequence -1: there is none.
struct Piece {
  int sequence, first;
};
/// Tile `tile` of the tiles of all sequences, of which length_of(s) says the rows; every warp finds it alone.
template <typename LengthOf>
__device__ Piece find_piece(int tile, int tile_rows, int sequences, LengthOf length_of) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int base = 0; base < sequences; base += 32) {
    const int s = base + lane, mine = s < sequences ? (length_of(s) + tile_rows - 1) / tile_rows : 0;
    int until = mine;  // the tiles up to and with this lane's
    for (unsigned other = 1; other < 32; other *= 2) {
      const int before = __shfl_up_sync(0xffffffffU, until, other);
      if (lane >= static_cast<int>(other)) until += before;
    }
    const unsigned beyond = __ballot_sync(0xffffffffU, until > tile ? 1 : 0);
    if (beyond != 0) {
      const int found = __ffs(static_cast<int>(beyond)) - 1;
      return {base + found, (tile - __shfl_sync(0xffffffffU, until - mine, found)) * tile_rows};
    }
    tile -= __shfl_sync(0xffffffffU, until, 31);
  }
  return {-1, 0};
}
/// Blocks that are enough for the tiles of `sequences` sequences of `rows` rows in all.
inline Index tiles_for(Index rows, Index sequences, Index tile_rows) {
  return rows / tile_rows + sequences;
}

/// Rows of kCols numbers in shared memory, in chunks of 16 bytes whose order differs from row to row, so that
/// eight rows' chunks of one column lie in different banks.
template <typename T, int kCols>
struct Tile {
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(T)), kChunks = kCols / kChunk;
  static_assert(kChunks == 4 || kChunks % 8 == 0);
  T* data;
  __device__ __forceinline__ T* chunk(int row, int c) const {
    return data + row * kCols + (c ^ (kChunks == 4 ? row / 2 % 4 : row % 8)) * kChunk;
  }
  __device__ __forceinline__ T* at(int row, int col) const { return chunk(row, col / kChunk) + col % kChunk; }
};

/// Fills `rows` rows of a tile: the first `given` from address(row), `dim` numbers each, the rest is 0. By
/// all kBlock threads, asynchronously where `vectors` (rows begin at 16 bytes and have whole chunks).
template <int kBlock, typename T, int kCols, typename Address>
__device__ __forceinline__ void copy_rows(Tile<T, kCols> to, int rows, int given, int dim, bool vectors,
                                          Address address) {
  using Here = Tile<T, kCols>;
  for (int i = static_cast<int>(threadIdx.x); i < rows * Here::kChunks; i += kBlock) {
    const int row = i / Here::kChunks, c = i % Here::kChunks;
    const int there = row < given ? dim - c * Here::kChunk : 0;  // numbers, more than a chunk perhaps
    const T* const from = address(row < given ? row : 0) + (there > 0 ? c * Here::kChunk : 0);
    T* const chunk = to.chunk(row, c);
    if (vectors) {
      copy_async_16(chunk, from, there > 0 ? 16 : 0);
    } else {
#pragma unroll
      for (int j = 0; j < Here::kChunk; ++j) put(chunk[j], j < there ? to_float(from[j]) : 0.0F);
    }
  }
}

/// acc = a b^T of 16 rows of a from a_row on and 8 kTiles rows of b.
template <int kTiles, int kCols>
__device__ __forceinline__ void multiply_rows(float (&acc)[kTiles][4], Tile<__nv_bfloat16, kCols> a,
                                              int a_row, Tile<__nv_bfloat16, kCols> b) {
  static_assert(kTiles % 2 == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) acc[n][i] = 0;
#pragma unroll
  for (int k = 0; k < kCols; k += 16) {
    std::uint32_t left[4], right[4];
    ldmatrix_4(left, a.at(a_row + lane % 16, k + lane / 16 * 8));
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      ldmatrix_4(right, b.at(n * 8 + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
      mma_bf16(acc[n], left, {right[0], right[1]});
      mma_bf16(acc[n + 1], left, {right[2], right[3]});
    }
  }
}
template <int kTiles, int kCols>
__device__ __forceinline__ void multiply_rows(float (&acc)[kTiles][4], Tile<float, kCols> a, int a_row,
                                              Tile<float, kCols> b) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) acc[n][i] = 0;
#pragma unroll 2
  for (int k = 0; k < kCols; k += 4) {
    float4 left[2], right[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) left[i] = *reinterpret_cast<const float4*>(a.at(a_row + lane / 4 + 8 * i, k));
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j)
        right[j] = *reinterpret_cast<const float4*>(b.at(n * 8 + lane % 4 * 2 + j, k));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float4 x = left[i / 2], y = right[i % 2];
        acc[n][i] = fmaf(x.x, y.x, fmaf(x.y, y.y, fmaf(x.z, y.z, fmaf(x.w, y.w, acc[n][i]))));
      }
    }
  }
}

__device__ __forceinline__ void put_pair(float* to, float a, float b) {
  *reinterpret_cast<float2*>(to) = make_float2(a, b);
}
__device__ __forceinline__ void put_pair(__nv_bfloat16* to, float a, float b) {
  *reinterpret_cast<std::uint32_t*>(to) = pair_of(a, b);
}

/// Shared memory in which a warp turns a product (16 x 8 kTiles) into the left side of another: f32 alone
/// needs it. Rows are four numbers longer, so that eight rows' chunks of one column lie in different banks.
template <typename T, int kTiles>
struct Turned {
  static constexpr int kStride = 8 * kTiles + 4;
  static constexpr std::size_t kBytes = sizeof(T) == 4 ? 16 * kStride * sizeof(float) : 0;
  float* data;
};
/// The one of this warp, of those that lie one after another from `first` on.
template <typename T, int kTiles>
__device__ __forceinline__ Turned<T, kTiles> turned_of_warp(void* first) {
  using Here = Turned<T, kTiles>;
  return {reinterpret_cast<float*>(static_cast<unsigned char*>(first) + threadIdx.x / 32 * Here::kBytes)};
}

/// acc += p b, of p (16 x 8 kRows, the result of another product) and the columns from b_col on of b.
template <int kTiles, int kRows, int kCols>
__device__ __forceinline__ void multiply_columns(float (&acc)[kTiles][4], const float (&p)[kRows][4],
                                                 Turned<__nv_bfloat16, kRows>, Tile<__nv_bfloat16, kCols> b,
                                                 int b_col) {
  static_assert(kTiles % 2 == 0 && kRows % 2 == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < kRows; k += 2) {
    // what lanes hold of a product is what they are to hold of a left side of 16 columns
    const std::uint32_t left[4] = {pair_of(p[k][0], p[k][1]), pair_of(p[k][2], p[k][3]),
                                   pair_of(p[k + 1][0], p[k + 1][1]), pair_of(p[k + 1][2], p[k + 1][3])};
    std::uint32_t right[4];
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      ldmatrix_4_transposed(right, b.at(k * 8 + lane % 16, b_col + n * 8 + lane / 16 * 8));
      mma_bf16(acc[n], left, {right[0], right[1]});
      mma_bf16(acc[n + 1], left, {right[2], right[3]});
    }
  }
}
template <int kTiles, int kRows, int kCols>
__device__ __forceinline__ void multiply_columns(float (&acc)[kTiles][4], const float (&p)[kRows][4],
                                                 Turned<float, kRows> turned, Tile<float, kCols> b,
                                                 int b_col) {
  constexpr int kStride = Turned<float, kRows>::kStride;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();  // who still reads the last one
#pragma unroll
  for (int k = 0; k < kRows; ++k)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      put_pair(turned.data + (lane / 4 + 8 * i) * kStride + k * 8 + lane % 4 * 2, p[k][2 * i],
               p[k][2 * i + 1]);
  __syncwarp();
#pragma unroll 1
  for (int k = 0; k < 8 * kRows; k += 4) {
    float left[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float4 four = *reinterpret_cast<const float4*>(turned.data + (lane / 4 + 8 * i) * kStride + k);
      left[i][0] = four.x, left[i][1] = four.y, left[i][2] = four.z, left[i][3] = four.w;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const float2 right = *reinterpret_cast<const float2*>(b.at(k + j, b_col + n * 8 + lane % 4 * 2));
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          acc[n][2 * i] = fmaf(left[i][j], right.x, acc[n][2 * i]);
          acc[n][2 * i + 1] = fmaf(left[i][j], right.y, acc[n][2 * i + 1]);
        }
      }
  }
}

/// The sum, or the largest, of the four lanes that share a row.
__device__ __forceinline__ float row_sum(float v) {
  v += __shfl_xor_sync(0xffffffffU, v, 1);
  return v + __shfl_xor_sync(0xffffffffU, v, 2);
}
__device__ __forceinline__ float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xffffffffU, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xffffffffU, v, 2));
}

/// Writes 16 rows by one warp: of the row that address(i) says, if i < given, the numbers from `col` on; by
/// way of rows `row` … of a tile that no other warp uses. factor: of rows l / 4 and l / 4 + 8.
template <int kTiles, typename T, int kCols, typename Address>
__device__ __forceinline__ void write_rows(const float (&acc)[kTiles][4], const float (&factor)[2],
                                           Tile<T, kCols> tile, int row, int col, int given, int dim,
                                           bool vectors, Address address) {
  using Here = Tile<T, kCols>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();  // who still reads the tile
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      put_pair(tile.at(row + lane / 4 + 8 * i, col + n * 8 + lane % 4 * 2), acc[n][2 * i] * factor[i],
               acc[n][2 * i + 1] * factor[i]);
  __syncwarp();
  constexpr int kChunks = kTiles * 8 / Here::kChunk;
  for (int i = lane; i < 16 * kChunks; i += 32) {
    const int r = i / kChunks, c = col / Here::kChunk + i % kChunks, there = dim - c * Here::kChunk;
    if (r >= given || there <= 0) continue;
    const T* const from = tile.chunk(row + r, c);
    T* const to = address(r) + c * Here::kChunk;
    if (vectors) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int j = 0; j < Here::kChunk && j < there; ++j) to[j] = from[j];
    }
  }
}

/// Writes the numbers of 16 rows below `dim` by one warp, each where address(row) and its column (from `col`
/// on) say, if row < given.
template <int kTiles, typename Address>
__device__ __forceinline__ void write_floats(const float (&acc)[kTiles][4], const float (&factor)[2], int col,
                                             int given, int dim, Address address) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    if (row >= given) continue;
    float* const to = address(row);
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int at = col + n * 8 + lane % 4 * 2 + j;
        if (at < dim) to[at] = acc[n][2 * i + j] * factor[i];
      }
  }
}

/// The head sizes that kernels are made for, as types: the first that holds both. More is refused.
template <int kQueryDim, int kValueDim>
struct HeadSize {
  static constexpr int kQ = kQueryDim, kV = kValueDim;
  static_assert(kQ >= kV);
};
template <typename F>
void with_head_size(const AttentionArgs& a, F f) {
  const auto fits = [&](int q, int v) { return a.head_dim <= q && a.value_dim() <= v; };
  check_head_size(a.head_dim, a.value_dim());
  if (fits(32, 32)) return f(HeadSize<32, 32>{});
  if (fits(64, 64)) return f(HeadSize<64, 64>{});
  if (fits(128, 128)) return f(HeadSize<128, 128>{});
  if (fits(192, 128)) return f(HeadSize<192, 128>{});  // DeepSeek's
  f(HeadSize<kMostHeadDim, kMostHeadDim>{});
}

/// Whether the rows of heads of this matrix begin at 16 bytes and have whole chunks of them.
inline bool has_head_vectors(const Matrix& m, std::int64_t dim) {
  return has_vectors(m) && static_cast<std::size_t>(dim) * size_of(m.dtype) % 16 == 0;
}

}  // namespace hone::kernels::cuda
