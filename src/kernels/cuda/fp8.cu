// Operands in blocks of FP8: rounded numbers in their own type, which holds them exactly, weights of experts
// as bytes, and both operands as the bytes that tensor cores take. A block of threads has a tile of 128 x
// 128: 16 threads a row of it, 8 numbers each, 16 rows at a time.
#include "kernels/cuda/fp8.h"

#include "kernels/cuda/experts.cuh"
#include "kernels/fp8.h"

namespace hone::kernels::cuda {
namespace {

using Scale = Fp8Scale<std::uint32_t>;
constexpr int kSide = static_cast<int>(kFp8Side), kRowThreads = kSide / kPack;
constexpr int kRowsAtOnce = kThreads / kRowThreads, kTurns = kSide / kRowsAtOnce;

/// Its e4m3 magnitude in units of the scale; of what is finite.
__device__ __forceinline__ float in_units(float v, const Scale& scale) {
  const float scaled = __uint_as_float(__float_as_uint(v) & 0x7fffffffU) * __uint_as_float(scale.inverse);
  const float rounder = __uint_as_float(fp8_rounder(__float_as_uint(scaled)));
  return scaled + rounder - rounder;
}
__device__ __forceinline__ bool is_finite(float v) {
  return (__float_as_uint(v) & 0x7fffffffU) < 0x7f800000U;
}
__device__ __forceinline__ float rounded(float v, const Scale& scale) {
  if (!is_finite(v)) return __uint_as_float(0x7fc00000U);
  const float magnitude = in_units(v, scale) * __uint_as_float(scale.scale);
  return __uint_as_float(__float_as_uint(magnitude) | (__float_as_uint(v) & 0x80000000U));
}
__device__ __forceinline__ unsigned code_of(float v, const Scale& scale) {
  const unsigned sign = __float_as_uint(v) >> 24 & 0x80U;
  if (!is_finite(v)) return sign | 0x7fU;
  const float units = in_units(v, scale);
  return sign | (units < 0x1p-6F ? static_cast<unsigned>(units * 512.0F)
                                 : (__float_as_uint(units) >> 20) - (120U << 3));
}
__device__ __forceinline__ std::uint32_t larger(std::uint32_t a, std::uint32_t b) {
  return a > b ? a : b;
}
__device__ __forceinline__ std::uint32_t largest_of(const float (&v)[kPack]) {
  std::uint32_t most = 0;
#pragma unroll
  for (int i = 0; i < kPack; ++i) most = larger(most, fp8_magnitude(__float_as_uint(v[i])));
  return most;
}
/// Of the 16 threads of a row, to all of them.
__device__ __forceinline__ std::uint32_t largest_of_row(std::uint32_t most) {
#pragma unroll
  for (int lanes = kRowThreads / 2; lanes > 0; lanes /= 2)
    most = larger(most, __shfl_xor_sync(0xffffffffU, most, lanes));
  return most;
}
/// Of the block, to all of its threads.
__device__ __forceinline__ std::uint32_t largest_of_block(std::uint32_t most) {
  HONE_SHARED(std::uint32_t, of_rows, [kRowsAtOnce]);
  most = largest_of_row(most);
  if (threadIdx.x % kRowThreads == 0) of_rows[threadIdx.x / kRowThreads] = most;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kRowsAtOnce; ++i) most = larger(most, of_rows[i]);
  return most;
}

/// Eight codes, the first in the lowest byte.
__device__ __forceinline__ void put_codes(const float (&v)[kPack], const Scale& scale, unsigned (&words)[2]) {
  words[0] = words[1] = 0;
#pragma unroll
  for (int i = 0; i < kPack; ++i) words[i / 4] |= code_of(v[i], scale) << i % 4 * 8;
}

/// Blocks: x a tile's columns, y its rows.
template <Fp8Blocks kBlocks, typename T>
__global__ void round_fp8_tiles(Rows<const T> from, Rows<T> to, Index rows, Index cols,
                                const std::int32_t* rows_there, int factor, bool vectors) {
  begin_kernel();
  if (rows_there != nullptr) rows = static_cast<Index>(*rows_there) * factor;
  const Index first = static_cast<Index>(blockIdx.y) * kSide;
  if (first >= rows) return;
  const int mine = static_cast<int>(threadIdx.x) / kRowThreads;
  const Index col = static_cast<Index>(blockIdx.x) * kSide + threadIdx.x % kRowThreads * kPack,
              n = cols - col;
  const auto each = [&](const auto& f) {
    for (int turn = 0; turn < kTurns; ++turn) {
      const Index row = first + mine + turn * kRowsAtOnce;
      float v[kPack] = {};
      if (row < rows && n > 0) load(from.at(row, col), n, vectors, v);
      f(row, v);
    }
  };
  const auto put_row = [&](Index row, float(&v)[kPack], const Scale& scale) {
    if (row >= rows || n <= 0) return;
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = rounded(v[i], scale);
    store(to.at(row, col), n, vectors, v);
  };
  if constexpr (kBlocks == Fp8Blocks::kAlongRows) {
    each([&](Index row, float(&v)[kPack]) { put_row(row, v, fp8_scale(largest_of_row(largest_of(v)))); });
  } else {
    std::uint32_t most = 0;
    each([&](Index, float(&v)[kPack]) { most = larger(most, largest_of(v)); });
    const Scale scale = fp8_scale(largest_of_block(most));
    each([&](Index row, float(&v)[kPack]) { put_row(row, v, scale); });
  }
}

/// Blocks: x a tile's columns, y its rows, counted over parts * experts matrices of `rows` rows.
template <typename T>
__global__ void encode_fp8_squares(const T* from, Index rows, Index cols, std::uint8_t* codes, float* scales,
                                   bool vectors) {
  begin_kernel();
  const Index tiles = ceil_div(rows, kSide), matrix = blockIdx.y / tiles, first = blockIdx.y % tiles * kSide;
  const Index col = static_cast<Index>(blockIdx.x) * kSide + threadIdx.x % kRowThreads * kPack,
              n = cols - col;
  const auto each = [&](const auto& f) {
    for (int turn = 0; turn < kTurns; ++turn) {
      const Index row = first + threadIdx.x / kRowThreads + turn * kRowsAtOnce;
      if (row >= rows || n <= 0) continue;
      float v[kPack];
      const Index at = (matrix * rows + row) * cols + col;
      load(from + at, n, vectors, v);
      f(at, v);
    }
  };
  std::uint32_t most = 0;
  each([&](Index, float(&v)[kPack]) { most = larger(most, largest_of(v)); });
  const Scale scale = fp8_scale(largest_of_block(most));
  if (threadIdx.x == 0)
    scales[static_cast<Index>(blockIdx.y) * gridDim.x + blockIdx.x] = __uint_as_float(scale.scale);
  each([&](Index at, float(&v)[kPack]) {
    unsigned words[2];
    put_codes(v, scale, words);
    if (n >= kPack && cols % kPack == 0) {
      *reinterpret_cast<uint2*>(codes + at) = make_uint2(words[0], words[1]);
      return;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (i < n) codes[at + i] = static_cast<std::uint8_t>(words[i / 4] >> i % 4 * 8);
  });
}

/// Blocks: x a block of k (those of a part, then the next part's), y a tile's rows. of_part: columns.
template <typename T>
__global__ void encode_fp8_row_blocks(Rows<const T> from, Index rows, Index of_part, int blocks_of_part,
                                      const std::int32_t* rows_there, Index scale_stride, std::uint8_t* codes,
                                      float* scales, bool vectors) {
  begin_kernel();
  if (rows_there != nullptr) rows = *rows_there;
  const int part = static_cast<int>(blockIdx.x) / blocks_of_part;
  const Index in_part =
      (static_cast<int>(blockIdx.x) % blocks_of_part * kSide) + threadIdx.x % kRowThreads * kPack;
  const Index n = of_part - in_part, depth = static_cast<Index>(gridDim.x) * kSide;
  for (int turn = 0; turn < kTurns; ++turn) {
    const Index row = static_cast<Index>(blockIdx.y) * kSide + threadIdx.x / kRowThreads + turn * kRowsAtOnce;
    float v[kPack] = {};
    if (row < rows && n > 0) load(from.at(row, part * of_part + in_part), n, vectors, v);
    const Scale scale = fp8_scale(largest_of_row(largest_of(v)));
    if (row >= rows) continue;
    unsigned words[2];
    put_codes(v, scale, words);
    *reinterpret_cast<uint2*>(codes + row * depth + static_cast<Index>(blockIdx.x) * kSide +
                              threadIdx.x % kRowThreads * kPack) = make_uint2(words[0], words[1]);
    if (threadIdx.x % kRowThreads == 0)
      scales[blockIdx.x * scale_stride + row] = __uint_as_float(scale.scale);
  }
}

// Codes of a tile by its columns, four rows a word; a column's words are 33 apart, so that threads that write
// a column each and those that read one do not wait for a bank too long.
constexpr int kColumnWords = kSide / 4 + 1;

/// Writes the columns from first on, of which there are `lines`, each to its line's 128 bytes.
__device__ __forceinline__ void put_columns(const unsigned* columns, std::uint8_t* to, Index depth,
                                            Index first, Index lines) {
  const int word = static_cast<int>(threadIdx.x) % 32;
  for (int c = static_cast<int>(threadIdx.x) / 32; c < kSide; c += kThreads / 32) {
    if (first + c >= lines) return;
    *reinterpret_cast<unsigned*>(to + (first + c) * depth + word * 4) = columns[c * kColumnWords + word];
  }
}

/// Where the codes of a square go: as Fp8Lines.
struct LinesTo {
  std::uint8_t* codes;
  Index lines, depth;
  int parts;
};

/// A thread has four rows that follow one another, twice, and eight columns, of which it makes words along
/// either. Blocks: x a tile's columns, y its rows, counted over matrices * parts of `rows` rows.
template <Fp8Order kOrder, typename T>
__global__ void encode_fp8_line_squares(Rows<const T> from, Index rows, Index cols, LinesTo to, float* scales,
                                        bool vectors) {
  begin_kernel();
  const Index tiles = ceil_div(rows, kSide), of_all = blockIdx.y / tiles, tile = blockIdx.y % tiles;
  const Index matrix = of_all / to.parts, part = of_all % to.parts;
  const int first_row = static_cast<int>(threadIdx.x) / kRowThreads * 4,
            in_tile = static_cast<int>(threadIdx.x) % kRowThreads * kPack;
  const Index col = static_cast<Index>(blockIdx.x) * kSide + in_tile, n = cols - col;
  const auto at = [&](int half, int i) { return tile * kSide + half * (kSide / 2) + first_row + i; };
  const auto load_row = [&](Index row, float(&v)[kPack]) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = 0;
    if (row < rows && n > 0) load(from.at(of_all * rows + row, col), n, vectors, v);
  };
  float v[kPack];
  std::uint32_t most = 0;
  for (int i = 0; i < 8; ++i) {
    load_row(at(i / 4, i % 4), v);
    most = larger(most, largest_of(v));
  }
  const Scale scale = fp8_scale(largest_of_block(most));
  if (threadIdx.x == 0)
    scales[static_cast<Index>(blockIdx.y) * gridDim.x + blockIdx.x] = __uint_as_float(scale.scale);
  std::uint8_t* codes = to.codes + matrix * to.lines * to.depth;
  if constexpr (kOrder == Fp8Order::kColumns) {
    HONE_SHARED(unsigned, columns, [kSide * kColumnWords]);
    for (int half = 0; half < 2; ++half) {
      unsigned down[kPack] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        load_row(at(half, i), v);
#pragma unroll
        for (int c = 0; c < kPack; ++c) down[c] |= code_of(v[c], scale) << i * 8;
      }
#pragma unroll
      for (int c = 0; c < kPack; ++c)
        columns[(in_tile + c) * kColumnWords + (half * (kSide / 2) + first_row) / 4] = down[c];
    }
    __syncthreads();
    put_columns(columns, codes + (part * tiles + tile) * kSide, to.depth,
                static_cast<Index>(blockIdx.x) * kSide, to.lines);
  } else {
    constexpr bool kPairs = kOrder == Fp8Order::kPairs;
    for (int i = 0; i < 8; ++i) {
      const Index row = at(i / 4, i % 4);
      const Index line = kPairs ? row / 16 * 32 + part * 16 + row % 16 : part * rows + row;
      if (kPairs ? line >= to.lines : row >= rows) return;
      load_row(row, v);
      unsigned words[2];
      put_codes(v, scale, words);
      *reinterpret_cast<uint2*>(codes + line * to.depth + col) = make_uint2(words[0], words[1]);
    }
  }
}

Index copy_stride(const Matrix& m) {
  return ceil_div(m.cols, kPack) * kPack;
}
std::int64_t up_to_256(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}
/// The codes of a weight; its scales follow.
std::int64_t code_bytes(std::int64_t experts, std::int64_t parts, std::int64_t rows, std::int64_t k) {
  return up_to_256(experts * parts * rows * k);
}

}  // namespace

std::int64_t fp8_copy_bytes(const Matrix& m) {
  return up_to_256(m.rows * copy_stride(m) * static_cast<std::int64_t>(size_of(m.dtype)));
}

Matrix fp8_copy_at(const Matrix& m, void* memory) {
  return {memory, m.dtype, m.rows, m.cols, copy_stride(m)};
}

void round_fp8(const Matrix& from, const Matrix& to, Fp8Blocks blocks, Stream& stream,
               const std::int32_t* rows_there, int factor) {
  if (from.rows == 0 || from.cols == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(from.cols, kSide)),
                  static_cast<unsigned>(ceil_div(from.rows, kSide)));
  const bool vectors = has_vectors(from) && has_vectors(to);
  with_dtype(from.dtype, [&](auto type) {
    using T = TypeOf<decltype(type)>;
    const auto go = [&](auto kind) {
      HONE_LAUNCH((round_fp8_tiles<decltype(kind)::value, T>), grid, kThreads, 0, cuda_stream(stream),
                  rows_of<const T>(from), rows_of<T>(to), from.rows, from.cols, rows_there, factor, vectors);
    };
    switch (blocks) {
      case Fp8Blocks::kAlongRows:
        return go(std::integral_constant<Fp8Blocks, Fp8Blocks::kAlongRows>{});
      case Fp8Blocks::kSquares:
        return go(std::integral_constant<Fp8Blocks, Fp8Blocks::kSquares>{});
    }
  });
}

std::int64_t fp8_weight_bytes(std::int64_t experts, std::int64_t parts, std::int64_t rows, std::int64_t k) {
  return code_bytes(experts, parts, rows, k) +
         up_to_256(experts * parts * ceil_div(rows, kSide) * ceil_div(k, kSide) * Index{sizeof(float)});
}

ExpertWeight encode_fp8_weight(const ExpertWeight& weight, DType dtype, std::int64_t experts,
                               std::int64_t parts, std::int64_t rows, std::int64_t k, void* memory,
                               Stream& stream) {
  auto* codes = static_cast<std::uint8_t*>(memory);
  auto* scales = reinterpret_cast<float*>(codes + code_bytes(experts, parts, rows, k));
  const ExpertWeight encoded{codes, scales, WeightKind::kFp8Block};
  const Index matrices = experts * parts;
  if (matrices == 0 || rows == 0 || k == 0) return encoded;
  const dim3 grid(static_cast<unsigned>(ceil_div(k, kSide)),
                  static_cast<unsigned>(matrices * ceil_div(rows, kSide)));
  with_dtype(dtype, [&](auto type) {
    using T = TypeOf<decltype(type)>;
    const bool vectors = is_aligned(weight.data) && k * Index{sizeof(T)} % 16 == 0;
    HONE_LAUNCH((encode_fp8_squares<T>), grid, kThreads, 0, cuda_stream(stream),
                static_cast<const T*>(weight.data), rows, k, codes, scales, vectors);
  });
  return encoded;
}

// --- As bytes, for the tensor cores

namespace {

Index blocks_of(Index cols) {
  return ceil_div(cols, kSide);
}
/// Lines and depth of matrices in an order.
std::pair<Index, Index> lines_of(Index parts, Index rows, Index cols, Fp8Order order) {
  if (order == Fp8Order::kColumns) return {cols, parts * blocks_of(rows) * kSide};
  return {order == Fp8Order::kPairs ? ceil_div(rows, 16) * 32 : parts * rows, blocks_of(cols) * kSide};
}

}  // namespace

std::int64_t fp8_rows_bytes(std::int64_t rows, std::int64_t cols, std::int64_t parts) {
  const Index blocks = parts * blocks_of(cols / parts);
  return up_to_256(rows * blocks * kSide) + up_to_256(rows * blocks * Index{sizeof(float)});
}

Fp8Rows encode_fp8_rows(const Matrix& from, std::int64_t parts, void* memory, Stream& stream,
                        const std::int32_t* rows_there) {
  const Index of_part = from.cols / parts, blocks = parts * blocks_of(of_part);
  auto* codes = static_cast<std::uint8_t*>(memory);
  auto* scales = reinterpret_cast<float*>(codes + up_to_256(from.rows * blocks * kSide));
  const Fp8Rows encoded{codes, scales, from.rows, blocks * kSide};
  if (from.rows == 0 || blocks == 0) return encoded;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(ceil_div(from.rows, kSide)));
  with_dtype(from.dtype, [&](auto type) {
    using T = TypeOf<decltype(type)>;
    const bool vectors = has_vectors(from) && of_part * Index{sizeof(T)} % 16 == 0;
    HONE_LAUNCH((encode_fp8_row_blocks<T>), grid, kThreads, 0, cuda_stream(stream), rows_of<const T>(from),
                from.rows, of_part, static_cast<int>(blocks_of(of_part)), rows_there, from.rows, codes,
                scales, vectors);
  });
  return encoded;
}

std::int64_t fp8_lines_bytes(std::int64_t matrices, std::int64_t parts, std::int64_t rows, std::int64_t cols,
                             Fp8Order order) {
  const auto [lines, depth] = lines_of(parts, rows, cols, order);
  return up_to_256(matrices * lines * depth) +
         up_to_256(matrices * parts * blocks_of(rows) * blocks_of(cols) * Index{sizeof(float)});
}

Fp8Lines encode_fp8_lines(const void* weight, DType dtype, std::int64_t stride, std::int64_t matrices,
                          std::int64_t parts, std::int64_t rows, std::int64_t cols, Fp8Order order,
                          void* memory, Stream& stream) {
  const auto [lines, depth] = lines_of(parts, rows, cols, order);
  const Index down = blocks_of(rows), across = blocks_of(cols);
  auto* codes = static_cast<std::uint8_t*>(memory);
  auto* scales = reinterpret_cast<float*>(codes + up_to_256(matrices * lines * depth));
  Fp8Lines encoded{codes, scales, lines, depth, order, parts * down * across, across, 1, down * across};
  if (order == Fp8Order::kColumns) encoded.of_line = 1, encoded.of_block = across;
  if (matrices == 0 || rows == 0 || cols == 0) return encoded;
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(matrices * parts * down));
  with_dtype(dtype, [&](auto type) {
    using T = TypeOf<decltype(type)>;
    const bool vectors = is_aligned(weight) && stride * Index{sizeof(T)} % 16 == 0;
    const auto go = [&](auto kind) {
      HONE_LAUNCH((encode_fp8_line_squares<decltype(kind)::value, T>), grid, kThreads, 0, cuda_stream(stream),
                  Rows<const T>{static_cast<const T*>(weight), stride}, rows, cols,
                  LinesTo{codes, lines, depth, static_cast<int>(parts)}, scales, vectors);
    };
    switch (order) {
      case Fp8Order::kRows:
        return go(std::integral_constant<Fp8Order, Fp8Order::kRows>{});
      case Fp8Order::kPairs:
        return go(std::integral_constant<Fp8Order, Fp8Order::kPairs>{});
      case Fp8Order::kColumns:
        return go(std::integral_constant<Fp8Order, Fp8Order::kColumns>{});
    }
  });
  return encoded;
}

}  // namespace hone::kernels::cuda
