// A row times the sigmoid of its gate, and the gradient.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

template <typename X, typename Y>
__global__ void row_gate_packs(Rows<const X> x, Rows<const float> gate, Rows<const float> residual, Rows<Y> y,
                               Index rows, Index cols, bool vectors) {
  begin_kernel();
  const Place at = place_of_thread(cols);
  if (at.row >= rows) return;
  const float s = sigmoid(*gate.at(at.row));
  float v[kPack], add[kPack] = {};
  load(x.at(at.row, at.col), at.n, vectors, v);
  if (residual.data != nullptr) load(residual.at(at.row, at.col), at.n, vectors, add);
#pragma unroll
  for (int i = 0; i < kPack; ++i) v[i] = fmaf(s, v[i], add[i]);
  store(y.at(at.row, at.col), at.n, vectors, v);
}

/// One block a row: dx = [dx +] s dy, dgate = <dy, x> s (1 - s).
template <typename D, typename X>
__global__ void row_gate_grad_rows(Rows<const D> dy, Rows<const X> x, Rows<const float> gate, Rows<X> dx,
                                   Rows<float> dgate, Index cols, bool accumulate, bool vectors) {
  begin_kernel();
  const Index row = blockIdx.x;
  const float g = *gate.at(row), s = sigmoid(g);
  float dot = 0, d[kPack], v[kPack], before[kPack];
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(dy.at(row, col), cols - col, vectors, d);
    if (dgate.data != nullptr) {
      load(x.at(row, col), cols - col, vectors, v);
#pragma unroll
      for (int i = 0; i < kPack; ++i) dot = fmaf(d[i], v[i], dot);
    }
    if (dx.data == nullptr) continue;
    if (accumulate) load(dx.at(row, col), cols - col, vectors, before);
#pragma unroll
    for (int i = 0; i < kPack; ++i) d[i] = accumulate ? fmaf(s, d[i], before[i]) : s * d[i];
    store(dx.at(row, col), cols - col, vectors, d);
  }
  if (dgate.data == nullptr) return;
  dot = block_sum(dot);
  if (threadIdx.x == 0) *dgate.at(row) = dot * s * sigmoid(-g);
}

}  // namespace

HONE_NO_SCRATCH(RowGateArgs)
void row_gate(const RowGateArgs& a, Stream& stream) {
  if (a.x.rows == 0) return;
  const bool vectors = has_vectors(a.x) && has_vectors(a.residual) && has_vectors(a.y);
  with_dtype(a.x.dtype, [&](auto x) {
    with_dtype(a.y.dtype, [&](auto y) {
      using X = TypeOf<decltype(x)>;
      using Y = TypeOf<decltype(y)>;
      HONE_LAUNCH((row_gate_packs<X, Y>), blocks_for(a.x.rows * ceil_div(a.x.cols, kPack)), kThreads, 0,
                  cuda_stream(stream), rows_of<const X>(a.x), rows_of<const float>(a.gate),
                  rows_of<const float>(a.residual), rows_of<Y>(a.y), a.x.rows, a.x.cols, vectors);
    });
  });
}

HONE_NO_SCRATCH(RowGateGradArgs)
void row_gate_grad(const RowGateGradArgs& a, Stream& stream) {
  if (a.dy.rows == 0 || (!a.dx.given() && !a.dgate.given())) return;
  const bool vectors = has_vectors(a.dy) && has_vectors(a.x) && has_vectors(a.dx);
  with_dtype(a.dy.dtype, [&](auto d) {
    with_dtype(a.x.dtype, [&](auto x) {
      using D = TypeOf<decltype(d)>;
      using X = TypeOf<decltype(x)>;
      HONE_LAUNCH((row_gate_grad_rows<D, X>), static_cast<unsigned>(a.dy.rows), threads_for_row(a.dy.cols), 0,
                  cuda_stream(stream), rows_of<const D>(a.dy), rows_of<const X>(a.x),
                  rows_of<const float>(a.gate), rows_of<X>(a.dx), rows_of<float>(a.dgate), a.dy.cols,
                  a.accumulate_dx, vectors);
    });
  });
}

}  // namespace hone::kernels::cuda
