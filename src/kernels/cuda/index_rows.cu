// take_rows, put_rows, and the gradient of an embedding.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

/// y_i = x at row index[i]: one block a row.
template <typename X, typename Y>
__global__ void take_each_row(Rows<const X> x, const std::int32_t* index, Rows<Y> y, Index cols,
                              bool vectors) {
  begin_kernel();
  const Index row = blockIdx.x, from = index[row];
  float v[kPack];
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(x.at(from, col), cols - col, vectors, v);
    store(y.at(row, col), cols - col, vectors, v);
  }
}

}  // namespace

HONE_NO_SCRATCH(TakeRowsArgs)
void take_rows(const TakeRowsArgs& a, Stream& stream) {
  if (a.y.rows == 0) return;
  const bool vectors = has_vectors(a.x) && has_vectors(a.y);
  with_dtype(a.x.dtype, [&](auto x) {
    with_dtype(a.y.dtype, [&](auto y) {
      using X = TypeOf<decltype(x)>;
      using Y = TypeOf<decltype(y)>;
      HONE_LAUNCH((take_each_row<X, Y>), static_cast<unsigned>(a.y.rows), threads_for_row(a.y.cols), 0,
                  cuda_stream(stream), rows_of<const X>(a.x), a.index, rows_of<Y>(a.y), a.y.cols, vectors);
    });
  });
}

namespace {
template <typename T>
__global__ void zero_each_row(Rows<T> m, Index cols, bool vectors) {
  begin_kernel();
  const float zeros[kPack] = {};
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack)
    store(m.at(blockIdx.x, col), cols - col, vectors, zeros);
}
template <typename T>
void zero_rows(const Matrix& m, Stream& stream) {
  if (m.rows == 0) return;
  HONE_LAUNCH(zero_each_row<T>, static_cast<unsigned>(m.rows), threads_for_row(m.cols), 0,
              cuda_stream(stream), rows_of<T>(m), m.cols, has_vectors(m));
}

/// dx at row index[i] = [itself +] dy_i: one block a row, no index twice.
template <typename D, typename DX>
__global__ void put_each_row(Rows<const D> dy, const std::int32_t* index, Rows<DX> dx, Index cols,
                             bool accumulate, bool vectors) {
  begin_kernel();
  const Index row = blockIdx.x, to = index[row];
  float v[kPack], before[kPack] = {};
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(dy.at(row, col), cols - col, vectors, v);
    if (accumulate) load(dx.at(to, col), cols - col, vectors, before);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] += before[i];
    store(dx.at(to, col), cols - col, vectors, v);
  }
}

}  // namespace

HONE_NO_SCRATCH(PutRowsArgs)
void put_rows(const PutRowsArgs& a, Stream& stream) {
  const bool vectors = has_vectors(a.dy) && has_vectors(a.dx);
  with_dtype(a.dy.dtype, [&](auto d) {
    with_dtype(a.dx.dtype, [&](auto dx) {
      using D = TypeOf<decltype(d)>;
      using DX = TypeOf<decltype(dx)>;
      if (!a.accumulate) zero_rows<DX>(a.dx, stream);
      if (a.dy.rows == 0) return;
      HONE_LAUNCH((put_each_row<D, DX>), static_cast<unsigned>(a.dy.rows), threads_for_row(a.dy.cols), 0,
                  cuda_stream(stream), rows_of<const D>(a.dy), a.index, rows_of<DX>(a.dx), a.dy.cols,
                  a.accumulate, vectors);
    });
  });
}

namespace {
/// One block for each token. That of an id's first token adds all of that id's, in their order, which asks
/// for rows^2 / 2 comparisons (4,096 rows: 8 M, some microseconds), but for no sort and no atomics.
template <typename D, typename Table>
__global__ void embedding_grad_rows(Rows<const D> dout, const std::int32_t* ids, Rows<Table> dtable,
                                    Index rows, Index cols, Index padding_id, bool accumulate, bool vectors) {
  begin_kernel();
  HONE_SHARED(bool, is_mine, [kThreads]);
  const Index first = blockIdx.x, id = ids[first];
  if (id == padding_id) return;
  int seen = 0;
  for (Index i = threadIdx.x; i < first; i += blockDim.x) seen |= ids[i] == id ? 1 : 0;
  if (__syncthreads_or(seen) != 0) return;
  for (Index base = 0; base < cols; base += blockDim.x * kPack) {
    const Index col = base + threadIdx.x * kPack;
    float sum[kPack] = {}, v[kPack];
    if (accumulate && col < cols) load(dtable.at(id, col), cols - col, vectors, sum);
    for (Index chunk = first; chunk < rows; chunk += blockDim.x) {
      const Index row = chunk + threadIdx.x;
      const bool mine = row < rows && ids[row] == id;
      is_mine[threadIdx.x] = mine;
      if (__syncthreads_or(mine ? 1 : 0) != 0 && col < cols)
        for (unsigned i = 0; i < blockDim.x; ++i) {
          if (!is_mine[i]) continue;
          load(dout.at(chunk + i, col), cols - col, vectors, v);
#pragma unroll
          for (int j = 0; j < kPack; ++j) sum[j] += v[j];
        }
      __syncthreads();
    }
    if (col < cols) store(dtable.at(id, col), cols - col, vectors, sum);
  }
}

}  // namespace

HONE_NO_SCRATCH(EmbeddingGradArgs)
void embedding_grad(const EmbeddingGradArgs& a, Stream& stream) {
  const Matrix dout{const_cast<void*>(a.dout), a.dout_dtype, a.rows, a.hidden, a.hidden};
  const Matrix dtable{a.dtable, a.dtable_dtype, a.vocab, a.hidden, a.hidden};
  const bool vectors = has_vectors(dout) && has_vectors(dtable);
  with_dtype(a.dout_dtype, [&](auto d) {
    with_dtype(a.dtable_dtype, [&](auto t) {
      using D = TypeOf<decltype(d)>;
      using Table = TypeOf<decltype(t)>;
      if (!a.accumulate) zero_rows<Table>(dtable, stream);
      if (a.rows == 0) return;
      HONE_LAUNCH((embedding_grad_rows<D, Table>), static_cast<unsigned>(a.rows), threads_for_row(a.hidden),
                  0, cuda_stream(stream), rows_of<const D>(dout), a.ids, rows_of<Table>(dtable), a.rows,
                  a.hidden, a.padding_id, a.accumulate, vectors);
    });
  });
}

}  // namespace hone::kernels::cuda
