// A product of rows by weights, both as e4m3 in blocks, on compute capability 9.0: by the tensor cores for
// FP8, of experts or of one dense matrix.
//
// Cut, fetched and finished as in expert_rows_hopper.cuh: a weight's lines are wgmma's 64 rows, tokens its
// columns. A buffer is 128 of k, which are 128 bytes, a row of the swizzle, and a block of scales. Such a
// block's sum, of four instructions, is taken out, scaled and added to a sum in f32: the tensor cores keep 14
// bits of theirs (wgmma.cuh), and scales change from block to block. Scales are powers of two, so nothing is
// rounded but by the two sums. Each thread has a sum twice, which leaves room for 128 tokens a tile; while
// one warpgroup adds up, the other multiplies. Both operands lie along k, for wgmma takes no others of e4m3:
// of a product by a weight's transpose (dx = dy w) the transpose is coded (fp8.h).
#pragma once

#include <algorithm>
#include <span>

#include "kernels/cuda/expert_rows_hopper.cuh"
#include "kernels/cuda/fp8.h"
#include "kernels/fp8.h"

namespace hone::kernels::cuda {

struct E4m3Rows {
  static constexpr int kThreads = 384, kMultiplying = 256, kFetching = 128;
  static constexpr int kTokens = HopperCut::kFp8Tokens, kLines = HopperCut::kLines;
  static constexpr int kDepth = HopperCut::kFp8Depth, kRowBytes = kDepth, kSlabBytes = 64 * kRowBytes;
  static constexpr int kStages = 6;
  static constexpr int kWeightBytes = kLines * kRowBytes, kTokenBytes = kTokens * kRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  static constexpr int kScaleBytes = kTokens * 4;
  static constexpr int kScalesAt = kStages * kStageBytes, kStagedAt = kScalesAt + kStages * kScaleBytes;
  static constexpr int kBarriersAt = kStagedAt + 2 * HopperRows::kStagedBytes;
  static constexpr int kTilesAt = kBarriersAt + 2 * kStages * 8;
  static constexpr int kSharedBytes = kTilesAt + (HopperCut::kMostExperts + 1) * 4;
  static_assert(kSharedBytes <= 227 << 10);
  static_assert(kTokens == kFetching, "each fetching thread has the scale of a token");
};

/// Row i of the product is row index[i] / divisor of them where there is an index.
struct E4m3Tokens {
  Fp8Rows rows;
  const std::int32_t* index;
  int divisor;
};

#if HONE_HOPPER

__device__ __forceinline__ float2 times(const float2& v, float scale) {
  return make_float2(v.x * scale, v.y * scale);
}

/// into (64, kColumns) of a warpgroup = its lines by the tile's tokens. scales_of_lines: of the first block
/// of k, the next one's of_block further.
template <int kColumns, bool kGather>
__device__ __forceinline__ void multiply_e4m3(float* into, unsigned char* memory, std::uint64_t* full,
                                              std::uint64_t* empty, int group, int blocks,
                                              const float* scales_of_lines, Index of_block,
                                              BufferStage<E4m3Rows::kStages>& stage) {
  using Cut = E4m3Rows;
  float sums[kColumns / 2];
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) into[i] = 0;
#pragma unroll 1
  for (int block = 0; block < blocks; ++block) {
    const float of_lines = scales_of_lines[block * of_block];
    wait_for(full + stage.at, stage.phase);
    if constexpr (kGather) fence_for_async();
    unsigned char* at = memory + stage.at * Cut::kStageBytes;
    const std::uint64_t lines = descriptor_of(at + group * Cut::kSlabBytes, 16, 1024);
    const std::uint64_t tokens = descriptor_of(at + Cut::kWeightBytes, 16, 1024);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) WgmmaE4m3<kColumns>::multiply(sums, lines + k * 2, tokens + k * 2, k != 0);
    wgmma_commit();
    const float* scales = reinterpret_cast<const float*>(memory + Cut::kScalesAt) + stage.at * Cut::kTokens +
                          threadIdx.x % 4 * 2;
    float2 of_both[kColumns / 8];
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j)
      of_both[j] = times(*reinterpret_cast<const float2*>(scales + 8 * j), of_lines);
    wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) keep_after_wait(sums[i]);
    __syncwarp();  // all of the warp have read their scales
    if (threadIdx.x % 32 == 0) arrive(empty + stage.at);
    stage.advance();
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      into[4 * j] = fmaf(sums[4 * j], of_both[j].x, into[4 * j]);
      into[4 * j + 1] = fmaf(sums[4 * j + 1], of_both[j].y, into[4 * j + 1]);
      into[4 * j + 2] = fmaf(sums[4 * j + 2], of_both[j].x, into[4 * j + 2]);
      into[4 * j + 3] = fmaf(sums[4 * j + 3], of_both[j].y, into[4 * j + 3]);
    }
  }
}

#endif

/// finish as in expert_row_tiles. Grid: at most one block a multiprocessor.
template <bool kGather, typename Finish>
__global__ void __launch_bounds__(E4m3Rows::kThreads, 1)
    row_product_e4m3(const __grid_constant__ CUtensorMap of_lines,
                     const __grid_constant__ CUtensorMap of_rows, Fp8Lines lines, E4m3Tokens tokens,
                     RowProduct p, Finish finish) {
#if HONE_HOPPER
  using Cut = E4m3Rows;
  HONE_SWIZZLED_SHARED(memory);
  auto* full = reinterpret_cast<std::uint64_t*>(memory + Cut::kBarriersAt);
  std::uint64_t* empty = full + Cut::kStages;
  let_next_kernel_in();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Cut::kStages; ++i) {
      init_mbarrier(full + i, Cut::kFetching + 1);
      init_mbarrier(empty + i, Cut::kMultiplying / 32);
    }
    fence_mbarriers();
  }
  wait_for_kernels_before();
  HopperTiles<Cut> tiles(p, reinterpret_cast<int*>(memory + Cut::kTilesAt));
  __syncthreads();
  const int count = tiles.count(), step = static_cast<int>(gridDim.x);
  const int blocks = static_cast<int>(lines.depth) / Cut::kDepth;
  BufferStage<Cut::kStages> stage;
  if (threadIdx.x >= Cut::kMultiplying) {
    give_registers<72>();  // and 216 for 256 threads are what 168 for 384 are
    const int thread = static_cast<int>(threadIdx.x) - Cut::kMultiplying;
    constexpr int kRowsAtOnce = Cut::kFetching / 8, kBox = 32;
    const int chunk = thread % 8, row = thread / 8;
    for (int i = static_cast<int>(blockIdx.x); i < count; i += step) {
      const HopperTile tile = tiles.tile(i);
      const int rows = tile.rows.end - tile.rows.first, padded = (rows + 15) / 16 * 16;
      const auto source = [&](int token) {  // past the end the last row once more: those sums are not used
        const int at = tile.rows.first + min(token, rows - 1);
        return static_cast<Index>(kGather ? tokens.index[at] / tokens.divisor : at);
      };
      const float* scale = tokens.rows.scales + source(thread);
      [[maybe_unused]] Index from[Cut::kTokens / kRowsAtOnce];
      if constexpr (kGather) {
#pragma unroll
        for (int j = 0; j < Cut::kTokens / kRowsAtOnce; ++j)
          from[j] = source(j * kRowsAtOnce + row) * tokens.rows.depth + chunk * 16;
      }
#pragma unroll 1
      for (int block = 0; block < blocks; ++block) {
        wait_for(empty + stage.at, stage.phase ^ 1);
        unsigned char* at = memory + stage.at * Cut::kStageBytes;
        if (thread == 0) {
          const int boxes = kGather ? 0 : (rows + kBox - 1) / kBox;
          arrive_expecting(full + stage.at, Cut::kWeightBytes + boxes * kBox * Cut::kRowBytes);
          load_box(at, of_lines, full + stage.at, block * Cut::kDepth, tile.line, tile.rows.expert);
#pragma unroll 1
          for (int j = 0; j < boxes; ++j)
            load_box(at + Cut::kWeightBytes + j * kBox * Cut::kRowBytes, of_rows, full + stage.at,
                     block * Cut::kDepth, tile.rows.first + j * kBox);
        }
        __syncwarp();
        if constexpr (kGather) {
          unsigned char* to = at + Cut::kWeightBytes + row * Cut::kRowBytes + (chunk ^ row % 8) * 16;
#pragma unroll
          for (int j = 0; j < Cut::kTokens / kRowsAtOnce; ++j)
            if (j * kRowsAtOnce < padded)
              copy_async_16(to + j * kRowsAtOnce * Cut::kRowBytes,
                            tokens.rows.codes + from[j] + block * Cut::kDepth);
        }
        if (thread < padded)
          copy_async_4(memory + Cut::kScalesAt + stage.at * Cut::kScaleBytes + thread * 4,
                       scale + block * tokens.rows.rows);
        arrive_after_copies(full + stage.at);
        stage.advance();
      }
    }
  } else {
    take_registers<216>();
    const int group = static_cast<int>(threadIdx.x) / 128;
    float* staged = reinterpret_cast<float*>(memory + Cut::kStagedAt + group * HopperRows::kStagedBytes);
    float sums[Cut::kTokens / 2];
#pragma unroll 1
    for (int i = static_cast<int>(blockIdx.x); i < count; i += step) {
      const HopperTile tile = tiles.tile(i);
      const int rows = tile.rows.end - tile.rows.first;
      // Of a tile of pairs, 64 lines of each part: sixteen lines, a warp's, are of one part.
      const bool pairs = lines.order == Fp8Order::kPairs;
      const float* scales = lines.scales + tile.rows.expert * lines.of_matrix +
                            (pairs ? tile.line / 2 : tile.line) / kFp8Side * lines.of_line +
                            (pairs && threadIdx.x / 32 % 2 == 1 ? lines.of_pair : 0);
      switch ((rows + 15) / 16) {
#define HONE_ROWS(n)                                                                                         \
  case n:                                                                                                    \
    multiply_e4m3<16 * n, kGather>(sums, memory, full, empty, group, blocks, scales, lines.of_block, stage); \
    break;
        HONE_ROWS(1)
        HONE_ROWS(2)
        HONE_ROWS(3)
        HONE_ROWS(4)
        HONE_ROWS(5)
        HONE_ROWS(6)
        HONE_ROWS(7)
        HONE_ROWS(8)
#undef HONE_ROWS
      }
      finish_sums<Cut::kTokens>(sums, rows, staged, group, finish.of(tile.rows, tile.line));
    }
  }
#endif
}

/// The finish of a dense product.
struct PutRows {
  Output out;
  __device__ __forceinline__ auto of(const ExpertRows& rows, Index first_column) const {
    return [*this, rows, first_column](int r, int c, float(&v)[kPack]) {
      if (rows.first + r < rows.end) out.put_at(rows.first + r, first_column + c, v);
    };
  }
};

/// launch_row_product (experts.cuh) of coded operands on compute capability 9.0.
template <bool kGather, typename Finish>
void launch_row_e4m3(const E4m3Tokens& tokens, const Fp8Lines& lines, const RowProduct& p,
                     const Finish& finish, int multiprocessors, cudaStream_t stream) {
  if (p.capacity == 0 || p.columns == 0) return;
  using Cut = E4m3Rows;
  const auto u64 = [](Index i) { return static_cast<std::uint64_t>(i); };
  const std::uint64_t depth = u64(lines.depth), dims[] = {depth, u64(lines.lines), u64(p.experts)},
                      strides[] = {depth, u64(lines.lines) * depth},
                      of_tokens[] = {depth, u64(tokens.rows.rows)};
  const std::uint32_t box[] = {Cut::kDepth, Cut::kLines, 1}, token_box[] = {Cut::kDepth, 32};
  const CUtensorMap of_lines = byte_map(lines.codes, dims, strides, box);
  // where they are gathered it is not read
  const CUtensorMap of_rows =
      kGather ? of_lines : byte_map(tokens.rows.codes, of_tokens, std::span(strides).first(1), token_box);
  const Index most =
      (p.capacity / Cut::kTokens + std::min<Index>(p.capacity, p.experts)) * ceil_div(p.columns, Cut::kLines);
  const auto grid = static_cast<unsigned>(std::min<Index>(multiprocessors, most));
  HONE_LAUNCH((row_product_e4m3<kGather, Finish>), grid, Cut::kThreads, Cut::kSharedBytes, stream, of_lines,
              of_rows, lines, tokens, p, finish);
}

}  // namespace hone::kernels::cuda
