// rms_norm and its gradient.
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

/// With n = x * rstd: dx = rstd * (weight * dy - n * mean(n * weight * dy)). One block a row.
template <typename D, typename X, typename T, typename DX>
__global__ void rms_norm_input_grad(Rows<const D> dy, Rows<const X> x, NormWeight<T> weight,
                                    const float* rstd, Rows<DX> dx, Index cols, bool accumulate,
                                    bool vectors) {
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

// The weight's gradient: tiles of rows x 256 columns to one row of partial sums each, then those in order.
constexpr int kTileColumns = 256, kTileThreadRows = 8;

/// Blocks of (32, kTileThreadRows) threads; block (i, j) has columns 256 i … and rows j rows_of_tile … .
template <typename D, typename X>
__global__ void rms_norm_weight_grad(Rows<const D> dy, Rows<const X> x, const float* rstd, float* partial,
                                     Index rows, Index cols, Index rows_of_tile, bool vectors) {
  HONE_SHARED(float, sums, [kTileThreadRows][kTileColumns]);
  const Index first = static_cast<Index>(blockIdx.x) * kTileColumns, col = first + threadIdx.x * kPack;
  const Index begin = blockIdx.y * rows_of_tile;
  const Index end = begin + rows_of_tile < rows ? begin + rows_of_tile : rows;
  float sum[kPack] = {}, d[kPack], v[kPack];
  for (Index row = begin + threadIdx.y; row < end && col < cols; row += kTileThreadRows) {
    load(dy.at(row, col), cols - col, vectors, d);
    load(x.at(row, col), cols - col, vectors, v);
    const float scale = rstd[row];
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] = fmaf(v[i] * scale, d[i], sum[i]);
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) sums[threadIdx.y][threadIdx.x * kPack + i] = sum[i];
  __syncthreads();
  const unsigned mine = threadIdx.y * 32 + threadIdx.x;  // a column
  if (first + mine >= cols) return;
  float all = 0;
  for (int i = 0; i < kTileThreadRows; ++i) all += sums[i][mine];
  partial[blockIdx.y * cols + first + mine] = all;
}

/// out[j] = [out[j] +] the sum of column j, rounded once.
template <typename Out>
__global__ void sum_partial_rows(const float* partial, Index rows, Index cols, Out* out, bool accumulate) {
  const Index col = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (col >= cols) return;
  float sum = accumulate ? to_float(out[col]) : 0.0F;
  for (Index row = 0; row < rows; ++row) sum += partial[row * cols + col];
  put(out[col], sum);
}

void rms_norm_grad(const RmsNormGradArgs& a, Stream& stream) {
  const bool vectors = has_vectors(a.dy) && has_vectors(a.x) && has_vectors(a.dx);
  const Index rows = a.x.rows, cols = a.x.cols;
  with_dtype(a.dy.dtype, [&](auto d) {
    with_dtype(a.x.dtype, [&](auto x) {
      using D = TypeOf<decltype(d)>;
      using X = TypeOf<decltype(x)>;
      if (a.wants_dweight) {  // before the input's gradient, which may be written over dy
        const Index column_blocks = ceil_div(cols, kTileColumns);
        // some 512 blocks in all, of at least 32 rows each
        Index tiles = ceil_div(512, column_blocks);
        if (tiles > ceil_div(rows, 32)) tiles = ceil_div(rows, 32);
        auto* partial = static_cast<float*>(stream.shared_workspace(
            static_cast<std::size_t>((tiles > 0 ? tiles : 1) * cols) * sizeof(float)));
        if (tiles > 0)
          HONE_LAUNCH((rms_norm_weight_grad<D, X>),
                      dim3(static_cast<unsigned>(column_blocks), static_cast<unsigned>(tiles)),
                      dim3(32, kTileThreadRows), 0, cuda_stream(stream), rows_of<const D>(a.dy),
                      rows_of<const X>(a.x), a.rstd, partial, rows, cols, ceil_div(rows, tiles), vectors);
        with_dtype(a.dweight_dtype, [&](auto out) {
          using Out = TypeOf<decltype(out)>;
          HONE_LAUNCH(sum_partial_rows<Out>, blocks_for(cols), kThreads, 0, cuda_stream(stream), partial,
                      tiles, cols, static_cast<Out*>(a.dweight), a.accumulate_dweight);
        });
      }
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

}  // namespace
}  // namespace hone::kernels::cuda

namespace hone::kernels {

void register_cuda_norms(KernelTable& table) {
  table.rms_norm = cuda::rms_norm;
  table.rms_norm_grad = cuda::rms_norm_grad;
}

}  // namespace hone::kernels
