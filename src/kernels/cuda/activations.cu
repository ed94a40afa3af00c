// The activation of a feed-forward and its gradient.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

struct Activated {
  float value, of_gate, of_up;
};

/// f(gate) * up and its derivatives; where there is no up, it is 1.
template <Activation kActivation>
__device__ __forceinline__ Activated activate(float gate, float up, float alpha, float limit) {
  if constexpr (kActivation == Activation::kClampedSilu) {
    const float g = fminf(limit, gate), u = fminf(limit, fmaxf(-limit, up)) + 1.0F;
    const float s = sigmoid(alpha * g), swish = g * s;
    const float slope = s * fmaf(alpha * g, 1.0F - s, 1.0F) * u;
    return {swish * u, gate <= limit ? slope : 0.0F, fabsf(up) <= limit ? swish : 0.0F};
  } else {
    float f = gate, slope = 1;
    if constexpr (kActivation == Activation::kSilu) {
      const float s = sigmoid(gate);
      f = gate * s;
      slope = s * fmaf(gate, 1.0F - s, 1.0F);
    } else if constexpr (kActivation == Activation::kSigmoid) {
      const float e = expf(-fabsf(gate)), inverse = 1.0F / (1.0F + e);
      f = gate < 0 ? e * inverse : inverse;
      slope = e * inverse * inverse;
    } else if constexpr (kActivation == Activation::kTanh) {
      f = tanhf(gate);
      slope = tanh_slope(gate);
    } else if constexpr (kActivation == Activation::kRelu2) {
      const float positive = fmaxf(gate, 0.0F);
      f = positive * positive;
      slope = positive + positive;
    } else if constexpr (kActivation == Activation::kGelu) {
      const float phi = 0.5F * erfcf(-0.707106781F * gate);
      f = gate * phi;
      slope = fmaf(0.398942280F * gate, expf(-0.5F * gate * gate), phi);
    } else if constexpr (kActivation == Activation::kGeluTanh) {
      // (1 + tanh(u)) / 2 = sigmoid(2 u); beyond 20 it is 0 or 1 in f32, and the cube might overflow
      const float c = fminf(20.0F, fmaxf(-20.0F, gate)), square = c * c;
      const float s = sigmoid(c * fmaf(square, 0.0713548163F, 1.59576912F));
      f = gate * s;
      slope = s * fmaf(c * (1.0F - s), fmaf(square, 0.214064449F, 1.59576912F), 1.0F);
    }
    return {f * up, slope * up, f};
  }
}

template <Activation kActivation, typename T>
__global__ void activation_packs(Rows<const T> gate, Rows<const T> up, Rows<T> y, Index rows, Index cols,
                                 float alpha, float limit, bool vectors) {
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

template <typename F>
void with_activation(Activation activation, F f) {
  switch (activation) {
#define HONE_ACTIVATION(name) \
  case Activation::name:      \
    return f(std::integral_constant<Activation, Activation::name>{});
    HONE_ACTIVATION(kIdentity)
    HONE_ACTIVATION(kSilu)
    HONE_ACTIVATION(kGelu)
    HONE_ACTIVATION(kGeluTanh)
    HONE_ACTIVATION(kRelu2)
    HONE_ACTIVATION(kSigmoid)
    HONE_ACTIVATION(kTanh)
    HONE_ACTIVATION(kClampedSilu)
#undef HONE_ACTIVATION
  }
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
