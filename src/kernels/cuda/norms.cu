// rms_norm and its gradient.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

/// weight, or with unit_offset 1 + weight.
template <typename T>
struct NormWeight {
  const T* data;
  float offset;
  bool vectors;
  __device__ __forceinline__ void at(Index col, Index n, float (&w)[kPack]) const {
    load(data + col, n, vectors, w);
#pragma unroll
    for (int i = 0; i < kPack; ++i) w[i] += offset;
  }
};
template <typename T>
NormWeight<T> norm_weight(const void* data, bool unit_offset) {
  return {static_cast<const T*>(data), unit_offset ? 1.0F : 0.0F, is_aligned(data)};
}

/// One block a row.
template <typename X, typename T, typename Y>
__global__ void rms_norm_rows(Rows<const X> x, NormWeight<T> weight, Rows<const float> residual, Rows<Y> y,
                              float* rstd, Index cols, float eps, bool vectors) {
  begin_kernel();
  const Index row = blockIdx.x;
  float squares = 0, v[kPack], w[kPack], add[kPack] = {};
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(x.at(row, col), cols - col, vectors, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) squares = fmaf(v[i], v[i], squares);
  }
  // rounded once: what is wrong with it is wrong with the whole row
  const double mean = static_cast<double>(block_sum(squares)) / static_cast<double>(cols);
  const float scale = static_cast<float>(1.0 / sqrt(mean + static_cast<double>(eps)));
  if (rstd != nullptr && threadIdx.x == 0) rstd[row] = scale;
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(x.at(row, col), cols - col, vectors, v);
    weight.at(col, cols - col, w);
    if (residual.data != nullptr) load(residual.at(row, col), cols - col, vectors, add);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = v[i] * scale * w[i] + add[i];
    store(y.at(row, col), cols - col, vectors, v);
  }
}

}  // namespace

HONE_NO_SCRATCH(RmsNormArgs)
void rms_norm(const RmsNormArgs& a, Stream& stream) {
  if (a.x.rows == 0) return;
  const bool vectors = has_vectors(a.x) && has_vectors(a.y) && has_vectors(a.residual);
  with_dtype(a.weight_dtype, [&](auto t) {
    with_dtype(a.x.dtype, [&](auto x) {
      with_dtype(a.y.dtype, [&](auto y) {
        using T = TypeOf<decltype(t)>;
        using X = TypeOf<decltype(x)>;
        using Y = TypeOf<decltype(y)>;
        HONE_LAUNCH((rms_norm_rows<X, T, Y>), static_cast<unsigned>(a.x.rows), threads_for_row(a.x.cols), 0,
                    cuda_stream(stream), rows_of<const X>(a.x), norm_weight<T>(a.weight, a.unit_offset),
                    rows_of<const float>(a.residual), rows_of<Y>(a.y), a.wants_rstd ? a.rstd : nullptr,
                    a.x.cols, a.eps, vectors);
      });
    });
  });
}

namespace {
/// With n = x * rstd: dx = rstd * (weight * dy - n * mean(n * weight * dy)). One block a row.
template <typename D, typename X, typename T, typename DX>
__global__ void rms_norm_input_grad(Rows<const D> dy, Rows<const X> x, NormWeight<T> weight,
                                    const float* rstd, Rows<DX> dx, Index cols, bool accumulate,
                                    bool vectors) {
  begin_kernel();
  const Index row = blockIdx.x;
  float dot = 0, d[kPack], v[kPack], w[kPack], before[kPack] = {};
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(dy.at(row, col), cols - col, vectors, d);
    load(x.at(row, col), cols - col, vectors, v);
    weight.at(col, cols - col, w);
#pragma unroll
    for (int i = 0; i < kPack; ++i) dot = fmaf(v[i], w[i] * d[i], dot);
  }
  const double r = static_cast<double>(rstd[row]);
  const float scale = rstd[row];
  const float mean =
      static_cast<float>(static_cast<double>(block_sum(dot)) * r * r * r / static_cast<double>(cols));
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(dy.at(row, col), cols - col, vectors, d);
    load(x.at(row, col), cols - col, vectors, v);
    weight.at(col, cols - col, w);
    if (accumulate) load(dx.at(row, col), cols - col, vectors, before);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = fmaf(-mean, v[i], w[i] * d[i] * scale) + before[i];
    store(dx.at(row, col), cols - col, vectors, v);
  }
}

/// The terms of the weight's gradient.
template <typename D, typename X>
struct WeightGradTerms {
  Rows<const D> dy;
  Rows<const X> x;
  const float* rstd;
  bool vectors;
  __device__ __forceinline__ void add(Index row, Index col, Index n, float (&sum)[kPack]) const {
    float d[kPack], v[kPack];
    load(dy.at(row, col), n, vectors, d);
    load(x.at(row, col), n, vectors, v);
    const float scale = rstd[row];
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] = fmaf(v[i] * scale, d[i], sum[i]);
  }
};

}  // namespace

std::int64_t scratch_bytes_of(const RmsNormGradArgs& a) {
  return a.wants_dweight ? column_scratch_bytes(a.x.rows, a.x.cols) : 0;
}
void rms_norm_grad(const RmsNormGradArgs& a, Stream& stream) {
  const bool vectors = has_vectors(a.dy) && has_vectors(a.x) && has_vectors(a.dx);
  const Index rows = a.x.rows, cols = a.x.cols;
  with_dtype(a.dy.dtype, [&](auto d) {
    with_dtype(a.x.dtype, [&](auto x) {
      using D = TypeOf<decltype(d)>;
      using X = TypeOf<decltype(x)>;
      if (a.wants_dweight)  // before the input's gradient, which may be written over dy
        sum_columns(WeightGradTerms<D, X>{rows_of<const D>(a.dy), rows_of<const X>(a.x), a.rstd, vectors},
                    rows, cols, a.dweight, a.dweight_dtype, a.accumulate_dweight, stream);
      if (!a.dx.given() || rows == 0) return;
      with_dtype(a.weight_dtype, [&](auto t) {
        with_dtype(a.dx.dtype, [&](auto dx) {
          using T = TypeOf<decltype(t)>;
          using DX = TypeOf<decltype(dx)>;
          HONE_LAUNCH((rms_norm_input_grad<D, X, T, DX>), static_cast<unsigned>(rows), threads_for_row(cols),
                      0, cuda_stream(stream), rows_of<const D>(a.dy), rows_of<const X>(a.x),
                      norm_weight<T>(a.weight, a.unit_offset), a.rstd, rows_of<DX>(a.dx), cols,
                      a.accumulate_dx, vectors);
        });
      });
    });
  });
}

}  // namespace hone::kernels::cuda
