// A product of rows by their experts' weights on compute capability 9.0: launch_row_product (experts.cuh) by
// TMA and wgmma.
//
// The product is made transposed, c^T = w x^T: a weight's lines are wgmma's 64 rows, tokens its columns, of
// which it takes any multiple of
// 16. So an expert's last tile wastes at most 15 tokens, not 127, and an expert of up to 256 tokens is one
// tile, whose weights are read once. One block a multiprocessor goes through its tiles: warpgroup 2 fetches,
// through kStages buffers of 64 k each, warpgroups 0 and 1 multiply 64 lines each by all the tile's tokens.
// Tokens come by TMA, or where they are gathered by cp.async. Those by TMA are the same for all lines: two
// blocks with neighbouring lines are a cluster, and each fetches half of the tokens for both, so that L2
// gives a block 32 KiB of a step of 48, which is 32 bytes in a clock of the tensor cores, not 48 (an H100's
// was measured to give 25 to 39). Sums go through shared memory to where a thread has eight columns of a row,
// as in gemm.cuh, and what becomes of them is the same Finish as there.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/wgmma.cuh"

namespace hone::kernels::cuda {

/// What a product on compute capability 9.0 is cut into, and where its block's shared memory has what.
struct HopperRows {
  static constexpr int kThreads = 384, kMultiplying = 256, kFetching = 128;
  static constexpr int kTokens = HopperCut::kTokens, kLines = HopperCut::kLines, kDepth = HopperCut::kDepth;
  static constexpr int kStages = 4, kBox = 32;                        // tokens of a box
  static constexpr int kRowBytes = 128, kSlabBytes = 64 * kRowBytes;  // of the swizzle; 64 rows of them
  static constexpr int kWeightBytes = kLines * kRowBytes, kTokenBytes = kTokens * kRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  // Sums of 32 tokens and a warpgroup's 64 lines: 68 f32 a token, so that a store's 8 lines of 4 tokens are
  // in 32 banks.
  static constexpr int kStaged = 32, kStagedStride = 68, kStagedBytes = kStaged * kStagedStride * 4;
  static constexpr int kMostExperts = HopperCut::kMostExperts;
  static constexpr int blocks(bool gather) { return gather ? 1 : HopperCut::kBlocks; }  // of a cluster
  static constexpr int kStagedAt = kStages * kStageBytes, kBarriersAt = kStagedAt + 2 * kStagedBytes;
  static constexpr int kTilesAt = kBarriersAt + 2 * kStages * 8;
  static constexpr int kSharedBytes = kTilesAt + (kMostExperts + 1) * 4;
  static_assert(kSharedBytes <= 227 << 10);
};

/// Rows to be multiplied, where they are gathered: row i is row index[i] / divisor of x. Else they come by a
/// tensor map.
struct GatheredRows {
  const __nv_bfloat16* x;
  Index stride;
  const std::int32_t* index;
  int divisor;
};

#if HONE_HOPPER

/// A tile: its rows of the plan, and the first line of its expert's weight.
struct HopperTile {
  ExpertRows rows;
  int line;
};

/// A warp of one of kBlocks blocks has read a buffer: those who fill it, each in its own block, may know.
template <int kBlocks>
__device__ __forceinline__ void release(std::uint64_t* empty, int rank) {
  static_assert(kBlocks <= 2);
  if (threadIdx.x % 32 != 0) return;
  arrive(empty);
  if constexpr (kBlocks > 1) arrive_in(rank ^ 1, empty);
}

/// The tiles of all experts, in the experts' order; an expert's rows are cut into equal parts, a part's lines
/// into tiles of kLines, of which those of a cluster of kBlocks are one here. Without offsets there is one
/// expert, with all rows.
template <typename Cut, int kBlocks = 1>
class HopperTiles {
 public:
  /// Counts them; the whole block calls it, and a barrier after it. `before` has kMostExperts + 1.
  __device__ __forceinline__ HopperTiles(const RowProduct& p, int* before)
      : offsets_(p.offsets),
        experts_(p.experts),
        rows_(static_cast<int>(p.capacity)),
        panels_((static_cast<int>(p.columns) + kBlocks * Cut::kLines - 1) / (kBlocks * Cut::kLines)),
        before_(before) {
    if (threadIdx.x >= 32) return;
    const int lane = static_cast<int>(threadIdx.x);
    int sum = 0;
    for (int e = 0; e < experts_; e += 32) {
      const int expert = e + lane;
      const int mine = expert < experts_ ? parts_of(first_row(expert + 1) - first_row(expert)) * panels_ : 0;
      int through = mine;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffU, through, static_cast<unsigned>(step));
        if (lane >= step) through += other;
      }
      if (expert < experts_) before[expert] = sum + through - mine;
      sum += __shfl_sync(0xffffffffU, through, 31);
    }
    if (lane == 0) before[experts_] = sum;
  }
  __device__ __forceinline__ int count() const { return before_[experts_]; }
  /// Tile i, which is not below that of the call before; of the cluster's block `rank`.
  __device__ __forceinline__ HopperTile tile(int i, int rank = 0) {
    while (i >= before_[expert_ + 1]) ++expert_;
    const int begin = first_row(expert_), rows = first_row(expert_ + 1) - begin, parts = parts_of(rows);
    const int part_rows =
        ((rows + parts - 1) / parts + 15) / 16 * 16;  // at most kTokens, so that no part is empty
    const int in_expert = i - before_[expert_], part = in_expert / panels_;
    const int first = begin + part * part_rows;
    return {{expert_, first, min(first + part_rows, begin + rows)},
            (in_expert % panels_ * kBlocks + rank) * Cut::kLines};
  }

 private:
  __device__ __forceinline__ int first_row(int expert) const {
    return offsets_ != nullptr ? offsets_[expert] : expert * rows_;
  }
  __device__ __forceinline__ static int parts_of(int rows) {
    return (rows + Cut::kTokens - 1) / Cut::kTokens;
  }

  const std::int32_t* offsets_;
  int experts_, rows_, panels_;
  const int* before_;
  int expert_ = 0;
};

/// sums (64, kColumns) of a warpgroup = its lines by the tile's tokens; one product is in flight while the
/// next buffer is waited for. Nothing in here is conditional but the loop: ptxas runs every wgmma by itself
/// where one of a group is.
template <int kColumns, bool kAlongK, bool kGather>
__device__ __forceinline__ void multiply_rows(float* sums, unsigned char* memory, std::uint64_t* full,
                                              std::uint64_t* empty, int group, int blocks, int rank,
                                              BufferStage<HopperRows::kStages>& stage) {
  constexpr int kStep = kAlongK ? 2 : 128;  // of the weight's descriptor, 16 k on
  int before = 0;
#pragma unroll 1
  for (int block = 0; block < blocks; ++block) {
    wait_for(full + stage.at, stage.phase);
    if constexpr (kGather) fence_for_async();
    unsigned char* at = memory + stage.at * HopperRows::kStageBytes;
    const std::uint64_t weight =
        descriptor_of(at + group * HopperRows::kSlabBytes, kAlongK ? 16 : HopperRows::kSlabBytes, 1024);
    const std::uint64_t tokens = descriptor_of(at + HopperRows::kWeightBytes, 16, 1024);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      Wgmma<kColumns, !kAlongK, false>::multiply(sums, weight + k * kStep, tokens + k * 2, (block | k) != 0);
    wgmma_commit();
    if (block > 0) {
      wgmma_wait<1>();
      release<HopperRows::blocks(kGather)>(empty + before, rank);
    }
    before = stage.at;
    stage.advance();
  }
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) keep_after_wait(sums[i]);
  release<HopperRows::blocks(kGather)>(empty + before, rank);
}

/// Of 32 staged tokens and 64 lines: finish(token, line, v) with 8 lines of a token, or two eights that are
/// 16 lines apart.
template <typename Finish>
__device__ __forceinline__ void finish_rows(const float* staged, int token, int line, int thread,
                                            const Finish& finish) {
#pragma unroll 1
  for (int i = thread; i < HopperRows::kStaged * 8; i += 128) {
    float v[kPack];
    load(staged + i / 8 * HopperRows::kStagedStride + i % 8 * kPack, kPack, true, v);
    finish(token + i / 8, line + i % 8 * kPack, v);
  }
}
template <typename Finish>
__device__ __forceinline__ void finish_rows(const float* staged, int token, int line, int thread,
                                            const ApartBy16<Finish>& apart) {
  float v[kPack], w[kPack];
  const int row = thread / 4, col = thread % 4 / 2 * 32 + thread % 2 * kPack;
  load(staged + row * HopperRows::kStagedStride + col, kPack, true, v);
  load(staged + row * HopperRows::kStagedStride + col + 16, kPack, true, w);
  apart.finish(token + row, line + col, v, w);
}

/// A warpgroup's sums of n of kTokens tokens, 32 tokens at a time.
template <int kTokens, typename Finish>
__device__ __forceinline__ void finish_sums(const float* sums, int n, float* staged, int group,
                                            const Finish& finish) {
  const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
  float* mine = staged + lane % 4 * 2 * HopperRows::kStagedStride + thread / 32 * 16 + lane / 4;
#pragma unroll 1
  for (int chunk = 0; chunk * HopperRows::kStaged < n; ++chunk) {
    meet(1 + group, 128);  // nobody reads the last ones
#pragma unroll
    for (int i = 0; i < kTokens / HopperRows::kStaged; ++i)
      if (i == chunk) {  // so that which registers they are is known when it is compiled
#pragma unroll
        for (int j = 0; j < 16; ++j)
          mine[(j / 4 * 8 + j % 2) * HopperRows::kStagedStride + j % 4 / 2 * 8] = sums[16 * i + j];
      }
    meet(1 + group, 128);
    finish_rows(staged, chunk * HopperRows::kStaged, 64 * group, thread, finish);
  }
}

/// Fetches the weight's lines of a tile, 64 of k. One thread.
template <bool kAlongK>
__device__ __forceinline__ void fetch_lines(const CUtensorMap& map, bool pairs, unsigned char* to,
                                            std::uint64_t* full, int k, const HopperTile& tile) {
  if constexpr (!kAlongK) {
    load_box(to, map, full, tile.line, k, tile.rows.expert);
    load_box(to + HopperRows::kSlabBytes, map, full, tile.line + 64, k, tile.rows.expert);
  } else if (pairs) {  // WeightShape::pairs: of every 32 lines 16 are the gate's, 16 the up's
#pragma unroll 1
    for (int i = 0; i < HopperRows::kLines / 16; ++i)
      load_box(to + i * 16 * HopperRows::kRowBytes, map, full, k, tile.line / 2 + i / 2 * 16, i % 2,
               tile.rows.expert);
  } else {
    load_box(to, map, full, k, tile.line, tile.rows.expert);
  }
}

#endif

/// finish as in expert_row_tiles. Grid: at most one block a multiprocessor, whole clusters.
template <bool kAlongK, bool kGather, typename Finish>
__global__ void HONE_CLUSTER(HopperRows::blocks(kGather)) __launch_bounds__(HopperRows::kThreads, 1)
    expert_row_hopper(const __grid_constant__ CUtensorMap weights, const __grid_constant__ CUtensorMap tokens,
                      GatheredRows gathered, bool pairs, RowProduct p, Finish finish) {
#if HONE_HOPPER
  using Cut = HopperRows;
  constexpr int kBlocks = Cut::blocks(kGather);
  HONE_SWIZZLED_SHARED(memory);
  auto* full = reinterpret_cast<std::uint64_t*>(memory + Cut::kBarriersAt);
  std::uint64_t* empty = full + Cut::kStages;
  let_next_kernel_in();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Cut::kStages; ++i) {
      init_mbarrier(full + i, kGather ? Cut::kFetching + 1 : 1);
      init_mbarrier(empty + i, kBlocks * Cut::kMultiplying / 32);
    }
    fence_mbarriers();
  }
  wait_for_kernels_before();
  HopperTiles<Cut, kBlocks> tiles(p, reinterpret_cast<int*>(memory + Cut::kTilesAt));
  __syncthreads();  // of the tiles' counts
  if constexpr (kBlocks > 1) meet_cluster();
  const int rank = kBlocks > 1 ? rank_in_cluster() : 0;
  const int cluster = static_cast<int>(blockIdx.x) / kBlocks,
            clusters = static_cast<int>(gridDim.x) / kBlocks;
  const int count = tiles.count(), k = static_cast<int>(p.k);
  const int blocks = (k + Cut::kDepth - 1) / Cut::kDepth;
  BufferStage<Cut::kStages> stage;
  if (threadIdx.x >= Cut::kMultiplying) {
    // 72 (or 40) for 128 threads and 216 (or 232) for 256 are what 168 for 384 are
    give_registers<kGather ? 72 : 40>();
    const int thread = static_cast<int>(threadIdx.x) - Cut::kMultiplying;
    for (int i = cluster; i < count && (kGather || thread == 0); i += clusters) {
      const HopperTile tile = tiles.tile(i, rank);
      const int rows = tile.rows.end - tile.rows.first;
      if constexpr (kGather) {
        constexpr int kRowsAtOnce = Cut::kFetching / 8;
        const int chunk = thread % 8, row = thread / 8;
        const int padded = (rows + 15) / 16 * 16;
        int from[Cut::kTokens / kRowsAtOnce];  // past the end the last row once more: those sums are not used
#pragma unroll
        for (int j = 0; j < Cut::kTokens / kRowsAtOnce; ++j)
          from[j] =
              j * kRowsAtOnce < padded
                  ? gathered.index[tile.rows.first + min(j * kRowsAtOnce + row, rows - 1)] / gathered.divisor
                  : 0;
#pragma unroll 1
        for (int block = 0; block < blocks; ++block) {
          wait_for(empty + stage.at, stage.phase ^ 1);
          unsigned char* at = memory + stage.at * Cut::kStageBytes;
          if (thread == 0) {
            arrive_expecting(full + stage.at, Cut::kWeightBytes);
            fetch_lines<kAlongK>(weights, pairs, at, full + stage.at, block * Cut::kDepth, tile);
          }
          __syncwarp();
          unsigned char* to = at + Cut::kWeightBytes + row * Cut::kRowBytes + (chunk ^ row % 8) * 16;
          const int col = block * Cut::kDepth + chunk * 8, bytes = col < k ? 16 : 0;
          const __nv_bfloat16* x = gathered.x + (bytes > 0 ? col : 0);
#pragma unroll
          for (int j = 0; j < Cut::kTokens / kRowsAtOnce; ++j)
            if (j * kRowsAtOnce < padded)
              copy_async_16(to + j * kRowsAtOnce * Cut::kRowBytes, x + from[j] * gathered.stride, bytes);
          arrive_after_copies(full + stage.at);
          stage.advance();
        }
      } else {
        const int boxes = (rows + Cut::kBox - 1) / Cut::kBox;
#pragma unroll 1
        for (int block = 0; block < blocks; ++block) {
          wait_for(empty + stage.at, stage.phase ^ 1);
          unsigned char* at = memory + stage.at * Cut::kStageBytes;
          arrive_expecting(full + stage.at, Cut::kWeightBytes + boxes * Cut::kBox * Cut::kRowBytes);
          fetch_lines<kAlongK>(weights, pairs, at, full + stage.at, block * Cut::kDepth, tile);
#pragma unroll 1
          for (int j = rank; j < boxes; j += kBlocks)  // its part of them, to both
            load_box_to((1U << kBlocks) - 1, at + Cut::kWeightBytes + j * Cut::kBox * Cut::kRowBytes, tokens,
                        full + stage.at, block * Cut::kDepth, tile.rows.first + j * Cut::kBox);
          stage.advance();
        }
      }
    }
    if constexpr (kBlocks > 1) {  // the other block may arrive here until it has read everything
      __syncwarp();
      meet_cluster();
    }
  } else {
    take_registers<kGather ? 216 : 232>();
    const int group = static_cast<int>(threadIdx.x) / 128;
    float* staged = reinterpret_cast<float*>(memory + Cut::kStagedAt + group * Cut::kStagedBytes);
    float sums[Cut::kTokens / 2];
#pragma unroll 1
    for (int i = cluster; i < count; i += clusters) {
      const HopperTile tile = tiles.tile(i, rank);
      const int rows = tile.rows.end - tile.rows.first;
      switch ((rows + 15) / 16) {
#define HONE_ROWS(n)                                                                                \
  case n:                                                                                           \
    multiply_rows<16 * n, kAlongK, kGather>(sums, memory, full, empty, group, blocks, rank, stage); \
    break;
        HONE_ROWS(1)
        HONE_ROWS(2)
        HONE_ROWS(3)
        HONE_ROWS(4)
        HONE_ROWS(5)
        HONE_ROWS(6)
        HONE_ROWS(7)
        HONE_ROWS(8)
        HONE_ROWS(9)
        HONE_ROWS(10)
        HONE_ROWS(11)
        HONE_ROWS(12)
        HONE_ROWS(13)
        HONE_ROWS(14)
        HONE_ROWS(15)
        HONE_ROWS(16)
#undef HONE_ROWS
      }
      finish_sums<Cut::kTokens>(sums, rows, staged, group, finish.of(tile.rows, tile.line));
    }
    if constexpr (kBlocks > 1) meet_cluster();
  }
#endif
}

/// launch_row_product of dense bf16 weights, where why_not_hopper has nothing against it.
template <bool kAlongK, bool kGather, typename Finish>
void launch_row_hopper(const Matrix& a, const std::int32_t* index, int divisor, const ExpertWeight& weight,
                       const WeightShape& shape, const RowProduct& p, const Finish& finish,
                       int multiprocessors, cudaStream_t stream) {
  if (p.capacity == 0 || p.columns == 0) return;
  using Cut = HopperRows;
  const auto u64 = [](Index i) { return static_cast<std::uint64_t>(i); };
  const auto k = u64(shape.k), rows = u64(shape.rows), parts = u64(shape.parts), experts = u64(p.experts),
             row_bytes = 2 * k;
  CUtensorMap weights;
  if (!kAlongK) {  // the weight's rows are the product's k, its k the product's columns
    weights = tensor_map(weight.data, std::array{k, parts * rows, experts},
                         std::array{row_bytes, parts * rows * row_bytes}, std::array{64U, 64U, 1U});
  } else if (shape.pairs) {
    weights = tensor_map(weight.data, std::array{k, rows, parts, experts},
                         std::array{row_bytes, rows * row_bytes, parts * rows * row_bytes},
                         std::array{64U, 16U, 1U, 1U});
  } else {
    weights = tensor_map(weight.data, std::array{k, parts * rows, experts},
                         std::array{row_bytes, parts * rows * row_bytes},
                         std::array{64U, std::uint32_t{Cut::kLines}, 1U});
  }
  constexpr int kBlocks = Cut::blocks(kGather);
  const Index most = (p.capacity / Cut::kTokens + std::min<Index>(p.capacity, p.experts)) *
                     ceil_div(p.columns, kBlocks * Cut::kLines);
  const auto grid = static_cast<unsigned>(kBlocks * std::min<Index>(multiprocessors / kBlocks, most));
  const GatheredRows gathered{static_cast<const __nv_bfloat16*>(a.data), a.stride, index, divisor};
  CUtensorMap tokens = weights;  // where they are gathered: not read
  if (!kGather)
    tokens = tensor_map(a.data, std::array{u64(a.cols), u64(a.rows)}, std::array{u64(a.stride) * 2},
                        std::array{64U, std::uint32_t{Cut::kBox}});
  has_clusters(expert_row_hopper<kAlongK, kGather, Finish>, kBlocks);
  HONE_LAUNCH((expert_row_hopper<kAlongK, kGather, Finish>), grid, Cut::kThreads, Cut::kSharedBytes, stream,
              weights, tokens, gathered, shape.pairs, p, finish);
}

}  // namespace hone::kernels::cuda
