// The gradients of experts' weights on compute capability 9.0: of each expert c = [c +] a^T b over its rows,
// by wgmma.
//
// One block a multiprocessor goes through tiles of 128 x 256 of c: warpgroup 2 fetches 64 rows of a and b at
// a time, warpgroups 0 and 1 multiply 64 columns of a each by all of b. Of a and b one is gathered, by
// cp.async; the other comes by TMA, but for the last rows of an expert, which are no whole 64: they come by
// cp.async, too, and zeros behind them to the next multiple of 16, so that nothing of another expert, and
// nothing that nobody wrote, is multiplied. An expert without rows has a gradient of zeros.
//
// Two blocks are a cluster, whose tiles are neighbours: what comes by TMA is the same of both, and each
// fetches half of it for both. Of the 48 KiB of a step, 1,024 clocks of the tensor cores, L2 then gives a
// block 32 KiB (where b comes by TMA) or 40: at their peak 32 or 40 bytes in a clock, not 48. An H100's was
// measured to give 25 to 39.
//
// An expert has few rows (256 where 4,096 tokens choose 8 of 128), so that a tile is made in the time in
// which the card's memory takes its numbers: 4,096 clocks of the tensor cores, 3,300 for 64 KiB of an
// H200's 4.8 TB/s. The two happen at the same time: each warp rounds its sums into shared memory of its own,
// TMA takes them from there, and the next tile, of which three quarters were fetched meanwhile, begins. What
// the tensor cores wait for are 16 stmatrix of each of 8 warps, 512 clocks of shared memory, and, where the
// sum of the gradient's squares is wanted, some 300 instructions of each, 600 clocks, instead of a pass over
// all gradients. Sums that are added to a gradient, and gradients in f32, are stored by the warps themselves
// before the next tile begins.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/cuda/expert_rows_hopper.cuh"
#include "kernels/cuda/squares.cuh"

namespace hone::kernels::cuda {

struct HopperWeights {
  static constexpr int kThreads = 384, kMultiplying = 256, kFetching = 128;
  static constexpr int kRows = HopperCut::kGradRows, kColumns = HopperCut::kGradColumns;
  static constexpr int kDepth = HopperCut::kDepth, kStages = 3;
  static constexpr int kBlocks = HopperCut::kBlocks;
  static constexpr int kSlabBytes = kDepth * 128;  // 64 columns of 64 rows
  static constexpr int kABytes = kRows / 64 * kSlabBytes, kBBytes = kColumns / 64 * kSlabBytes,
                       kStageBytes = kABytes + kBBytes;
  // A warp's 16 rows on their way to c: slabs of 64 columns of bf16, or 32 columns of f32 at a time.
  static constexpr int kWarpRows = 16, kOutSlabBytes = kWarpRows * 128;
  static constexpr int kOutBytes = kColumns / 64 * kOutSlabBytes;
  static_assert(kWarpRows * kStagedStride * 4 <= kOutBytes);
  static constexpr int kOutAt = kStages * kStageBytes, kBarriersAt = kOutAt + kMultiplying / 32 * kOutBytes;
  static constexpr int kSharedBytes = kBarriersAt + 2 * kStages * 8;
  static_assert(kSharedBytes <= 227 << 10);
};

/// Rows of a or b: (rows of the plan, columns), row i at row index[i] / divisor of data where there is an
/// index.
struct PlanRows {
  const __nv_bfloat16* data;
  Index stride;
  int columns;
  const std::int32_t* index;
  int divisor;
};

#if HONE_HOPPER

/// The tiles of all experts, kBlocks at a time: neighbours that have the columns in common of the operand
/// that comes by TMA. The last ones may be beyond an expert's gradient.
template <bool kGatherA>
struct WeightTiles {
  static constexpr int kRows = HopperWeights::kRows * (kGatherA ? HopperWeights::kBlocks : 1),
                       kColumns = HopperWeights::kColumns * (kGatherA ? 1 : HopperWeights::kBlocks);
  int down, across, count;

  __device__ __forceinline__ WeightTiles(int rows, int columns, int experts)
      : down((rows + kRows - 1) / kRows),
        across((columns + kColumns - 1) / kColumns),
        count(experts * down * across) {}
  __device__ __forceinline__ int expert(int i) const { return i / (down * across); }
  __device__ __forceinline__ int row(int i, int rank) const {
    return i % down * kRows + (kGatherA ? rank * HopperWeights::kRows : 0);
  }
  __device__ __forceinline__ int column(int i, int rank) const {
    return i / down % across * kColumns + (kGatherA ? 0 : rank * HopperWeights::kColumns);
  }
};

/// Fetches kWidth columns of `there` rows from `first` on, and zeros behind them, in all `rows`; all fetching
/// threads.
template <int kWidth>
__device__ __forceinline__ void copy_plan_rows(const PlanRows& from, int first, int there, int rows,
                                               int column, unsigned char* to, int thread) {
  constexpr int kChunks = kWidth / 8, kRowsAtOnce = HopperWeights::kFetching / kChunks;
  const int chunk = thread % kChunks, col = column + chunk * 8;
  unsigned char* slab = to + chunk / 8 * HopperWeights::kSlabBytes;
#pragma unroll 4
  for (int row = thread / kChunks; row < rows; row += kRowsAtOnce) {
    const bool given = row < there && col < from.columns;
    Index source = 0;
    if (given) source = from.index != nullptr ? from.index[first + row] / from.divisor : first + row;
    copy_async_16(slab + row * 128 + (chunk % 8 ^ row % 8) * 16,
                  from.data + source * from.stride + (given ? col : 0), given ? 16 : 0);
  }
}

/// sums = [sums +] kSteps times 16 rows. Each number of steps fences and commits its own products: ptxas runs
/// every wgmma by itself where one of a group is conditional.
template <int kSteps>
__device__ __forceinline__ void multiply_steps(float* sums, std::uint64_t a, std::uint64_t b, bool add) {
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < kSteps; ++i)
    Wgmma<HopperWeights::kColumns, true, true>::multiply(sums, a + i * 128, b + i * 128, add || i > 0);
  wgmma_commit();
}

/// Rounds a warp's sums, 16 rows from `row` on of all columns of a tile of an expert, and begins to store
/// them by way of `memory`, kOutBytes of the warp's own. What is beyond the expert's gradient is left out.
/// sum(j): the thread's, j known when it is compiled. Calls see(words) with all that is rounded, four pairs
/// at a time: beyond the gradient zeros, unless what is within is no number.
template <typename Sum, typename See>
__device__ __forceinline__ void begin_to_store(const CUtensorMap& to, int column, int columns, int row,
                                               int expert, unsigned char* memory, const Sum& sum,
                                               const See& see) {
  using Cut = HopperWeights;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) wait_stores_read<0>();  // of the tile before
  __syncwarp();
  unsigned char* mine = memory + lane % 16 * 128;  // matrix i of stmatrix_4: rows 8 (i % 2) on, eight i / 2
#pragma unroll
  for (int i = 0; i < Cut::kColumns / 16; ++i) {
    const std::uint32_t words[4] = {
        pair_of(sum(8 * i), sum(8 * i + 1)), pair_of(sum(8 * i + 2), sum(8 * i + 3)),
        pair_of(sum(8 * i + 4), sum(8 * i + 5)), pair_of(sum(8 * i + 6), sum(8 * i + 7))};
    see(words);
    stmatrix_4(words, mine + i / 4 * Cut::kOutSlabBytes + ((i % 4 * 2 + lane / 16) ^ lane % 8) * 16);
  }
  fence_for_async();
  __syncwarp();
  if (lane == 0) {
#pragma unroll 1
    for (int slab = 0; slab < Cut::kColumns / 64 && column + slab * 64 < columns; ++slab)
      store_box(to, memory + slab * Cut::kOutSlabBytes, column + slab * 64, row, expert);
    commit_stores();
  }
}

/// Stores them itself, 32 columns at a time; `to` is of the expert. Calls see(row, column, v) with what
/// Output::put_at has stored.
template <typename Sum, typename See>
__device__ __forceinline__ void store_sums(const Output& to, int column, int columns, int row,
                                           unsigned char* memory, const Sum& sum, const See& see) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float* staged = reinterpret_cast<float*>(memory);
  float* mine = staged + lane / 4 * kStagedStride + lane % 4 * 2;
#pragma unroll 1
  for (int chunk = 0; chunk < HopperWeights::kColumns / 32 && column + chunk * 32 < columns; ++chunk) {
#pragma unroll
    for (int i = 0; i < HopperWeights::kColumns / 32; ++i)
      if (i == chunk) {  // so that which registers they are is known when it is compiled
#pragma unroll
        for (int j = 0; j < 16; j += 2)
          *reinterpret_cast<float2*>(mine + j % 4 / 2 * 8 * kStagedStride + j / 4 * 8) =
              make_float2(sum(16 * i + j), sum(16 * i + j + 1));
      }
    __syncwarp();
    finish_block(staged, row, column + chunk * 32, [&](int r, int c, float(&v)[kPack]) {
      to.put_at(r, c, v);
      see(r, c, v);
    });
    __syncwarp();
  }
}

#endif

/// Which of a and b is gathered; of the other there is a tensor map, of boxes of 64 x 64. by_tma: c is
/// stored by a map of its own, of boxes of 64 x 16, else as `out` says. squares: of each warp of each tile,
/// an expert's tiles row by row; may be null. Grid: at most one block a multiprocessor, whole clusters.
template <bool kGatherA>
__global__ void HONE_CLUSTER(HopperWeights::kBlocks) __launch_bounds__(HopperWeights::kThreads, 1)
    expert_weight_hopper(const __grid_constant__ CUtensorMap whole, const __grid_constant__ CUtensorMap c,
                         PlanRows a, PlanRows b, const std::int32_t* offsets, int experts, bool by_tma,
                         Output out, double* squares) {
#if HONE_HOPPER
  using Cut = HopperWeights;
  HONE_SWIZZLED_SHARED(memory);
  auto* full = reinterpret_cast<std::uint64_t*>(memory + Cut::kBarriersAt);
  std::uint64_t* empty = full + Cut::kStages;
  let_next_kernel_in();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Cut::kStages; ++i) {
      init_mbarrier(full + i, Cut::kFetching + 1);
      init_mbarrier(empty + i, Cut::kBlocks * Cut::kMultiplying / 32);
    }
    fence_mbarriers();
  }
  wait_for_kernels_before();
  meet_cluster();
  const WeightTiles<kGatherA> tiles(a.columns, b.columns, experts);
  const int rank = rank_in_cluster();
  const int cluster = static_cast<int>(blockIdx.x) / Cut::kBlocks,
            clusters = static_cast<int>(gridDim.x) / Cut::kBlocks;
  BufferStage<Cut::kStages> stage;
  if (threadIdx.x >= Cut::kMultiplying) {
    give_registers<72>();
    const int thread = static_cast<int>(threadIdx.x) - Cut::kMultiplying;
#pragma unroll 1
    for (int i = cluster; i < tiles.count; i += clusters) {
      const int expert = tiles.expert(i), row = tiles.row(i, rank), column = tiles.column(i, rank);
      const int end = offsets[expert + 1];
#pragma unroll 1
      for (int k = offsets[expert]; k < end; k += Cut::kDepth) {
        wait_for(empty + stage.at, stage.phase ^ 1);
        unsigned char *of_a = memory + stage.at * Cut::kStageBytes, *of_b = of_a + Cut::kABytes;
        if (end - k >= Cut::kDepth) {
          if (thread == 0) {
            arrive_expecting(full + stage.at, kGatherA ? Cut::kBBytes : Cut::kABytes);
            constexpr int kSlabs = (kGatherA ? Cut::kColumns : Cut::kRows) / 64 / Cut::kBlocks;
#pragma unroll 1
            for (int slab = rank * kSlabs; slab < (rank + 1) * kSlabs; ++slab)  // its part of them, to both
              load_box_to((1U << Cut::kBlocks) - 1, (kGatherA ? of_b : of_a) + slab * Cut::kSlabBytes, whole,
                          full + stage.at, (kGatherA ? column : row) + slab * 64, k);
          }
          __syncwarp();
          if constexpr (kGatherA)
            copy_plan_rows<Cut::kRows>(a, k, Cut::kDepth, Cut::kDepth, row, of_a, thread);
          else
            copy_plan_rows<Cut::kColumns>(b, k, Cut::kDepth, Cut::kDepth, column, of_b, thread);
        } else {
          const int left = end - k, padded = (left + 15) / 16 * 16;
          if (thread == 0) arrive(full + stage.at);
          __syncwarp();
          copy_plan_rows<Cut::kRows>(a, k, left, padded, row, of_a, thread);
          copy_plan_rows<Cut::kColumns>(b, k, left, padded, column, of_b, thread);
        }
        arrive_after_copies(full + stage.at);
        stage.advance();
      }
    }
    meet_cluster();  // the other block may arrive here until it has read everything
  } else {
    take_registers<216>();
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32,
              group = thread / 128;
    unsigned char* of_warp = memory + Cut::kOutAt + warp * Cut::kOutBytes;
    float sums[Cut::kColumns / 2];
#pragma unroll 1
    for (int i = cluster; i < tiles.count; i += clusters) {
      const int expert = tiles.expert(i), row = tiles.row(i, rank), column = tiles.column(i, rank);
      const int begin = offsets[expert], end = offsets[expert + 1];
      const int first_row = row + 64 * group + warp % 4 * Cut::kWarpRows;
      // Here a thread has its sums: 4 j + 2 r + c is of row first_row + lane / 4 + 8 r, column 8 j + lane % 4
      // * 2 + c of the tile.
      const auto finish = [&](const auto& sum) {
        double of_squares = 0;
        if (by_tma) {
          begin_to_store(c, column, b.columns, first_row, expert, of_warp, sum,
                         [&](const std::uint32_t(&words)[4]) {
                           if (squares != nullptr) of_squares += squares_of_pairs(words);
                         });
        } else {
          Output to = out;
          to.c = out.c.from_row(expert * out.rows);
          store_sums(to, column, b.columns, first_row, of_warp, sum, [&](int r, int col, float(&v)[kPack]) {
            if (squares != nullptr) of_squares += squares_of_put(to, r, col, v);
          });
        }
        if (squares == nullptr || row >= a.columns || column >= b.columns) return;
        for (int lanes = 16; lanes > 0; lanes /= 2)
          of_squares += __shfl_xor_sync(0xffffffffU, of_squares, lanes);
        const int across = (b.columns + Cut::kColumns - 1) / Cut::kColumns;
        const Index tile =
            (Index{expert} * ((a.columns + Cut::kRows - 1) / Cut::kRows) + row / Cut::kRows) * across +
            column / Cut::kColumns;
        if (lane == 0) squares[tile * HopperCut::kSquaresOfTile + warp] = of_squares;
      };
      if (begin == end) {
        finish([](int) { return 0.0F; });
        continue;
      }
      int before = 0;
#pragma unroll 1
      for (int k = begin; k < end; k += Cut::kDepth) {
        wait_for(full + stage.at, stage.phase);
        fence_for_async();
        unsigned char* at = memory + stage.at * Cut::kStageBytes;
        const std::uint64_t of_a = descriptor_of(at + group * Cut::kSlabBytes, Cut::kSlabBytes, 1024);
        const std::uint64_t of_b = descriptor_of(at + Cut::kABytes, Cut::kSlabBytes, 1024);
        const int left = end - k;
        if (left > 48)
          multiply_steps<4>(sums, of_a, of_b, k > begin);
        else if (left > 32)
          multiply_steps<3>(sums, of_a, of_b, k > begin);
        else if (left > 16)
          multiply_steps<2>(sums, of_a, of_b, k > begin);
        else
          multiply_steps<1>(sums, of_a, of_b, k > begin);
        if (k > begin) {
          wgmma_wait<1>();
          release<Cut::kBlocks>(empty + before, rank);
        }
        before = stage.at;
        stage.advance();
      }
      wgmma_wait<0>();
#pragma unroll
      for (int j = 0; j < Cut::kColumns / 2; ++j) keep_after_wait(sums[j]);
      release<Cut::kBlocks>(empty + before, rank);
      finish([&](int j) { return sums[j]; });
    }
    if (lane == 0) wait_stores<0>();
    meet_cluster();
  }
#endif
}

/// launch_weight_grad of bf16 operands of which one is gathered, where why_not_hopper has nothing against it.
/// a: c's rows, b: its columns.
inline void launch_weight_hopper(const PlanRows& a, const PlanRows& b, const ExpertsArgs& f,
                                 const Output& out, double* squares, int multiprocessors,
                                 cudaStream_t stream) {
  if (f.experts == 0 || a.columns == 0 || b.columns == 0) return;
  using Cut = HopperWeights;
  const bool gathers_a = a.index != nullptr;
  const Index clusters = f.experts * ceil_div(a.columns, Cut::kRows * (gathers_a ? Cut::kBlocks : 1)) *
                         ceil_div(b.columns, Cut::kColumns * (gathers_a ? 1 : Cut::kBlocks));
  const auto grid =
      static_cast<unsigned>(Cut::kBlocks * std::min<Index>(multiprocessors / Cut::kBlocks, clusters));
  const PlanRows& dense = gathers_a ? b : a;
  // of no rows at all there is nothing to read, but a map has to have a row
  const auto rows = static_cast<std::uint64_t>(std::max<Index>(1, f.x.rows * f.top_k));
  const CUtensorMap whole =
      tensor_map(dense.data, std::array{static_cast<std::uint64_t>(dense.columns), rows},
                 std::array{static_cast<std::uint64_t>(dense.stride) * 2}, std::array{64U, 64U});
  const bool by_tma = grad_goes_by_tma(out.c.is_bf16, out.c.data, out.accumulate);
  CUtensorMap c = whole;  // where it does not go by TMA: not used
  if (by_tma) {
    const auto c_rows = static_cast<std::uint64_t>(out.rows),
               columns = static_cast<std::uint64_t>(out.columns);
    c = tensor_map(out.c.data, std::array{columns, c_rows, static_cast<std::uint64_t>(f.experts)},
                   std::array{columns * 2, c_rows * columns * 2},
                   std::array{64U, std::uint32_t{Cut::kWarpRows}, 1U});
  }
  has_clusters(expert_weight_hopper<true>, Cut::kBlocks);
  has_clusters(expert_weight_hopper<false>, Cut::kBlocks);
  if (gathers_a)
    HONE_LAUNCH((expert_weight_hopper<true>), grid, Cut::kThreads, Cut::kSharedBytes, stream, whole, c, a, b,
                f.offsets, static_cast<int>(f.experts), by_tma, out, squares);
  else
    HONE_LAUNCH((expert_weight_hopper<false>), grid, Cut::kThreads, Cut::kSharedBytes, stream, whole, c, a, b,
                f.offsets, static_cast<int>(f.experts), by_tma, out, squares);
}

}  // namespace hone::kernels::cuda
