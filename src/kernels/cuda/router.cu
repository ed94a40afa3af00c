// The choice of experts and its gradient: one warp a token.
#include <cfloat>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {
namespace {

using Score = RouterRule::Score;
using GroupScore = RouterRule::GroupScore;

constexpr unsigned kAll = 0xffffffffU;  // lanes
constexpr unsigned kTaken = 0;          // below the key of every number

/// Keys are numbers as integers in the same order; -0 is 0.
__device__ __forceinline__ unsigned key_of(float x) {
  const unsigned bits = __float_as_uint(x + 0.0F);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ __forceinline__ float number_of(unsigned key) {
  return __uint_as_float((key >> 31) != 0 ? key & 0x7fffffffU : ~key);
}
/// What is no number, or below all that are finite, is the least of these.
__device__ __forceinline__ float at_least_lowest(float x) {
  return x > -FLT_MAX ? x : -FLT_MAX;
}

__device__ __forceinline__ float warp_max(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(kAll, x, lanes));
  return x;
}
__device__ __forceinline__ float warp_sum(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAll, x, lanes);
  return x;
}

struct Best {
  unsigned key = kTaken, index = ~0U;
};
/// Of the keys lane, lane + 32 … .
__device__ __forceinline__ Best best_of_lane(const unsigned* keys, int n, int lane) {
  Best best;
  for (int i = lane; i < n; i += 32)
    if (keys[i] > best.key) best = {keys[i], static_cast<unsigned>(i)};
  return best;
}
/// The `count` largest of a warp's n keys, the lower index first among equals: each becomes kTaken, after
/// chosen(slot, index) was called in all lanes. Lane i reads and writes keys i, i + 32 … alone.
template <typename F>
__device__ __forceinline__ void take_largest(unsigned* keys, int n, int count, int lane, F chosen) {
  Best mine = best_of_lane(keys, n, lane);
  for (int slot = 0; slot < count; ++slot) {
    const unsigned key = __reduce_max_sync(kAll, mine.key);
    const unsigned index = __reduce_min_sync(kAll, mine.key == key ? mine.index : ~0U);
    chosen(slot, static_cast<int>(index));
    if (mine.index != index) continue;
    keys[index] = kTaken;
    mine = best_of_lane(keys, n, lane);
  }
}

/// Leaves of the experts' keys those of the best groups; the others become that of -infinity.
__device__ void keep_best_groups(const RouterRule& rule, unsigned* keys, unsigned* group_keys, int experts,
                                 int lane) {
  const int groups = static_cast<int>(rule.groups), size = experts / groups;
  for (int g = lane; g < groups; g += 32) {
    float best = -INFINITY, second = -INFINITY;
    int at = lane % size;  // lanes begin apart: sizes are often a multiple of the banks
    for (int i = 0; i < size; ++i) {
      const float x = number_of(keys[g * size + at]);
      second = fmaxf(second, fminf(best, x));
      best = fmaxf(best, x);
      at = at + 1 == size ? 0 : at + 1;
    }
    group_keys[g] = key_of(at_least_lowest(rule.group_score == GroupScore::kMax ? best : best + second));
  }
  take_largest(group_keys, groups, static_cast<int>(rule.top_groups), lane, [](int, int) {});
  __syncwarp();
  for (int e = lane; e < experts; e += 32)
    if (group_keys[e / size] != kTaken) keys[e] = key_of(-INFINITY);
}

/// Of a warp: the keys of experts, and of groups where there are any.
__host__ __device__ Index keys_of(const RouterArgs& a) {
  return a.experts + (a.rule.groups > 1 ? a.rule.groups : 0);
}

/// Blocks of (32, any) threads.
__global__ void route_tokens(RouterArgs a, bool by_logit) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned, shared);
  const Index token = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (token >= a.tokens) return;
  const int lane = static_cast<int>(threadIdx.x), experts = static_cast<int>(a.experts);
  const RouterRule& rule = a.rule;
  unsigned* keys = shared + threadIdx.y * keys_of(a);
  const float* logits = a.logits + token * a.experts;
  float* probabilities = a.probabilities + token * a.experts;
  float largest = -INFINITY, sum = 0;
  for (int e = lane; e < experts; e += 32) largest = fmaxf(largest, logits[e]);
  largest = warp_max(largest);
  for (int e = lane; e < experts; e += 32) sum += expf(logits[e] - largest);
  sum = warp_sum(sum);
  for (int e = lane; e < experts; e += 32) {
    const float logit = logits[e];
    const float p = rule.score == Score::kSigmoid ? sigmoid(logit) : expf(logit - largest) / sum;
    probabilities[e] = p;
    const float bias = a.has_correction_bias ? a.correction_bias[e] : 0.0F;
    keys[e] = key_of(at_least_lowest((by_logit ? logit : p) + bias));
  }
  __syncwarp();
  if (rule.top_groups < rule.groups) keep_best_groups(rule, keys, keys + experts, experts, lane);

  std::int32_t* chosen = a.experts_of + token * a.top_k;
  const int top_k = static_cast<int>(a.top_k);
  take_largest(keys, experts, top_k, lane, [&](int slot, int e) {
    if (lane == 0) chosen[slot] = e;
  });
  __syncwarp();
  const bool of_chosen = rule.score == Score::kSoftmaxOfChosen;
  largest = -INFINITY;
  if (of_chosen) {
    for (int i = lane; i < top_k; i += 32) largest = fmaxf(largest, logits[chosen[i]]);
    largest = warp_max(largest);
  }
  const auto raw = [&](int e) { return of_chosen ? expf(logits[e] - largest) : probabilities[e]; };
  float divisor = 1;
  if (of_chosen || rule.normalize) {
    sum = 0;
    for (int i = lane; i < top_k; i += 32) sum += raw(chosen[i]);
    divisor = warp_sum(sum) + (rule.normalize ? rule.normalize_eps : 0.0F);
  }
  float* weights = a.weights + token * a.top_k;
  for (int i = lane; i < top_k; i += 32) weights[i] = raw(chosen[i]) / divisor * rule.scaling;
}

/// dlogits of one warp's token; it has memory of a float an expert. No expert is chosen twice.
template <typename Out>
__global__ void route_tokens_grad(RouterGradArgs a, Out* dlogits) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(float, shared);
  const Index token = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (token >= a.tokens) return;
  const int lane = static_cast<int>(threadIdx.x), experts = static_cast<int>(a.experts);
  const int top_k = static_cast<int>(a.top_k);
  const RouterRule& rule = a.rule;
  const bool of_chosen = rule.score == Score::kSoftmaxOfChosen;
  float* by_weight =
      shared + threadIdx.y * a.experts;  // of the logits if of_chosen, else of the probabilities
  const float* p = a.probabilities + token * a.experts;
  const std::int32_t* chosen = a.experts_of + token * a.top_k;
  for (int e = lane; e < experts; e += 32) by_weight[e] = 0;
  __syncwarp();
  if (a.has_dweights) {
    const float* w = a.weights + token * a.top_k;
    const float* dw = a.dweights + token * a.top_k;
    float sum = 0, mean = 0;
    for (int i = lane; i < top_k; i += 32) {
      if (chosen[i] < 0) continue;
      sum += p[chosen[i]];
      mean = fmaf(dw[i], w[i], mean);
    }
    sum = warp_sum(sum) + rule.normalize_eps;
    mean = warp_sum(mean);
    for (int i = lane; i < top_k; i += 32) {
      if (chosen[i] < 0) continue;
      const float scaled = rule.scaling * dw[i];
      // w = scaling * softmax of the chosen; else scaling * p, or scaling * p / sum
      by_weight[chosen[i]] = of_chosen        ? w[i] / rule.scaling * (scaled - mean)
                             : rule.normalize ? (scaled - mean) / sum
                                              : scaled;
    }
    __syncwarp();
  }
  const auto of_probability = [&](int e) {
    const float d = a.has_dprobability_sums ? a.dprobability_sums[e] : 0.0F;
    return of_chosen ? d : d + by_weight[e];
  };
  float mean = 0;
  for (int e = lane; e < experts; e += 32) mean = fmaf(of_probability(e), p[e], mean);
  mean = warp_sum(mean);
  for (int e = lane; e < experts; e += 32) {
    const float d = of_probability(e);
    const float by_p = rule.score == Score::kSigmoid ? d * p[e] * (1.0F - p[e]) : p[e] * (d - mean);
    put(dlogits[token * a.experts + e], of_chosen ? by_p + by_weight[e] : by_p);
  }
}

/// Warps of a block, each with so many bytes of shared memory. (99 KiB are 12,000 experts, or more.)
unsigned warps_with(Index bytes) {
  unsigned warps = 4;
  while (warps > 1 && warps * bytes > static_cast<Index>(kSharedBytes)) warps /= 2;
  return warps;
}

}  // namespace

std::int64_t scratch_bytes_of(const RouterArgs& a) {
  return column_scratch_bytes(a.tokens, a.experts);
}
void router(const RouterArgs& a, Stream& stream) {
  // a softmax keeps the logits' order, and tells them apart where it has become 0
  const bool by_logit = a.rule.score == Score::kSoftmaxOfChosen ||
                        (a.rule.score == Score::kSoftmax && !a.has_correction_bias &&
                         (a.rule.groups == 1 || a.rule.group_score == GroupScore::kMax));
  if (a.tokens > 0) {
    const Index bytes = keys_of(a) * static_cast<Index>(sizeof(unsigned));
    const unsigned warps = warps_with(bytes);
    HONE_LAUNCH(route_tokens, static_cast<unsigned>(ceil_div(a.tokens, warps)), dim3(32, warps),
                static_cast<std::size_t>(warps * bytes), cuda_stream(stream), a, by_logit);
  }
  const Matrix all{a.probabilities, DType::kF32, a.tokens, a.experts, a.experts};
  sum_columns(RowTerms<float>{rows_of<const float>(all), has_vectors(all)}, a.tokens, a.experts,
              a.probability_sums, DType::kF32, false, stream);
}

HONE_NO_SCRATCH(RouterGradArgs)
void router_grad(const RouterGradArgs& a, Stream& stream) {
  if (a.tokens == 0) return;
  const Index bytes = a.experts * static_cast<Index>(sizeof(float));
  const unsigned warps = warps_with(bytes);
  with_dtype(a.dlogits_dtype, [&](auto out) {
    using Out = TypeOf<decltype(out)>;
    HONE_LAUNCH(route_tokens_grad<Out>, static_cast<unsigned>(ceil_div(a.tokens, warps)), dim3(32, warps),
                static_cast<std::size_t>(warps * bytes), cuda_stream(stream), a,
                static_cast<Out*>(a.dlogits));
  });
}

}  // namespace hone::kernels::cuda
