// The gradients' norm and the optimizers: one pass over everything.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

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
__global__ void finish_norm_scalars(StepScalars* s, float max_norm, const float* loss) {
  const float norm = static_cast<float>(sqrt(s->sum_of_squares));
  const bool finite = isfinite(norm) && (loss == nullptr || isfinite(*loss));
  s->grad_norm = norm;
  s->skip = finite ? 0 : 1;
  s->clip_factor = max_norm > 0 && finite && max_norm < norm + 1e-6F ? max_norm / (norm + 1e-6F) : 1.0F;
}

}  // namespace

HONE_NO_SCRATCH(FinishNormArgs)
void finish_norm(const FinishNormArgs& a, Stream& stream) {
  HONE_LAUNCH(finish_norm_scalars, 1, 1, 0, cuda_stream(stream), a.scalars, a.max_norm,
              a.has_loss ? a.loss : nullptr);
}

namespace {
template <typename G>
__global__ void adamw_packs(AdamWArgs a, bool vectors) {
  const StepScalars& s = *a.scalars;
  const Index at = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kPack, n = a.n - at;
  if (s.skip != 0 || n <= 0) return;
  const float correction2 = 1.0F / sqrtf(s.bias_correction2), learning_rate = a.rate_scale * s.learning_rate;
  const float rate = learning_rate / s.bias_correction1, keep = 1.0F - learning_rate * a.weight_decay;
  float grad[kPack], avg[kPack], avg_sq[kPack], master[kPack];
  load(static_cast<const G*>(a.grad) + at, n, vectors, grad);
  load(a.exp_avg + at, n, vectors, avg);
  load(a.exp_avg_sq + at, n, vectors, avg_sq);
  load(a.master + at, n, vectors, master);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    const float g = grad[i] * s.clip_factor;
    avg[i] = fmaf(a.beta1, avg[i], (1.0F - a.beta1) * g);
    avg_sq[i] = fmaf(a.beta2, avg_sq[i], (1.0F - a.beta2) * g * g);
    const float denominator = fmaf(sqrtf(avg_sq[i]), correction2, a.eps);
    master[i] = fmaf(-rate, avg[i] / denominator, keep * master[i]);
  }
  store(a.exp_avg + at, n, vectors, avg);
  store(a.exp_avg_sq + at, n, vectors, avg_sq);
  store(a.master + at, n, vectors, master);
  if (a.has_weight) store(static_cast<__nv_bfloat16*>(a.weight) + at, n, vectors, master);
}

}  // namespace

HONE_NO_SCRATCH(AdamWArgs)
void adamw(const AdamWArgs& a, Stream& stream) {
  if (a.n == 0) return;
  const bool vectors = is_aligned(a.master) && is_aligned(a.grad) && is_aligned(a.exp_avg) &&
                       is_aligned(a.exp_avg_sq) && (!a.has_weight || is_aligned(a.weight));
  with_dtype(a.grad_dtype, [&](auto g) {
    HONE_LAUNCH(adamw_packs<TypeOf<decltype(g)>>, blocks_for(ceil_div(a.n, kPack)), kThreads, 0,
                cuda_stream(stream), a, vectors);
  });
}

namespace {
template <typename G>
__global__ void sgd_packs(SgdArgs a, bool vectors) {
  const StepScalars& s = *a.scalars;
  const Index at = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kPack, n = a.n - at;
  if (s.skip != 0 || n <= 0) return;
  const float rate = a.rate_scale * s.learning_rate;
  float step[kPack], buffer[kPack], master[kPack];
  load(static_cast<const G*>(a.grad) + at, n, vectors, step);
  load(a.master + at, n, vectors, master);
  if (a.momentum != 0 && !a.first) load(a.momentum_buffer + at, n, vectors, buffer);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    step[i] = fmaf(a.weight_decay, master[i], step[i] * s.clip_factor);
    if (a.momentum != 0 && !a.first) step[i] = fmaf(a.momentum, buffer[i], step[i]);
    master[i] = fmaf(-rate, step[i], master[i]);
  }
  if (a.momentum != 0) store(a.momentum_buffer + at, n, vectors, step);
  store(a.master + at, n, vectors, master);
  if (a.has_weight) store(static_cast<__nv_bfloat16*>(a.weight) + at, n, vectors, master);
}

}  // namespace

HONE_NO_SCRATCH(SgdArgs)
void sgd(const SgdArgs& a, Stream& stream) {
  if (a.n == 0) return;
  const bool vectors = is_aligned(a.master) && is_aligned(a.grad) &&
                       (a.momentum == 0 || is_aligned(a.momentum_buffer)) &&
                       (!a.has_weight || is_aligned(a.weight));
  with_dtype(a.grad_dtype, [&](auto g) {
    HONE_LAUNCH(sgd_packs<TypeOf<decltype(g)>>, blocks_for(ceil_div(a.n, kPack)), kThreads, 0,
                cuda_stream(stream), a, vectors);
  });
}

}  // namespace hone::kernels::cuda
