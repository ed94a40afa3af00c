// The gradients' norm and the optimizers: one pass over everything.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/moments.h"

namespace hone::kernels::cuda {
namespace {

constexpr Index kSquaresOfBlock = 16384;

/// In double, whatever the card's rate: 2 operations on 2 or 4 bytes from memory.
template <typename T>
__global__ void squares_of_chunks(const T* x, Index n, double* sums, bool vectors) {
  const Index begin = static_cast<Index>(blockIdx.x) * kSquaresOfBlock;
  const Index end = begin + kSquaresOfBlock < n ? begin + kSquaresOfBlock : n;
  double sum = 0;
  float v[kPack];
  for (Index at = begin + threadIdx.x * kPack; at < end; at += kThreads * kPack) {
    load(x + at, end - at, vectors, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
__global__ void add_squares(const double* sums, Index n, StepScalars* scalars) {
  double sum = 0;
  for (Index i = threadIdx.x; i < n; i += kThreads) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) scalars->sum_of_squares += sum;
}

}  // namespace

std::int64_t scratch_bytes_of(const SumOfSquaresArgs& a) {
  return ceil_div(a.n, kSquaresOfBlock) * static_cast<Index>(sizeof(double));
}
void sum_of_squares(const SumOfSquaresArgs& a, Stream& stream) {
  if (a.n == 0) return;
  const Index chunks = ceil_div(a.n, kSquaresOfBlock);
  auto* sums = static_cast<double*>(stream.shared_workspace(static_cast<std::size_t>(scratch_bytes_of(a))));
  with_dtype(a.dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    HONE_LAUNCH(squares_of_chunks<T>, static_cast<unsigned>(chunks), kThreads, 0, cuda_stream(stream),
                static_cast<const T*>(a.x), a.n, sums, is_aligned(a.x));
  });
  HONE_LAUNCH(add_squares, 1, kThreads, 0, cuda_stream(stream), sums, chunks, a.scalars);
}

namespace {
__global__ void finish_norm_scalars(StepScalars* s, float max_norm, bool by_clip_norm, const float* loss) {
  s->grad_norm = static_cast<float>(sqrt(s->sum_of_squares));
  const bool finite = isfinite(s->grad_norm) && (loss == nullptr || isfinite(*loss));
  const float norm = by_clip_norm ? s->clip_norm : s->grad_norm;
  s->skip = finite ? 0 : 1;
  s->clip_factor = max_norm > 0 && finite && max_norm < norm + 1e-6F ? max_norm / (norm + 1e-6F) : 1.0F;
}

}  // namespace

HONE_NO_SCRATCH(FinishNormArgs)
void finish_norm(const FinishNormArgs& a, Stream& stream) {
  HONE_LAUNCH(finish_norm_scalars, 1, 1, 0, cuda_stream(stream), a.scalars, a.max_norm, a.by_clip_norm,
              a.has_loss ? a.loss : nullptr);
}

namespace {

__device__ __forceinline__ void load_master(const void* master, float, Index at, Index n, bool vectors,
                                            float (&v)[kPack]) {
  load(static_cast<const float*>(master) + at, n, vectors, v);
}
__device__ __forceinline__ void load_master(const void* master, __nv_bfloat16, Index at, Index n,
                                            bool vectors, float (&v)[kPack]) {
  load(static_cast<const __nv_bfloat16*>(master) + at, n, vectors, v);
}
/// And the weights that are kept besides.
template <typename Args>
__device__ __forceinline__ void store_master(const Args& a, float, Index at, Index n, bool vectors,
                                             const float (&v)[kPack]) {
  store(static_cast<float*>(a.master) + at, n, vectors, v);
  if (a.has_weight) store(static_cast<__nv_bfloat16*>(a.weight) + at, n, vectors, v);
}
/// Rounded at random.
template <typename Args>
__device__ __forceinline__ void store_master(const Args& a, __nv_bfloat16, Index at, Index n, bool vectors,
                                             const float (&v)[kPack]) {
  const unsigned key = rounding_key(a.rounding_seed, a.scalars->step);
  float rounded[kPack];  // which are bf16 as they are
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    rounded[i] = __uint_as_float(static_cast<unsigned>(round_at_random(
                                     __float_as_uint(v[i]), rounding_bits(key, a.first_index + at + i)))
                                 << 16);
  store(static_cast<__nv_bfloat16*>(a.master) + at, n, vectors, rounded);
}

/// From the gradients of a pack to its moments and masters.
__device__ __forceinline__ void adamw_pack(const AdamWArgs& a, const StepScalars& s,
                                           const float (&grad)[kPack], float (&avg)[kPack],
                                           float (&avg_sq)[kPack], float (&master)[kPack]) {
  const float correction2 = 1.0F / sqrtf(s.bias_correction2), learning_rate = a.rate_scale * s.learning_rate;
  const float rate = learning_rate / s.bias_correction1, keep = 1.0F - learning_rate * a.weight_decay;
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    const float g = grad[i] * s.clip_factor;
    avg[i] = fmaf(a.beta1, avg[i], (1.0F - a.beta1) * g);
    avg_sq[i] = fmaf(a.beta2, avg_sq[i], (1.0F - a.beta2) * g * g);
    const float denominator = fmaf(sqrtf(avg_sq[i]), correction2, a.eps);
    master[i] = fmaf(-rate, avg[i] / denominator, keep * master[i]);
  }
}

template <typename G, typename M>
__global__ void adamw_packs(AdamWArgs a, bool vectors) {
  const StepScalars& s = *a.scalars;
  const Index at = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kPack, n = a.n - at;
  if (s.skip != 0 || n <= 0) return;
  auto *exp_avg = static_cast<float*>(a.exp_avg), *exp_avg_sq = static_cast<float*>(a.exp_avg_sq);
  float grad[kPack], avg[kPack], avg_sq[kPack], master[kPack];
  load(static_cast<const G*>(a.grad) + at, n, vectors, grad);
  load(exp_avg + at, n, vectors, avg);
  load(exp_avg_sq + at, n, vectors, avg_sq);
  load_master(a.master, M{}, at, n, vectors, master);
  adamw_pack(a, s, grad, avg, avg_sq, master);
  store(exp_avg + at, n, vectors, avg);
  store(exp_avg_sq + at, n, vectors, avg_sq);
  store_master(a, M{}, at, n, vectors, master);
}

static_assert(kMomentBlock == 32 * kPack, "a warp has a block of moments");

__device__ __forceinline__ float largest_of_warp(const float (&v)[kPack]) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kPack; ++i) largest = fmaxf(largest, fabsf(v[i]));
  for (int lanes = 16; lanes > 0; lanes /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, lanes));
  return largest;
}
/// The n (at most kPack count) bytes at p, then 0.
__device__ __forceinline__ void load_codes(const unsigned char* p, Index n, bool vectors,
                                           unsigned char (&codes)[kPack]) {
  if (vectors && n >= kPack) {
    const uint2 words = *reinterpret_cast<const uint2*>(p);
    memcpy(codes, &words, sizeof words);
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) codes[i] = i < n ? p[i] : static_cast<unsigned char>(0);
}
__device__ __forceinline__ void store_codes(unsigned char* p, Index n, bool vectors,
                                            const unsigned char (&codes)[kPack]) {
  if (vectors && n >= kPack) {
    uint2 words;
    memcpy(&words, codes, sizeof words);
    *reinterpret_cast<uint2*>(p) = words;
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < n) p[i] = codes[i];
}

/// Blocks of moments that a warp does: so many that bringing the levels costs little (3 KiB, beside 16 KiB of
/// moments, gradients and masters for every 8 blocks).
constexpr Index kBlocksOfWarp = 8;

template <typename G, typename M>
__global__ void adamw_coded(AdamWArgs a, const __grid_constant__ MomentLevels given, bool vectors) {
  HONE_SHARED(float, shared, [sizeof(MomentLevels) / sizeof(float)]);
  const StepScalars& s = *a.scalars;
  if (s.skip != 0) return;
  const auto* numbers = reinterpret_cast<const float*>(&given);
  for (unsigned i = threadIdx.x; i < sizeof(MomentLevels) / sizeof(float); i += kThreads)
    shared[i] = numbers[i];
  __syncthreads();
  const auto& levels = reinterpret_cast<const MomentLevels&>(shared);
  auto *exp_avg = static_cast<unsigned char*>(a.exp_avg),
       *exp_avg_sq = static_cast<unsigned char*>(a.exp_avg_sq);
  const Index warp = static_cast<Index>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  for (Index block = warp * kBlocksOfWarp; block < (warp + 1) * kBlocksOfWarp; ++block) {
    if (block * kMomentBlock >= a.n) return;  // the whole warp
    const Index at = block * kMomentBlock + threadIdx.x % 32 * kPack, n = a.n - at;
    unsigned char codes[kPack], codes_sq[kPack];
    float grad[kPack], avg[kPack], avg_sq[kPack], master[kPack];
    load(static_cast<const G*>(a.grad) + at, n, vectors, grad);
    load_codes(exp_avg + at, n, vectors, codes);
    load_codes(exp_avg_sq + at, n, vectors, codes_sq);
    load_master(a.master, M{}, at, n, vectors, master);
    const float old_scale = a.exp_avg_scales[block], old_scale_sq = a.exp_avg_sq_scales[block];
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      avg[i] = i < n ? old_scale * first_moment(levels, codes[i]) : 0.0F;
      avg_sq[i] = i < n ? old_scale_sq * levels.second[codes_sq[i]] : 0.0F;
    }
    adamw_pack(a, s, grad, avg, avg_sq, master);
    store_master(a, M{}, at, n, vectors, master);
    const float scale = largest_of_warp(avg), scale_sq = largest_of_warp(avg_sq);
    if (threadIdx.x % 32 == 0) {
      a.exp_avg_scales[block] = scale;
      a.exp_avg_sq_scales[block] = scale_sq;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      codes[i] = first_moment_code(levels, scale > 0 ? avg[i] / scale : 0);
      codes_sq[i] = second_moment_code(levels, scale_sq > 0 ? avg_sq[i] / scale_sq : 0);
    }
    store_codes(exp_avg + at, n, vectors, codes);
    store_codes(exp_avg_sq + at, n, vectors, codes_sq);
  }
}

}  // namespace

HONE_NO_SCRATCH(AdamWArgs)
void adamw(const AdamWArgs& a, Stream& stream) {
  if (a.n == 0) return;
  const bool vectors = is_aligned(a.master) && is_aligned(a.grad) && is_aligned(a.exp_avg) &&
                       is_aligned(a.exp_avg_sq) && (!a.has_weight || is_aligned(a.weight));
  with_dtype(a.grad_dtype, [&](auto g) {
    with_dtype(a.master_dtype, [&](auto m) {
      using G = TypeOf<decltype(g)>;
      using M = TypeOf<decltype(m)>;
      if (a.moments == MomentKind::kF32)
        HONE_LAUNCH((adamw_packs<G, M>), blocks_for(ceil_div(a.n, kPack)), kThreads, 0, cuda_stream(stream),
                    a, vectors);
      else
        HONE_LAUNCH((adamw_coded<G, M>),
                    static_cast<unsigned>(ceil_div(a.n, kMomentBlock * kBlocksOfWarp * (kThreads / 32))),
                    kThreads, 0, cuda_stream(stream), a, kMomentLevels, vectors);
    });
  });
}

namespace {
template <typename G, typename M>
__global__ void sgd_packs(SgdArgs a, bool vectors) {
  const StepScalars& s = *a.scalars;
  const Index at = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kPack, n = a.n - at;
  if (s.skip != 0 || n <= 0) return;
  const float rate = a.rate_scale * s.learning_rate;
  float step[kPack], buffer[kPack], master[kPack];
  load(static_cast<const G*>(a.grad) + at, n, vectors, step);
  load_master(a.master, M{}, at, n, vectors, master);
  if (a.momentum != 0 && !a.first) load(a.momentum_buffer + at, n, vectors, buffer);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    step[i] = fmaf(a.weight_decay, master[i], step[i] * s.clip_factor);
    if (a.momentum != 0 && !a.first) step[i] = fmaf(a.momentum, buffer[i], step[i]);
    master[i] = fmaf(-rate, step[i], master[i]);
  }
  if (a.momentum != 0) store(a.momentum_buffer + at, n, vectors, step);
  store_master(a, M{}, at, n, vectors, master);
}

}  // namespace

HONE_NO_SCRATCH(SgdArgs)
void sgd(const SgdArgs& a, Stream& stream) {
  if (a.n == 0) return;
  const bool vectors = is_aligned(a.master) && is_aligned(a.grad) &&
                       (a.momentum == 0 || is_aligned(a.momentum_buffer)) &&
                       (!a.has_weight || is_aligned(a.weight));
  with_dtype(a.grad_dtype, [&](auto g) {
    with_dtype(a.master_dtype, [&](auto m) {
      HONE_LAUNCH((sgd_packs<TypeOf<decltype(g)>, TypeOf<decltype(m)>>), blocks_for(ceil_div(a.n, kPack)),
                  kThreads, 0, cuda_stream(stream), a, vectors);
    });
  });
}

}  // namespace hone::kernels::cuda
