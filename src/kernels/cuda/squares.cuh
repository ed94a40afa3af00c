// Sums of the squares of a gradient while its values are in registers.
#pragma once

#include "kernels/cuda/gemm.cuh"

namespace hone::kernels::cuda {

/// The sum of the squares of what Output::put_at has just made of v, and stored in the same place. What is
/// not finite makes it so.
__device__ __forceinline__ double squares_of_put(const Output& out, Index row, Index col,
                                                 const float (&v)[kPack]) {
  if (row >= out.rows || col >= out.columns) return 0;
  const Index n = out.columns - col;
  float stored[kPack];
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    stored[i] = i < n ? (out.c.is_bf16 ? to_float(__float2bfloat16_rn(v[i])) : v[i]) : 0.0F;
  return squares_of_pack(stored);
}
/// Of eight numbers in bf16, as pair_of has them.
__device__ __forceinline__ double squares_of_pairs(const std::uint32_t (&words)[kPack / 2]) {
  float v[kPack];
#pragma unroll
  for (int i = 0; i < kPack / 2; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16);
    v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
  }
  return squares_of_pack(v);
}

/// Parts of the sums of the squares of all experts' gradients, `of_expert` each, and where those sums go.
struct SquareParts {
  double* parts = nullptr;  // null: they are not wanted
  Index of_expert = 0;
  double* sums = nullptr;  // (experts)
};

}  // namespace hone::kernels::cuda
