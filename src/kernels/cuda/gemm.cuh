// A block's tile of a product, on all cards: bf16 by mma.sync (m16n8k16, f32 sums), f32 by fused
// multiply-adds.
//
// A tile is kRows x kColumns of c, made by warps of 16 kBlocks x 32 each. Its operands come through kStages
// buffers of shared memory, kDepth (64 bytes) of k at a time: straight from memory (cp.async) or, where they
// are unaligned or quantised, through registers while the tensor cores work on the buffer before. Either may
// lie along k (a row of shared memory is a row of the tile) or across (a row is one k). Rows are padded by 16
// bytes: 5 or 17 or 9 times 16, so that 8 of them are in different banks, for ldmatrix as for the copies.
#pragma once

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {

template <typename T, int kRowWarps_, int kColumnWarps_, int kBlocks_>
struct TileShape {
  using Number = T;
  static constexpr int kRowWarps = kRowWarps_, kColumnWarps = kColumnWarps_, kBlocks = kBlocks_;
  static constexpr int kRows = kRowWarps * kBlocks * 16, kColumns = kColumnWarps * 32;
  static constexpr int kTileThreads = kRowWarps * kColumnWarps * 32;
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(T)), kDepth = 4 * kChunk;
  static constexpr int kStages = 3;
};
using LargeTile = TileShape<__nv_bfloat16, 2, 4, 4>;  // 128 x 128, 60 KiB
template <typename T>
using SmallTile = TileShape<T, 2, 2, 2>;  // 64 x 64, 30 KiB

/// 16 bytes of numbers: what a thread moves at once.
union Chunk {
  uint4 words;
  unsigned w[4];
};
template <typename T>
__device__ __forceinline__ Chunk chunk_of(const float (&v)[16 / sizeof(T)]) {
  Chunk chunk{};
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) chunk.w[i] = __float_as_uint(v[i]);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) chunk.w[i] = pair_of(v[2 * i], v[2 * i + 1]);
  }
  return chunk;
}

// --- Operands
//
// A source says how a line of an operand (what is contiguous in memory) is read, 16 bytes of T at a time:
//   Line line(Index i): line i of the operand; Line{} where there is none
//   bool given(line): whether it is
//   fetch(line, col, n, to, raw): numbers col … col + min(n, 16 bytes) - 1, then 0; n may be 0 or less
//   deposit(to, raw): what fetch left to do, a product later

/// Lines of memory; line i is row index[i] / divisor where there is an index.
template <typename T, bool kVectors>
struct DenseLines {
  using Line = const T*;
  struct Nothing {};
  using Raw = std::conditional_t<kVectors, Nothing, Chunk>;
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(T));

  const T* data;
  Index stride;
  const std::int32_t* index = nullptr;
  int divisor = 1;

  __device__ __forceinline__ Line line(Index i) const {
    return data + (index != nullptr ? static_cast<Index>(index[i] / divisor) : i) * stride;
  }
  __device__ __forceinline__ static bool given(Line line) { return line != nullptr; }
  __device__ __forceinline__ void fetch(Line line, Index col, Index n, T* to, Raw& raw) const {
    if constexpr (kVectors) {
      const int bytes = n >= kChunk ? 16 : n > 0 ? static_cast<int>(n) * static_cast<int>(sizeof(T)) : 0;
      copy_async_16(to, bytes > 0 ? line + col : data, bytes);
    } else {
      float v[kChunk];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) v[i] = i < n ? to_float(line[col + i]) : 0.0F;
      raw = chunk_of<T>(v);
    }
  }
  __device__ __forceinline__ void deposit(T* to, const Raw& raw) const {
    if constexpr (!kVectors) *reinterpret_cast<uint4*>(to) = raw.words;
  }
};

/// An operand on its way: kExtent rows or columns of the tile, from `first` on, of all `extent`.
template <typename Shape, int kExtent, bool kAlongK, typename Source>
class OperandTile {
 public:
  using T = typename Shape::Number;
  static constexpr int kLines = kAlongK ? kExtent : Shape::kDepth,
                       kLength = kAlongK ? Shape::kDepth : kExtent;
  static constexpr int kChunksOfLine = kLength / Shape::kChunk, kStride = kLength + Shape::kChunk;
  static constexpr int kSize = kLines * kStride;  // numbers of one buffer
  static constexpr int kMine = kLines * kChunksOfLine / Shape::kTileThreads;
  static_assert(kMine * Shape::kTileThreads == kLines * kChunksOfLine);

  __device__ __forceinline__ OperandTile(const Source& source, Index first, Index extent, T* buffers)
      : source_(source), first_(first), extent_(extent), buffers_(buffers) {
    if constexpr (kAlongK) {
#pragma unroll
      for (int i = 0; i < kMine; ++i)
        lines_[i] = first + line(i) < extent ? source.line(first + line(i)) : typename Source::Line{};
    }
  }
  /// Begins to fill a buffer with k … k_end - 1 (at most kDepth of them), then 0.
  __device__ __forceinline__ void fetch(int buffer, int k, int k_end) {
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      T* to = place(buffer, i);
      if constexpr (kAlongK) {
        const int col = k + column(i);
        source_.fetch(lines_[i], col, Source::given(lines_[i]) ? k_end - col : 0, to, raw_[i]);
      } else {
        const int at = k + line(i);
        const Index col = first_ + column(i);
        const bool there = at < k_end;
        source_.fetch(there ? source_.line(at) : typename Source::Line{}, col, there ? extent_ - col : 0, to,
                      raw_[i]);
      }
    }
  }
  __device__ __forceinline__ void deposit(int buffer) {
#pragma unroll
    for (int i = 0; i < kMine; ++i) source_.deposit(place(buffer, i), raw_[i]);
  }
  __device__ __forceinline__ const T* buffer(int i) const {
    return buffers_ + i * kSize;
  }

 private:
  __device__ __forceinline__ static int line(int i) {
    return (static_cast<int>(threadIdx.x) + i * Shape::kTileThreads) / kChunksOfLine;
  }
  __device__ __forceinline__ static int column(int i) {
    return (static_cast<int>(threadIdx.x) + i * Shape::kTileThreads) % kChunksOfLine * Shape::kChunk;
  }
  __device__ __forceinline__ T* place(int buffer, int i) const {
    return buffers_ + buffer * kSize + line(i) * kStride + column(i);
  }

  const Source& source_;
  Index first_, extent_;
  T* buffers_;
  typename Source::Line lines_[kAlongK ? kMine : 1];
  typename Source::Raw raw_[kMine];
};

// --- The product of two buffers

/// The sums of a warp's 16 kBlocks x 32. bf16: sum[i][j] is the fragment of m16n8k16 at rows 16 i, columns
/// 8 j. f32: sum[i][r][j] is of row 16 i + 4 r + lane / 8, column 8 j + lane % 8.
template <typename Shape>
struct WarpSums {
  float sum[Shape::kBlocks][4][4];
};

template <typename Shape, bool kAAlongK, bool kBAlongK>
__device__ __forceinline__ void multiply(const __nv_bfloat16* a, const __nv_bfloat16* b,
                                         WarpSums<Shape>& sums) {
  constexpr int kStrideA = (kAAlongK ? Shape::kDepth : Shape::kRows) + Shape::kChunk;
  constexpr int kStrideB = (kBAlongK ? Shape::kDepth : Shape::kColumns) + Shape::kChunk;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int row = warp / Shape::kColumnWarps * 16 * Shape::kBlocks, column = warp % Shape::kColumnWarps * 32;
#pragma unroll
  for (int k = 0; k < Shape::kDepth; k += 16) {
    std::uint32_t of_a[Shape::kBlocks][4], of_b[2][4];
#pragma unroll
    for (int i = 0; i < Shape::kBlocks; ++i)
      if constexpr (kAAlongK)
        ldmatrix_4(of_a[i], a + (row + 16 * i + lane % 16) * kStrideA + k + lane / 16 * 8);
      else
        ldmatrix_4_transposed(
            of_a[i], a + (k + lane / 16 * 8 + lane % 8) * kStrideA + row + 16 * i + lane / 8 % 2 * 8);
#pragma unroll
    for (int j = 0; j < 2; ++j)
      if constexpr (kBAlongK)
        ldmatrix_4(of_b[j],
                   b + (column + 16 * j + lane / 16 * 8 + lane % 8) * kStrideB + k + lane / 8 % 2 * 8);
      else
        ldmatrix_4_transposed(of_b[j], b + (k + lane % 16) * kStrideB + column + 16 * j + lane / 16 * 8);
#pragma unroll
    for (int i = 0; i < Shape::kBlocks; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const std::uint32_t pair[2] = {of_b[j / 2][j % 2 * 2], of_b[j / 2][j % 2 * 2 + 1]};
        mma_bf16(sums.sum[i][j], of_a[i], pair);
      }
  }
}

/// Four k of a line of a buffer, or four lines' one number.
template <bool kAlongK>
__device__ __forceinline__ float4 four_of_k(const float* at, int stride) {
  if constexpr (kAlongK) return *reinterpret_cast<const float4*>(at);
  return make_float4(at[0], at[stride], at[2 * stride], at[3 * stride]);
}
template <typename Shape, bool kAAlongK, bool kBAlongK>
__device__ __forceinline__ void multiply(const float* a, const float* b, WarpSums<Shape>& sums) {
  constexpr int kStrideA = (kAAlongK ? Shape::kDepth : Shape::kRows) + Shape::kChunk;
  constexpr int kStrideB = (kBAlongK ? Shape::kDepth : Shape::kColumns) + Shape::kChunk;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int row = warp / Shape::kColumnWarps * 16 * Shape::kBlocks + lane / 8;
  const int column = warp % Shape::kColumnWarps * 32 + lane % 8;
#pragma unroll
  for (int k = 0; k < Shape::kDepth; k += 4) {
    float4 of_b[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      of_b[j] = kBAlongK ? four_of_k<true>(b + (column + 8 * j) * kStrideB + k, kStrideB)
                         : four_of_k<false>(b + k * kStrideB + column + 8 * j, kStrideB);
#pragma unroll
    for (int i = 0; i < Shape::kBlocks; ++i)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int at = row + 16 * i + 4 * r;
        const float4 x = kAAlongK ? four_of_k<true>(a + at * kStrideA + k, kStrideA)
                                  : four_of_k<false>(a + k * kStrideA + at, kStrideA);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sums.sum[i][r][j] =
              fmaf(x.w, of_b[j].w,
                   fmaf(x.z, of_b[j].z, fmaf(x.y, of_b[j].y, fmaf(x.x, of_b[j].x, sums.sum[i][r][j]))));
      }
  }
}

// --- What becomes of the sums

inline constexpr int kStagedStride = 36;  // of 16 x 32 numbers that a warp hands to itself

template <typename Shape>
__device__ __forceinline__ void stage(const WarpSums<Shape>& sums, int i, float* staged) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (sizeof(typename Shape::Number) == 2) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float* at = staged + lane / 4 * kStagedStride + 8 * j + lane % 4 * 2;
      *reinterpret_cast<float2*>(at) = make_float2(sums.sum[i][j][0], sums.sum[i][j][1]);
      *reinterpret_cast<float2*>(at + 8 * kStagedStride) = make_float2(sums.sum[i][j][2], sums.sum[i][j][3]);
    }
  } else {
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        staged[(4 * r + lane / 8) * kStagedStride + 8 * j + lane % 8] = sums.sum[i][r][j];
  }
}

/// A matrix of f32 or bf16, told apart when it is read or written; data null: left out.
struct Either {
  void* data = nullptr;
  Index stride = 0;
  bool is_bf16 = false, vectors = false;

  __device__ __forceinline__ void load_at(Index row, Index col, Index n, float (&v)[kPack]) const {
    const Index at = row * stride + col;
    if (is_bf16)
      load(static_cast<const __nv_bfloat16*>(data) + at, n, vectors, v);
    else
      load(static_cast<const float*>(data) + at, n, vectors, v);
  }
  __device__ __forceinline__ void store_at(Index row, Index col, Index n, const float (&v)[kPack]) const {
    const Index at = row * stride + col;
    if (is_bf16)
      store(static_cast<__nv_bfloat16*>(data) + at, n, vectors, v);
    else
      store(static_cast<float*>(data) + at, n, vectors, v);
  }
  /// The rows from this one on.
  __device__ __forceinline__ Either from_row(Index row) const {
    Either rest = *this;
    rest.data = static_cast<unsigned char*>(data) + row * stride * (is_bf16 ? 2 : 4);
    return rest;
  }
};
inline Either either(const Matrix& m) {
  if (!m.given()) return {};
  return {m.data, m.stride, m.dtype == DType::kBF16, has_vectors(m)};
}

/// c = [c +] v [+ bias] [+ residual], a pack of a row at a time.
struct Output {
  Either c, bias, residual;
  Index rows, columns;
  bool accumulate;

  __device__ __forceinline__ void put_at(Index row, Index col, float (&v)[kPack]) const {
    if (row >= rows || col >= columns) return;
    const Index n = columns - col;
    float more[kPack];
    if (bias.data != nullptr) {
      bias.load_at(0, col, n, more);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += more[i];
    }
    if (residual.data != nullptr) {
      residual.load_at(row, col, n, more);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += more[i];
    }
    if (accumulate) {
      c.load_at(row, col, n, more);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += more[i];
    }
    c.store_at(row, col, n, v);
  }
};

/// Of an output tile: finish(row, col, v) with 8 columns of the tile's row, col a multiple of 8.
template <typename Finish>
__device__ __forceinline__ void finish_block(const float* staged, int row, int column, const Finish& finish) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float v[kPack];
    const int r = half * 8 + lane / 4, c = lane % 4 * kPack;
    load(staged + r * kStagedStride + c, kPack, true, v);
    finish(row + r, column + c, v);
  }
}
/// Of a warp's 32 columns of an output tile, two packs of a row that are 16 columns apart:
/// finish(row, col, v, w).
template <typename Finish>
struct ApartBy16 {
  Finish finish;
};
template <typename Finish>
__device__ __forceinline__ void finish_block(const float* staged, int row, int column,
                                             const ApartBy16<Finish>& apart) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float v[kPack], w[kPack];
  const int r = lane / 2, c = lane % 2 * kPack;
  load(staged + r * kStagedStride + c, kPack, true, v);
  load(staged + r * kStagedStride + c + 16, kPack, true, w);
  apart.finish(row + r, column + c, v, w);
}

template <typename Shape, bool kAAlongK, bool kBAlongK>
constexpr std::size_t tile_bytes() {
  constexpr int kA = kAAlongK ? Shape::kRows * (Shape::kDepth + Shape::kChunk)
                              : Shape::kDepth * (Shape::kRows + Shape::kChunk);
  constexpr int kB = kBAlongK ? Shape::kColumns * (Shape::kDepth + Shape::kChunk)
                              : Shape::kDepth * (Shape::kColumns + Shape::kChunk);
  constexpr std::size_t kBytes = sizeof(typename Shape::Number) * Shape::kStages * (kA + kB);
  static_assert(kBytes <= kSharedBytesOfAll);
  return kBytes;
}

/// What a tile is of: rows first_row … of `rows`, and so on; k from k_begin to k_end, below 2^31.
struct TileOf {
  Index first_row, rows, first_column, columns, k_begin, k_end;
};

/// Of f32, k that are summed at once: a sum over a long k is one of short pieces. (Of bf16 all, as the
/// vendor's products do: its operands are 2^15 times coarser than the sum.)
inline constexpr int kPieceOfK = 512;

/// The whole block calls it, with tile_bytes() of shared memory; `finish` is called by whole warps, with rows
/// and columns of the tile that may be past the end.
template <typename Shape, bool kAAlongK, bool kBAlongK, typename SourceA, typename SourceB, typename Finish>
__device__ __forceinline__ void tile_product(const SourceA& of_a, const SourceB& of_b, const TileOf& tile,
                                             unsigned char* memory, const Finish& finish) {
  using T = typename Shape::Number;
  using A = OperandTile<Shape, Shape::kRows, kAAlongK, SourceA>;
  using B = OperandTile<Shape, Shape::kColumns, kBAlongK, SourceB>;
  constexpr int kAhead = Shape::kStages - 1;
  A a(of_a, tile.first_row, tile.rows, reinterpret_cast<T*>(memory));
  B b(of_b, tile.first_column, tile.columns, reinterpret_cast<T*>(memory) + Shape::kStages * A::kSize);
  const int k_begin = static_cast<int>(tile.k_begin), k_end = static_cast<int>(tile.k_end);
  const int steps = (k_end - k_begin + Shape::kDepth - 1) / Shape::kDepth;
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (i < steps) {
      a.fetch(i, k_begin + i * Shape::kDepth, k_end);
      b.fetch(i, k_begin + i * Shape::kDepth, k_end);
      a.deposit(i);
      b.deposit(i);
    }
    commit_copies();
  }
  WarpSums<Shape> sums{};
  [[maybe_unused]] WarpSums<Shape> piece{};
  int now = 0, next = kAhead;
  for (int step = 0; step < steps; ++step) {
    wait_copies<kAhead - 1>();
    __syncthreads();  // the copies of all threads; and nobody still reads the buffer that is filled next
    const int k = k_begin + (step + kAhead) * Shape::kDepth;
    const bool more = k < k_end;
    if (more) {
      a.fetch(next, k, k_end);
      b.fetch(next, k, k_end);
    }
    commit_copies();
    if constexpr (sizeof(T) == 2) {
      multiply<Shape, kAAlongK, kBAlongK>(a.buffer(now), b.buffer(now), sums);
    } else {
      multiply<Shape, kAAlongK, kBAlongK>(a.buffer(now), b.buffer(now), piece);
      if ((step + 1) % (kPieceOfK / Shape::kDepth) == 0 || step + 1 == steps) {
#pragma unroll
        for (int i = 0; i < Shape::kBlocks * 16; ++i) {
          (&sums.sum[0][0][0])[i] += (&piece.sum[0][0][0])[i];
          (&piece.sum[0][0][0])[i] = 0;
        }
      }
    }
    if (more) {
      a.deposit(next);
      b.deposit(next);
    }
    now = now + 1 == Shape::kStages ? 0 : now + 1;
    next = next + 1 == Shape::kStages ? 0 : next + 1;
  }
  wait_copies<0>();
  __syncthreads();  // the buffers are free: each warp hands itself its sums there, 8 columns a lane
  const int warp = static_cast<int>(threadIdx.x) / 32;
  float* staged = reinterpret_cast<float*>(memory) + warp * 16 * kStagedStride;
#pragma unroll
  for (int i = 0; i < Shape::kBlocks; ++i) {
    stage(sums, i, staged);
    __syncwarp();
    finish_block(staged, warp / Shape::kColumnWarps * 16 * Shape::kBlocks + 16 * i,
                 warp % Shape::kColumnWarps * 32, finish);
    __syncwarp();
  }
}

}  // namespace hone::kernels::cuda
