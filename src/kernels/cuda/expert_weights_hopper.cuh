// The gradients of experts' weights on compute capability 9.0: of each expert c = [c +] a^T b over its rows,
// by wgmma.
//
// One block a multiprocessor goes through tiles of 128 x 256 of c: warpgroup 2 fetches 64 rows of a and b at
// a time, warpgroups 0 and 1 multiply 64 columns of a each by all of b. Of a and b one is gathered, by
// cp.async; the other comes by TMA, but for the last rows of an expert, which are no whole 64: they come by
// cp.async, too, and zeros behind them to the next multiple of 16, so that nothing of another expert, and
// nothing that nobody wrote, is multiplied. An expert without rows has a gradient of zeros.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/cuda/expert_rows_hopper.cuh"

namespace hone::kernels::cuda {

struct HopperWeights {
  static constexpr int kThreads = 384, kMultiplying = 256, kFetching = 128;
  static constexpr int kRows = HopperCut::kGradRows, kColumns = HopperCut::kGradColumns;
  static constexpr int kDepth = HopperCut::kDepth, kStages = HopperRows::kStages;
  static constexpr int kSlabBytes = kDepth * 128;  // 64 columns of 64 rows
  static constexpr int kABytes = kRows / 64 * kSlabBytes, kBBytes = kColumns / 64 * kSlabBytes,
                       kStageBytes = kABytes + kBBytes;
  static constexpr int kStagedBytes = 16 * kStagedStride * 4;  // of a warp: 16 x 32 sums
  static constexpr int kStagedAt = kStages * kStageBytes,
                       kBarriersAt = kStagedAt + kMultiplying / 32 * kStagedBytes;
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

#endif

/// Which of a and b is gathered; of the other there is a tensor map, of boxes of 64 x 64. Grid: at most one
/// block a multiprocessor.
template <bool kGatherA>
__global__ void __launch_bounds__(HopperWeights::kThreads, 1)
    expert_weight_hopper(const __grid_constant__ CUtensorMap whole, PlanRows a, PlanRows b,
                         const std::int32_t* offsets, int experts, Output out) {
#if HONE_HOPPER
  using Cut = HopperWeights;
  HONE_SWIZZLED_SHARED(memory);
  auto* full = reinterpret_cast<std::uint64_t*>(memory + Cut::kBarriersAt);
  std::uint64_t* empty = full + Cut::kStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Cut::kStages; ++i) {
      init_mbarrier(full + i, Cut::kFetching + 1);
      init_mbarrier(empty + i, Cut::kMultiplying / 32);
    }
    fence_mbarriers();
  }
  __syncthreads();
  const int down = (a.columns + Cut::kRows - 1) / Cut::kRows,
            across = (b.columns + Cut::kColumns - 1) / Cut::kColumns;
  const int count = experts * down * across, step = static_cast<int>(gridDim.x);
  BufferStage<Cut::kStages> stage;
  if (threadIdx.x >= Cut::kMultiplying) {
    give_registers<72>();
    const int thread = static_cast<int>(threadIdx.x) - Cut::kMultiplying;
#pragma unroll 1
    for (int i = static_cast<int>(blockIdx.x); i < count; i += step) {
      const int expert = i / (down * across), row = i % down * Cut::kRows,
                column = i / down % across * Cut::kColumns;
      const int end = offsets[expert + 1];
#pragma unroll 1
      for (int k = offsets[expert]; k < end; k += Cut::kDepth) {
        wait_for(empty + stage.at, stage.phase ^ 1);
        unsigned char *of_a = memory + stage.at * Cut::kStageBytes, *of_b = of_a + Cut::kABytes;
        if (end - k >= Cut::kDepth) {
          if (thread == 0) {
            arrive_expecting(full + stage.at, kGatherA ? Cut::kBBytes : Cut::kABytes);
#pragma unroll 1
            for (int slab = 0; slab < (kGatherA ? Cut::kColumns : Cut::kRows) / 64; ++slab)
              load_box((kGatherA ? of_b : of_a) + slab * Cut::kSlabBytes, whole, full + stage.at,
                       (kGatherA ? column : row) + slab * 64, k);
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
  } else {
    take_registers<216>();
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32,
              group = thread / 128;
    float* staged = reinterpret_cast<float*>(memory + Cut::kStagedAt + warp * Cut::kStagedBytes);
    float* mine = staged + lane / 4 * kStagedStride + lane % 4 * 2;
    float sums[Cut::kColumns / 2];
#pragma unroll 1
    for (int i = static_cast<int>(blockIdx.x); i < count; i += step) {
      const int expert = i / (down * across), row = i % down * Cut::kRows,
                column = i / down % across * Cut::kColumns;
      const int begin = offsets[expert], end = offsets[expert + 1];
      const int first_row = row + 64 * group + warp % 4 * 16;
      Output to = out;
      to.c = out.c.from_row(expert * out.rows);
      const auto finish = [&](int r, int c, float(&v)[kPack]) { to.put_at(r, c, v); };
      if (begin == end) {
        for (int j = 0; j < 16; ++j) staged[j * kStagedStride + lane] = 0;
        __syncwarp();
#pragma unroll 1
        for (int chunk = 0; chunk < Cut::kColumns / 32; ++chunk)
          finish_block(staged, first_row, column + chunk * 32, finish);
        __syncwarp();
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
          if (lane == 0) arrive(empty + before);
        }
        before = stage.at;
        stage.advance();
      }
      wgmma_wait<0>();
#pragma unroll
      for (int j = 0; j < Cut::kColumns / 2; ++j) keep_after_wait(sums[j]);
      if (lane == 0) arrive(empty + before);
#pragma unroll 1
      for (int chunk = 0; chunk < Cut::kColumns / 32 && column + chunk * 32 < b.columns; ++chunk) {
#pragma unroll
        for (int c = 0; c < Cut::kColumns / 32; ++c)
          if (c == chunk) {  // so that which registers they are is known when it is compiled
#pragma unroll
            for (int j = 0; j < 16; j += 2)
              *reinterpret_cast<float2*>(mine + j % 4 / 2 * 8 * kStagedStride + j / 4 * 8) =
                  make_float2(sums[16 * c + j], sums[16 * c + j + 1]);
          }
        __syncwarp();
        finish_block(staged, first_row, column + chunk * 32, finish);
        __syncwarp();
      }
    }
  }
#endif
}

/// launch_weight_grad of bf16 operands of which one is gathered, where why_not_hopper has nothing against it.
/// a: c's rows, b: its columns.
inline void launch_weight_hopper(const PlanRows& a, const PlanRows& b, const ExpertsArgs& f,
                                 const Output& out, int multiprocessors, cudaStream_t stream) {
  if (f.experts == 0 || a.columns == 0 || b.columns == 0) return;
  using Cut = HopperWeights;
  const Index tiles = f.experts * ceil_div(a.columns, Cut::kRows) * ceil_div(b.columns, Cut::kColumns);
  const auto grid = static_cast<unsigned>(std::min<Index>(multiprocessors, tiles));
  const PlanRows& dense = a.index != nullptr ? b : a;
  // of no rows at all there is nothing to read, but a map has to have a row
  const auto rows = static_cast<std::uint64_t>(std::max<Index>(1, f.x.rows * f.top_k));
  const CUtensorMap whole =
      tensor_map(dense.data, std::array{static_cast<std::uint64_t>(dense.columns), rows},
                 std::array{static_cast<std::uint64_t>(dense.stride) * 2}, std::array{64U, 64U});
  if (a.index != nullptr)
    HONE_LAUNCH((expert_weight_hopper<true>), grid, Cut::kThreads, Cut::kSharedBytes, stream, whole, a, b,
                f.offsets, static_cast<int>(f.experts), out);
  else
    HONE_LAUNCH((expert_weight_hopper<false>), grid, Cut::kThreads, Cut::kSharedBytes, stream, whole, a, b,
                f.offsets, static_cast<int>(f.experts), out);
}

}  // namespace hone::kernels::cuda
