// The functions of a feed-forward, one number at a time.
#pragma once

#include <type_traits>

#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {

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

/// Calls f(std::integral_constant<Activation, ...>): on the host, or in a kernel where all threads have the
/// same.
#pragma nv_exec_check_disable
template <typename F>
__host__ __device__ __forceinline__ void with_activation(Activation activation, F f) {
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

}  // namespace hone::kernels::cuda
