// Sums over the rows of a matrix, in a fixed order: tiles of rows to one row of partial sums each, then
// those.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {

inline constexpr int kTileColumns = 256, kTileThreadRows = 8;  // blocks of (32, kTileThreadRows) threads
inline constexpr int kSumColumns = 32, kSumThreadRows = 16;    // of the second step

/// Some 512 blocks in all, of at least 32 rows each.
inline Index tiles_of_rows(Index rows, Index cols) {
  const Index most = ceil_div(512, ceil_div(cols, kTileColumns)), wanted = ceil_div(rows, 32);
  return wanted < most ? wanted : most;
}
/// The stream's workspace that sum_columns takes.
inline Index column_scratch_bytes(Index rows, Index cols) {
  return tiles_of_rows(rows, cols) * cols * static_cast<Index>(sizeof(float));
}

/// Block (i, j) has the columns from 256 i on and the rows from j rows_of_tile on. terms.add(row, col, n,
/// sum) adds to sum the terms of columns col … of a row, n of which there are.
template <typename Terms>
__global__ void sum_row_tiles(Terms terms, float* partial, Index rows, Index cols, Index rows_of_tile) {
  begin_kernel();
  HONE_SHARED(float, sums, [kTileThreadRows][kTileColumns]);
  const Index first = static_cast<Index>(blockIdx.x) * kTileColumns, col = first + threadIdx.x * kPack;
  const Index begin = blockIdx.y * rows_of_tile;
  const Index end = begin + rows_of_tile < rows ? begin + rows_of_tile : rows;
  float sum[kPack] = {};
  for (Index row = begin + threadIdx.y; row < end && col < cols; row += kTileThreadRows)
    terms.add(row, col, cols - col, sum);
#pragma unroll
  for (int i = 0; i < kPack; ++i) sums[threadIdx.y][threadIdx.x * kPack + i] = sum[i];
  __syncthreads();
  const unsigned mine = threadIdx.y * 32 + threadIdx.x;  // a column
  if (first + mine >= cols) return;
  float all = 0;
  for (int i = 0; i < kTileThreadRows; ++i) all += sums[i][mine];
  partial[blockIdx.y * cols + first + mine] = all;
}

/// out[j] = [out[j] +] the sum of column j, rounded once. Blocks of (kSumColumns, kSumThreadRows) threads.
template <typename Out>
__global__ void sum_partial_rows(const float* partial, Index rows, Index cols, Out* out, bool accumulate) {
  begin_kernel();
  HONE_SHARED(float, sums, [kSumThreadRows][kSumColumns]);
  const Index col = static_cast<Index>(blockIdx.x) * kSumColumns + threadIdx.x;
  float sum = 0;
  for (Index row = threadIdx.y; row < rows && col < cols; row += kSumThreadRows)
    sum += partial[row * cols + col];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || col >= cols) return;
  for (int i = 1; i < kSumThreadRows; ++i) sum += sums[i][threadIdx.x];
  put(out[col], accumulate ? to_float(out[col]) + sum : sum);
}

/// The numbers of a matrix themselves.
template <typename X>
struct RowTerms {
  Rows<const X> x;
  bool vectors;
  __device__ __forceinline__ void add(Index row, Index col, Index n, float (&sum)[kPack]) const {
    float v[kPack];
    load(x.at(row, col), n, vectors, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += v[i];
  }
};

/// out (cols), f32 or bf16: [itself +] the sums of the terms over all rows. Takes the shared workspace.
template <typename Terms>
void sum_columns(const Terms& terms, Index rows, Index cols, void* out, DType out_dtype, bool accumulate,
                 Stream& stream) {
  const Index tiles = tiles_of_rows(rows, cols);
  float* partial = nullptr;
  if (tiles > 0) {
    partial = static_cast<float*>(
        stream.shared_workspace(static_cast<std::size_t>(column_scratch_bytes(rows, cols))));
    HONE_LAUNCH(sum_row_tiles<Terms>,
                dim3(static_cast<unsigned>(ceil_div(cols, kTileColumns)), static_cast<unsigned>(tiles)),
                dim3(32, kTileThreadRows), 0, cuda_stream(stream), terms, partial, rows, cols,
                ceil_div(rows, tiles));
  }
  with_dtype(out_dtype, [&](auto o) {
    using Out = TypeOf<decltype(o)>;
    HONE_LAUNCH(sum_partial_rows<Out>, static_cast<unsigned>(ceil_div(cols, kSumColumns)),
                dim3(kSumColumns, kSumThreadRows), 0, cuda_stream(stream), partial, tiles, cols,
                static_cast<Out*>(out), accumulate);
  });
}

}  // namespace hone::kernels::cuda
