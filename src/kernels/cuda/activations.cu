// The activation of a feed-forward and its gradient.
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

template <Activation kActivation, typename T>
__global__ void activation_packs(Rows<const T> gate, Rows<const T> up, Rows<T> y, Index rows, Index cols,
                                 float alpha, float limit, bool vectors) {
  begin_kernel();
  const Place at = place_of_thread(cols);
  if (at.row >= rows) return;
  float g[kPack], u[kPack] = {1, 1, 1, 1, 1, 1, 1, 1};
  load(gate.at(at.row, at.col), at.n, vectors, g);
  if (up.data != nullptr) load(up.at(at.row, at.col), at.n, vectors, u);
#pragma unroll
  for (int i = 0; i < kPack; ++i) g[i] = activate<kActivation>(g[i], u[i], alpha, limit).value;
  store(y.at(at.row, at.col), at.n, vectors, g);
}

template <Activation kActivation, typename T, typename D>
__global__ void activation_grad_packs(Rows<const T> gate, Rows<const T> up, Rows<const D> dy, Rows<T> dgate,
                                      Rows<T> dup, Index rows, Index cols, float alpha, float limit,
                                      bool vectors) {
  begin_kernel();
  const Place at = place_of_thread(cols);
  if (at.row >= rows) return;
  float g[kPack], u[kPack] = {1, 1, 1, 1, 1, 1, 1, 1}, d[kPack];
  load(gate.at(at.row, at.col), at.n, vectors, g);
  if (up.data != nullptr) load(up.at(at.row, at.col), at.n, vectors, u);
  load(dy.at(at.row, at.col), at.n, vectors, d);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    const Activated a = activate<kActivation>(g[i], u[i], alpha, limit);
    g[i] = a.of_gate * d[i];
    u[i] = a.of_up * d[i];
  }
  if (dgate.data != nullptr) store(dgate.at(at.row, at.col), at.n, vectors, g);
  if (dup.data != nullptr) store(dup.at(at.row, at.col), at.n, vectors, u);
}

}  // namespace

HONE_NO_SCRATCH(ActivationArgs)
void activation(const ActivationArgs& a, Stream& stream) {
  if (a.gate.rows == 0) return;
  const bool vectors = has_vectors(a.gate) && has_vectors(a.up) && has_vectors(a.y);
  const unsigned blocks = blocks_for(a.gate.rows * ceil_div(a.gate.cols, kPack));
  with_activation(a.activation, [&](auto kind) {
    with_dtype(a.gate.dtype, [&](auto t) {
      using T = TypeOf<decltype(t)>;
      HONE_LAUNCH((activation_packs<decltype(kind)::value, T>), blocks, kThreads, 0, cuda_stream(stream),
                  rows_of<const T>(a.gate), rows_of<const T>(a.up), rows_of<T>(a.y), a.gate.rows, a.gate.cols,
                  a.alpha, a.limit, vectors);
    });
  });
}

HONE_NO_SCRATCH(ActivationGradArgs)
void activation_grad(const ActivationGradArgs& a, Stream& stream) {
  if (a.gate.rows == 0) return;
  const bool vectors = has_vectors(a.gate) && has_vectors(a.up) && has_vectors(a.dy) &&
                       has_vectors(a.dgate) && has_vectors(a.dup);
  const unsigned blocks = blocks_for(a.gate.rows * ceil_div(a.gate.cols, kPack));
  with_activation(a.activation, [&](auto kind) {
    with_dtype(a.gate.dtype, [&](auto t) {
      with_dtype(a.dy.dtype, [&](auto d) {
        using T = TypeOf<decltype(t)>;
        using D = TypeOf<decltype(d)>;
        HONE_LAUNCH((activation_grad_packs<decltype(kind)::value, T, D>), blocks, kThreads, 0,
                    cuda_stream(stream), rows_of<const T>(a.gate), rows_of<const T>(a.up),
                    rows_of<const D>(a.dy), rows_of<T>(a.dgate), rows_of<T>(a.dup), a.gate.rows, a.gate.cols,
                    a.alpha, a.limit, vectors);
      });
    });
  });
}

}  // namespace hone::kernels::cuda
