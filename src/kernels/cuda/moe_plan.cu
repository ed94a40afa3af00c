// The plan of a mixture of experts: a stable counting sort of (token, slot) pairs by expert. Pairs are cut
// into segments, one warp each: the first kernel counts each segment's pairs of every expert, the second sums
// those of the segments before, the third ranks the pairs. Integers alone: the same whatever the order.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

constexpr unsigned kAll = 0xffffffffU;  // lanes
constexpr int kBatch = 8;               // loads of a lane that are on their way at once

struct Segments {
  Index count, pairs;  // pairs: of each but the last
};
/// At least 256 pairs a segment, at most 1,024 segments.
Segments segments_of(const MoePlanArgs& a) {
  constexpr Index kLeast = 32 * kBatch, kMost = 1024;
  const Index pairs = a.tokens * a.top_k, each = ceil_div(ceil_div(pairs, kMost), kLeast) * kLeast;
  return {pairs > 0 ? ceil_div(pairs, each) : 0, each};
}

/// numbers[i] is from[i * 32], or `missing` where that is not below end.
__device__ __forceinline__ void load_batch(const std::int32_t* from, const std::int32_t* end, int missing,
                                           int (&numbers)[kBatch]) {
#pragma unroll
  for (int i = 0; i < kBatch; ++i) numbers[i] = from + i * 32 < end ? from[i * 32] : missing;
}
/// The sum of this lane's number and of those of the lanes before.
__device__ __forceinline__ int sum_to_lane(int x, int lane) {
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int before = __shfl_up_sync(kAll, x, static_cast<unsigned>(lanes));
    if (lane >= lanes) x += before;
  }
  return x;
}

/// of_segments: (experts, segments).
__global__ void count_pairs(const std::int32_t* experts_of, Index pairs, Index pairs_of_segment, int experts,
                            std::int32_t* of_segments) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(int, counts);
  const int lane = static_cast<int>(threadIdx.x);
  for (int e = lane; e < experts; e += 32) counts[e] = 0;
  __syncwarp();
  const Index begin = blockIdx.x * pairs_of_segment;
  const Index end = begin + pairs_of_segment < pairs ? begin + pairs_of_segment : pairs;
  for (Index base = begin; base < end; base += 32 * kBatch) {
    int expert[kBatch];
    load_batch(experts_of + base + lane, experts_of + end, -1, expert);
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      if (expert[i] >= 0) atomicAdd(&counts[expert[i]], 1);
  }
  __syncwarp();
  for (int e = lane; e < experts; e += 32)
    of_segments[static_cast<Index>(e) * gridDim.x + blockIdx.x] = counts[e];
}

/// One warp an expert: its pairs in all segments, and in place of those in each, those in the ones before.
__global__ void sum_segments(std::int32_t* of_segments, Index segments, int experts, std::int32_t* counts) {
  begin_kernel();
  const int expert = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y);
  const int lane = static_cast<int>(threadIdx.x);
  if (expert >= experts) return;
  std::int32_t* row = of_segments + expert * segments;
  int sum = 0;
  for (Index base = 0; base < segments; base += 32 * kBatch) {
    int count[kBatch];
    load_batch(row + base + lane, row + segments, 0, count);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int to_here = sum + sum_to_lane(count[i], lane);
      if (base + i * 32 + lane < segments) row[base + i * 32 + lane] = to_here - count[i];
      sum = __shfl_sync(kAll, to_here, 31);
    }
  }
  if (lane == 0) counts[expert] = sum;
}

/// before: what sum_segments leaves. segments may be 0, for one block.
__global__ void rank_pairs(MoePlanArgs a, const std::int32_t* before, Index segments,
                           Index pairs_of_segment) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(int, next);  // row of each expert
  const int lane = static_cast<int>(threadIdx.x), experts = static_cast<int>(a.experts);
  int sum = 0;
  for (int base = 0; base < experts; base += 32 * kBatch) {
    int count[kBatch];
    load_batch(a.counts + base + lane, a.counts + experts, 0, count);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int expert = base + i * 32 + lane, to_here = sum + sum_to_lane(count[i], lane);
      sum = __shfl_sync(kAll, to_here, 31);
      if (expert >= experts) continue;
      const int first = to_here - count[i];
      if (blockIdx.x == 0) a.offsets[expert] = first;
      if (segments > 0) next[expert] = first + before[expert * segments + blockIdx.x];
    }
  }
  if (blockIdx.x == 0 && lane == 0) a.offsets[experts] = sum;
  __syncwarp();
  const Index pairs = a.tokens * a.top_k, begin = blockIdx.x * pairs_of_segment;
  const Index end = begin + pairs_of_segment < pairs ? begin + pairs_of_segment : pairs;
  for (Index base = begin; base < end; base += 32 * kBatch) {
    int expert[kBatch];
    load_batch(a.experts_of + base + lane, a.experts_of + end, -1, expert);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const Index pair = base + i * 32 + lane;
      const int e = expert[i];
      const unsigned same = __match_any_sync(kAll, e);
      const int rank = __popc(same & ((1U << lane) - 1U));  // pairs of this expert in lanes before
      const int row = e >= 0 ? next[e] + rank : -1;
      __syncwarp();
      if (e >= 0 && rank == 0) next[e] += __popc(same);
      __syncwarp();
      if (pair < end) a.inverse[pair] = row;
      if (e >= 0) a.permutation[row] = static_cast<std::int32_t>(pair);
    }
  }
}

}  // namespace

std::int64_t scratch_bytes_of(const MoePlanArgs& a) {
  return a.experts * segments_of(a).count * static_cast<Index>(sizeof(std::int32_t));
}
void moe_plan(const MoePlanArgs& a, Stream& stream) {
  const Segments s = segments_of(a);
  const int experts = static_cast<int>(a.experts);
  const std::size_t shared = static_cast<std::size_t>(a.experts) * sizeof(int);
  std::int32_t* of_segments = nullptr;
  if (s.count > 0) {
    of_segments =
        static_cast<std::int32_t*>(stream.shared_workspace(static_cast<std::size_t>(scratch_bytes_of(a))));
    HONE_LAUNCH(count_pairs, static_cast<unsigned>(s.count), 32, shared, cuda_stream(stream), a.experts_of,
                a.tokens * a.top_k, s.pairs, experts, of_segments);
  }
  constexpr unsigned kWarps = 4;
  HONE_LAUNCH(sum_segments, static_cast<unsigned>(ceil_div(a.experts, kWarps)), dim3(32, kWarps), 0,
              cuda_stream(stream), of_segments, s.count, experts, a.counts);
  HONE_LAUNCH(rank_pairs, static_cast<unsigned>(s.count > 0 ? s.count : 1), 32, shared, cuda_stream(stream),
              a, of_segments, s.count, s.pairs);
}

}  // namespace hone::kernels::cuda
