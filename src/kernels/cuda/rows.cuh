// What the row-wise kernels share: eight numbers at a time, sums over a block, and dtypes as types.
#pragma once

#include <cuda_bf16.h>

#include <type_traits>

#include "device/cuda/cuda_stream.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/kernels.h"

namespace hone::kernels::cuda {

using Index = std::int64_t;

/// Numbers that a thread handles at once: 16 bytes of bf16, twice 16 of f32.
inline constexpr int kPack = 8;
inline constexpr int kThreads = 256;

__host__ __device__ constexpr Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ void put(float& to, float x) {
  to = x;
}
__device__ __forceinline__ void put(__nv_bfloat16& to, float x) {
  to = __float2bfloat16_rn(x);
}

/// Two as bf16 in a word, the first in its low half.
__device__ __forceinline__ std::uint32_t pair_of(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  std::uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

/// The n (at most kPack count) numbers at p, then 0. vectors: p is aligned to 16 bytes.
__device__ __forceinline__ void load(const float* p, Index n, bool vectors, float (&v)[kPack]) {
  if (vectors && n >= kPack) {
    const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) v[i] = i < n ? p[i] : 0.0F;
}
__device__ __forceinline__ void load(const __nv_bfloat16* p, Index n, bool vectors, float (&v)[kPack]) {
  if (vectors && n >= kPack) {
    const uint4 a = *reinterpret_cast<const uint4*>(p);
    const unsigned words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = __uint_as_float(words[i] << 16);
      v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) v[i] = i < n ? to_float(p[i]) : 0.0F;
}
__device__ __forceinline__ void store(float* p, Index n, bool vectors, const float (&v)[kPack]) {
  if (vectors && n >= kPack) {
    reinterpret_cast<float4*>(p)[0] = make_float4(v[0], v[1], v[2], v[3]);
    reinterpret_cast<float4*>(p)[1] = make_float4(v[4], v[5], v[6], v[7]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < n) p[i] = v[i];
}
__device__ __forceinline__ void store(__nv_bfloat16* p, Index n, bool vectors, const float (&v)[kPack]) {
  if (vectors && n >= kPack) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = pair_of(v[2 * i], v[2 * i + 1]);
    *reinterpret_cast<uint4*>(p) = make_uint4(words[0], words[1], words[2], words[3]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < n) put(p[i], v[i]);
}

/// The sum of the squares of a pack: in f32 where that loses nothing but last bits (2^-100: what a square
/// below 2^-126 has lost is less than 2^-46 of the sum), else in double, to which an H200 converts 16 numbers
/// in the clock that brings it 10, and a card for graphics two.
__device__ __forceinline__ double squares_of_pack(const float (&v)[kPack]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPack; ++i) sum = fmaf(v[i], v[i], sum);
  if (sum > 0x1p-100F && sum < INFINITY) return static_cast<double>(sum);
  double exact = 0;
#pragma unroll
  for (int i = 0; i < kPack; ++i) exact += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  return exact;
}

/// 1 / (1 + exp(-x)), without overflow: exp of what is negative.
__device__ __forceinline__ float sigmoid(float x) {
  const float e = expf(-fabsf(x));
  return (x < 0 ? e : 1.0F) / (1.0F + e);
}

/// The derivative of tanh. 1 - tanh^2 cancels in the tails.
__device__ __forceinline__ float tanh_slope(float x) {
  const float e = expf(-2.0F * fabsf(x)), inverse = 1.0F / (1.0F + e), f = tanhf(x);
  return fabsf(x) < 0.5F ? 1.0F - f * f : 4.0F * e * inverse * inverse;
}

/// The sum over the block, to all of its threads (whole warps, at most 1024). Always in the same order.
template <typename T>
__device__ T block_sum(T value) {
  HONE_SHARED(T, of_warps, [32]);
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffU, value, lanes);
  __syncthreads();  // whoever still reads the last sum
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  for (unsigned i = 0; i < blockDim.x / 32; ++i) sum += of_warps[i];
  return sum;
}

template <typename T>
struct Type {
  using type = T;
};
template <typename Tag>
using TypeOf = typename Tag::type;

/// Calls f(Type<float>) or f(Type<__nv_bfloat16>).
template <typename F>
void with_dtype(DType dtype, F f) {
  check_row_dtype(dtype);
  if (dtype == DType::kBF16) return f(Type<__nv_bfloat16>{});
  f(Type<float>{});
}

/// A matrix whose rows are read and written kPack numbers at a time where `vectors`.
template <typename T>
struct Rows {
  T* data;
  Index stride;
  __device__ __forceinline__ T* at(Index row, Index col = 0) const { return data + row * stride + col; }
};
/// Null where there is none.
template <typename T>
Rows<T> rows_of(const Matrix& m) {
  return {m.given() ? static_cast<T*>(m.data) : nullptr, m.stride};
}
inline bool is_aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}
/// Whether every row begins at 16 bytes; of what is not there, too.
inline bool has_vectors(const Matrix& m) {
  return !m.given() ||
         (is_aligned(m.data) && static_cast<std::size_t>(m.stride) * size_of(m.dtype) % 16 == 0);
}

/// What a thread has where there is one for every kPack numbers of every row; row may be past the last.
struct Place {
  Index row, col, n;
};
__device__ __forceinline__ Place place_of_thread(Index cols) {
  const Index thread = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x, packs = ceil_div(cols, kPack);
  const Index row = thread / packs, col = thread % packs * kPack;
  return {row, col, cols - col};
}

/// Threads for a row of this many numbers: whole warps, at most kThreads.
inline unsigned threads_for_row(Index cols) {
  const Index wanted = ceil_div(ceil_div(cols, kPack), 32) * 32;
  return static_cast<unsigned>(wanted < kThreads ? (wanted > 32 ? wanted : 32) : kThreads);
}
inline unsigned blocks_for(Index threads) {
  return static_cast<unsigned>(ceil_div(threads, kThreads));
}

}  // namespace hone::kernels::cuda
