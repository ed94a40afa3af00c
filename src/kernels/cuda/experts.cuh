// What the experts' products share: their weights as operands, and which rows are whose.
//
// Rows are those of the plan, in expert order; how many each expert has is known on the card alone. A grid
// has blocks for as many tiles of rows as there can be, and those past the last return at once.
#pragma once

#include "kernels/cuda/cuts.h"
#include "kernels/cuda/gemm.cuh"

namespace hone::kernels::cuda {

/// Numbers of an expert's weight that are decoded on their way to shared memory. Its line i is row i of
/// (parts * rows, k), or where `pairs` the interleaved columns of a gated tile: of every 32 lines 16 are the
/// gate's and 16 the up's of the same ffn columns.
struct WeightShape {
  Index parts, rows, k;
  bool pairs;
  __host__ __device__ __forceinline__ Index lines() const {
    return pairs ? ceil_div(rows, 16) * 32 : parts * rows;
  }
  /// -1: none.
  __device__ __forceinline__ Index row(Index line) const {
    if (!pairs) return line;
    const Index j = line / 32 * 16 + line % 16;
    return j < rows ? line % 32 / 16 * rows + j : -1;
  }
};

template <typename T, WeightKind kKind, bool kVectors>
struct WeightLines {  // kDense
  using Line = const T*;
  using Raw = typename DenseLines<T, kVectors>::Raw;

  DenseLines<T, kVectors> dense;
  WeightShape shape;

  WeightLines(const ExpertWeight& w, const WeightShape& s)
      : dense{static_cast<const T*>(w.data), s.k}, shape(s) {}
  __device__ __forceinline__ void begin_expert(Index e) {
    dense.data += e * shape.parts * shape.rows * shape.k;
  }
  __device__ __forceinline__ Line line(Index i) const {
    const Index row = shape.row(i);
    return row < 0 ? nullptr : dense.line(row);
  }
  __device__ __forceinline__ static bool given(Line line) { return line != nullptr; }
  __device__ __forceinline__ void fetch(Line line, Index col, Index n, T* to, Raw& raw) const {
    dense.fetch(line, col, n, to, raw);
  }
  __device__ __forceinline__ void deposit(T* to, const Raw& raw) const { dense.deposit(to, raw); }
};

/// Sign, two bits of exponent, one of mantissa (OCP Microscaling 1.0, 5.3.3).
__device__ __forceinline__ float decode_e2m1(unsigned bits) {
  return __uint_as_float((bits & 8U) << 28 | (bits & 7U) << 22) * 0x1p126F;
}
/// 2^(byte - 127); 255 is not a number (5.4.1).
__device__ __forceinline__ float decode_e8m0(unsigned byte) {
  return __uint_as_float(byte == 255 ? 0x7fffffffU : byte == 0 ? 0x00400000U : byte << 23);
}
/// Sign, four bits of exponent, three of mantissa; all ones is not a number (OCP FP8 1.0, E4M3).
__device__ __forceinline__ float decode_e4m3(unsigned bits) {
  if ((bits & 0x7fU) == 0x7fU) return __uint_as_float(0x7fffffffU);
  return __uint_as_float((bits & 0x80U) << 24 | (bits & 0x7fU) << 20) * 0x1p120F;
}

struct QuantisedLine {
  const std::uint8_t* data = nullptr;
  const std::uint8_t* scales = nullptr;
};
struct QuantisedRaw {
  unsigned bytes[2];
  float scale;
};
template <typename T, WeightKind kKind>
struct QuantisedLines {
  using Line = QuantisedLine;
  using Raw = QuantisedRaw;
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(T));
  static constexpr bool kFp4 = kKind == WeightKind::kMxfp4;
  static constexpr int kBytes = kFp4 ? kChunk / 2 : kChunk;  // of a chunk

  const std::uint8_t *data, *scales;
  WeightShape shape;
  bool vectors;  // a chunk's bytes lie at a multiple of kBytes

  QuantisedLines(const ExpertWeight& w, const WeightShape& s)
      : data(static_cast<const std::uint8_t*>(w.data)),
        scales(static_cast<const std::uint8_t*>(w.scales)),
        shape(s),
        vectors(reinterpret_cast<std::uintptr_t>(w.data) % kBytes == 0 && row_bytes() % kBytes == 0) {}
  __host__ __device__ __forceinline__ Index row_bytes() const { return kFp4 ? shape.k / 2 : shape.k; }
  __device__ __forceinline__ void begin_expert(Index e) {
    const Index rows = shape.parts * shape.rows;
    data += e * rows * row_bytes();
    scales += kFp4 ? e * rows * (shape.k / 32)
                   : e * shape.parts * ceil_div(shape.rows, 128) * ceil_div(shape.k, 128) * Index{4};
  }
  __device__ __forceinline__ Line line(Index i) const {
    const Index row = shape.row(i);
    if (row < 0) return {};
    if constexpr (kFp4) return {data + row * row_bytes(), scales + row * (shape.k / 32)};
    const Index block = row / shape.rows * ceil_div(shape.rows, 128) + row % shape.rows / 128;
    return {data + row * row_bytes(), scales + block * ceil_div(shape.k, 128) * 4};
  }
  __device__ __forceinline__ static bool given(const Line& line) { return line.data != nullptr; }
  __device__ __forceinline__ void fetch(const Line& line, Index col, Index n, T*, Raw& raw) const {
    raw.bytes[0] = raw.bytes[1] = 0;
    raw.scale = 0;
    if (n <= 0) return;
    const std::uint8_t* from = line.data + (kFp4 ? col / 2 : col);
    if constexpr (kFp4)
      raw.scale = decode_e8m0(line.scales[col / 32]);
    else
      raw.scale = reinterpret_cast<const float*>(line.scales)[col / 128];
    if (vectors && n >= kChunk) {
      if constexpr (kBytes == 8) {
        const uint2 two = *reinterpret_cast<const uint2*>(from);
        raw.bytes[0] = two.x, raw.bytes[1] = two.y;
      } else if constexpr (kBytes == 4) {
        raw.bytes[0] = *reinterpret_cast<const unsigned*>(from);
      } else {
        raw.bytes[0] = *reinterpret_cast<const unsigned short*>(from);
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kBytes; ++i)
      if (i * kChunk / kBytes < n) raw.bytes[i / 4] |= static_cast<unsigned>(from[i]) << i % 4 * 8;
  }
  __device__ __forceinline__ void deposit(T* to, const Raw& raw) const {
    float v[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i)
      if constexpr (kFp4)
        v[i] = decode_e2m1(raw.bytes[0] >> 4 * i & 15U) * raw.scale;
      else
        v[i] = decode_e4m3(raw.bytes[i / 4] >> i % 4 * 8 & 255U) * raw.scale;
    *reinterpret_cast<uint4*>(to) = chunk_of<T>(v).words;
  }
};
template <typename T, bool kVectors>
struct WeightLines<T, WeightKind::kMxfp4, kVectors> : QuantisedLines<T, WeightKind::kMxfp4> {
  using QuantisedLines<T, WeightKind::kMxfp4>::QuantisedLines;
};
template <typename T, bool kVectors>
struct WeightLines<T, WeightKind::kFp8Block, kVectors> : QuantisedLines<T, WeightKind::kFp8Block> {
  using QuantisedLines<T, WeightKind::kFp8Block>::QuantisedLines;
};

/// Rows first … end - 1 of the plan, at most a tile's, all of one expert; expert -1: there is no such tile.
struct ExpertRows {
  int expert, first, end;
};
/// Tile `tile` of kRows rows, counted over the experts in their order. The whole block calls it.
template <int kRows>
__device__ __forceinline__ ExpertRows rows_of_tile(const std::int32_t* offsets, int experts, int tile) {
  HONE_SHARED(int, found, [3]);
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    int before = 0;  // tiles of the experts before this 32
    if (lane < 3) found[lane] = -1;
    __syncwarp();
    for (int e = 0; e < experts; e += 32) {
      const int expert = e + lane;
      const int begin = expert < experts ? offsets[expert] : 0;
      const int count = expert < experts ? offsets[expert + 1] - begin : 0;
      const int tiles = (count + kRows - 1) / kRows;
      int through = tiles;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffU, through, static_cast<unsigned>(step));
        if (lane >= step) through += other;
      }
      const int mine = tile - before - (through - tiles);  // which of this expert's tiles it would be
      if (mine >= 0 && mine < tiles) {
        found[0] = expert;
        found[1] = begin + mine * kRows;
        found[2] = begin + count;
      }
      before += __shfl_sync(0xffffffffU, through, 31);
      if (tile < before) break;
    }
  }
  __syncthreads();
  return {found[0], found[1], found[2]};
}

/// What a product of rows by their experts' weights is of.
struct RowProduct {
  const std::int32_t* offsets;
  int experts;
  Index capacity;  // rows that there may be
  Index k, columns;
};

/// a's rows (of the plan, or what they are gathered from) by the weight of each row's expert; block x has a
/// tile's columns, y its rows. finish.of(expert, first row, end, first column) gives what tile_product calls.
template <typename Shape, bool kBAlongK, bool kVectors, typename B, typename Finish>
__global__ void __launch_bounds__(Shape::kTileThreads)
    expert_row_tiles(DenseLines<typename Shape::Number, kVectors> a, B weight, RowProduct p, Finish finish) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  const ExpertRows rows = rows_of_tile<Shape::kRows>(p.offsets, p.experts, static_cast<int>(blockIdx.y));
  if (rows.expert < 0) return;
  weight.begin_expert(rows.expert);
  const Index column = static_cast<Index>(blockIdx.x) * Shape::kColumns;
  tile_product<Shape, true, kBAlongK>(a, weight, TileOf{rows.first, rows.end, column, p.columns, 0, p.k},
                                      memory, finish.of(rows, column));
}

/// Puts the product into the stream. a: row i of the plan is row index[i] / divisor of it where there is an
/// index. kBAlongK: the weight's lines are columns of the product, else its k.
template <typename T, bool kBAlongK, typename Finish>
void launch_row_product(const Matrix& a, const std::int32_t* index, int divisor, const ExpertWeight& weight,
                        const WeightShape& shape, const RowProduct& p, const Finish& finish,
                        cudaStream_t stream) {
  if (p.capacity == 0 || p.columns == 0) return;
  const auto go = [&](auto tile, auto kind, auto has) {
    using Shape = TypeOf<decltype(tile)>;
    constexpr bool kVectors = decltype(has)::value;
    using B = WeightLines<T, decltype(kind)::value, kVectors>;
    // each expert may have one tile that is not full
    const Index full = p.capacity / Shape::kRows, ragged = p.capacity < p.experts ? p.capacity : p.experts;
    const dim3 grid(static_cast<unsigned>(ceil_div(p.columns, Shape::kColumns)),
                    static_cast<unsigned>(full + ragged));
    const DenseLines<T, kVectors> rows{static_cast<const T*>(a.data), a.stride, index, divisor};
    HONE_LAUNCH((expert_row_tiles<Shape, kBAlongK, kVectors, B, Finish>), grid, Shape::kTileThreads,
                (tile_bytes<Shape, true, kBAlongK>()), stream, rows, B(weight, shape), p, finish);
  };
  const auto with_kind = [&](auto kind) {
    constexpr bool kDense = decltype(kind)::value == WeightKind::kDense;
    const bool vectors =
        has_vectors(a) && (!kDense || (is_aligned(weight.data) && shape.k * Index{sizeof(T)} % 16 == 0));
    if (!vectors) return go(Type<SmallTile<T>>{}, kind, std::false_type{});
    if constexpr (sizeof(T) == 2)
      if (takes_large_tiles(p.capacity, p.experts, p.columns))
        return go(Type<LargeTile>{}, kind, std::true_type{});
    go(Type<SmallTile<T>>{}, kind, std::true_type{});
  };
  switch (weight.kind) {
    case WeightKind::kDense:
      return with_kind(std::integral_constant<WeightKind, WeightKind::kDense>{});
    case WeightKind::kMxfp4:
      return with_kind(std::integral_constant<WeightKind, WeightKind::kMxfp4>{});
    case WeightKind::kFp8Block:
      return with_kind(std::integral_constant<WeightKind, WeightKind::kFp8Block>{});
  }
}

/// Of each row of a product: out = v [+ its expert's bias].
template <typename T>
struct StoreRows {
  const T* bias;  // (experts, columns)
  T* out;         // (capacity, columns)
  Index columns;
  bool vectors;

  __device__ __forceinline__ auto of(const ExpertRows& rows, Index first_column) const {
    return [*this, rows, first_column](int r, int c, float(&v)[kPack]) {
      const Index row = rows.first + r, col = first_column + c, n = columns - col;
      if (row >= rows.end || n <= 0) return;
      if (bias != nullptr) {
        float more[kPack];
        load(bias + rows.expert * columns + col, n, vectors, more);
#pragma unroll
        for (int i = 0; i < kPack; ++i) v[i] += more[i];
      }
      store(out + row * columns + col, n, vectors, v);
    };
  }
};

/// y = [y +] [residual +] the sum over a token's slots, in their order, of [weight *] its row. A thread has a
/// pack of a token.
template <typename T, typename Y>
__global__ void combine_slots(const T* rows, const std::int32_t* inverse, const float* weights,
                              Rows<const float> residual, Rows<Y> y, Index tokens, Index columns, int top_k,
                              bool accumulate, bool vectors) {
  begin_kernel();
  const Index packs = ceil_div(columns, kPack);
  const Index thread = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  const Index token = thread / packs, col = thread % packs * kPack, n = columns - col;
  if (token >= tokens) return;
  float sum[kPack] = {}, v[kPack];
  for (int slot = 0; slot < top_k; ++slot) {
    const Index row = inverse[token * top_k + slot];
    if (row < 0) continue;
    const float weight = weights != nullptr ? weights[token * top_k + slot] : 1.0F;
    load(rows + row * columns + col, n, vectors, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] = fmaf(weight, v[i], sum[i]);
  }
  if (residual.data != nullptr) {
    load(residual.at(token, col), n, vectors, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += v[i];
  }
  if (accumulate) {
    load(y.at(token, col), n, vectors, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += v[i];
  }
  store(y.at(token, col), n, vectors, sum);
}

/// Puts it into the stream; weights null: each counts 1.
template <typename T>
void launch_combine(const T* rows, const ExpertsArgs& a, const float* weights, const Matrix& residual,
                    const Matrix& y, bool accumulate, cudaStream_t stream) {
  if (y.rows == 0 || y.cols == 0) return;
  const bool vectors =
      is_aligned(rows) && y.cols * Index{sizeof(T)} % 16 == 0 && has_vectors(residual) && has_vectors(y);
  with_dtype(y.dtype, [&](auto type) {
    using Y = TypeOf<decltype(type)>;
    HONE_LAUNCH((combine_slots<T, Y>), blocks_for(y.rows * ceil_div(y.cols, kPack)), kThreads, 0, stream,
                rows, a.inverse, weights, rows_of<const float>(residual), rows_of<Y>(y), y.rows, y.cols,
                static_cast<int>(a.top_k), accumulate, vectors);
  });
}

/// Pieces of one scratch block, 256 bytes aligned.
struct Pieces {
  std::int64_t bytes = 0;
  std::int64_t take(std::int64_t size) {
    const std::int64_t at = bytes;
    bytes += (size + 255) / 256 * 256;
    return at;
  }
};

}  // namespace hone::kernels::cuda
