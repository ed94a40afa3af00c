// copy, clamp and its gradient: one thread for every kPack numbers of a row.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

struct Scaled {
  float alpha;
  __device__ __forceinline__ float operator()(float x) const { return alpha * x; }
};
struct Clamped {
  float limit;
  /// A NaN is neither above nor below.
  __device__ __forceinline__ float operator()(float x) const {
    return x > limit ? limit : x < -limit ? -limit : x;
  }
};

/// y = [y +] f(x).
template <typename F, typename X, typename Y>
__global__ void map_packs(F f, Rows<const X> x, Rows<Y> y, Index rows, Index cols, bool accumulate,
                          bool vectors) {
  begin_kernel();
  const Place at = place_of_thread(cols);
  if (at.row >= rows) return;
  float v[kPack], before[kPack];
  load(x.at(at.row, at.col), at.n, vectors, v);
  if (accumulate) load(y.at(at.row, at.col), at.n, vectors, before);
#pragma unroll
  for (int i = 0; i < kPack; ++i) v[i] = accumulate ? before[i] + f(v[i]) : f(v[i]);
  store(y.at(at.row, at.col), at.n, vectors, v);
}

template <typename F>
void map(F f, const Matrix& x, const Matrix& y, bool accumulate, Stream& stream) {
  if (y.rows == 0) return;
  with_dtype(x.dtype, [&](auto from) {
    with_dtype(y.dtype, [&](auto to) {
      using X = TypeOf<decltype(from)>;
      using Y = TypeOf<decltype(to)>;
      HONE_LAUNCH((map_packs<F, X, Y>), blocks_for(y.rows * ceil_div(y.cols, kPack)), kThreads, 0,
                  cuda_stream(stream), f, rows_of<const X>(x), rows_of<Y>(y), y.rows, y.cols, accumulate,
                  has_vectors(x) && has_vectors(y));
    });
  });
}

template <typename D, typename X, typename DX>
__global__ void clamp_grad_packs(Rows<const D> dy, Rows<const X> x, Rows<DX> dx, Index rows, Index cols,
                                 float limit, bool accumulate, bool vectors) {
  begin_kernel();
  const Place at = place_of_thread(cols);
  if (at.row >= rows) return;
  float d[kPack], v[kPack], before[kPack];
  load(dy.at(at.row, at.col), at.n, vectors, d);
  load(x.at(at.row, at.col), at.n, vectors, v);
  if (accumulate) load(dx.at(at.row, at.col), at.n, vectors, before);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    d[i] = fabsf(v[i]) <= limit ? d[i] : 0.0F;
    if (accumulate) d[i] += before[i];
  }
  store(dx.at(at.row, at.col), at.n, vectors, d);
}

}  // namespace

HONE_NO_SCRATCH(CopyArgs)
void copy(const CopyArgs& a, Stream& stream) {
  map(Scaled{a.alpha}, a.x, a.y, a.accumulate, stream);
}

HONE_NO_SCRATCH(ClampArgs)
void clamp(const ClampArgs& a, Stream& stream) {
  map(Clamped{a.limit}, a.x, a.y, a.accumulate, stream);
}

HONE_NO_SCRATCH(ClampGradArgs)
void clamp_grad(const ClampGradArgs& a, Stream& stream) {
  if (a.dx.rows == 0) return;
  const bool vectors = has_vectors(a.dy) && has_vectors(a.x) && has_vectors(a.dx);
  with_dtype(a.dy.dtype, [&](auto d) {
    with_dtype(a.x.dtype, [&](auto x) {
      with_dtype(a.dx.dtype, [&](auto dx) {
        using D = TypeOf<decltype(d)>;
        using X = TypeOf<decltype(x)>;
        using DX = TypeOf<decltype(dx)>;
        HONE_LAUNCH((clamp_grad_packs<D, X, DX>), blocks_for(a.dx.rows * ceil_div(a.dx.cols, kPack)),
                    kThreads, 0, cuda_stream(stream), rows_of<const D>(a.dy), rows_of<const X>(a.x),
                    rows_of<DX>(a.dx), a.dx.rows, a.dx.cols, a.limit, a.accumulate, vectors);
      });
    });
  });
}

}  // namespace hone::kernels::cuda
