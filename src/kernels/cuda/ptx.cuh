// The instructions that CUDA C++ has no words for, as functions; all inline PTX is here. Each has its twin in
// the emulator (emulation/cuda/include/tensor_core.h). Fragment layouts are those of the PTX ISA.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include <tensor_core.h>
#endif

namespace hone::kernels::cuda {

#if defined(__CUDACC__)

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

#define HONE_MMA(name, shape, types)                                                    \
  __device__ __forceinline__ void name(float(&d)[4], const std::uint32_t(&a)[4],        \
                                       const std::uint32_t(&b)[2]) {                    \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." types                        \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));   \
  }
/// d (16, 8) += a (16, k) b (k, 8); every lane of the warp.
HONE_MMA(mma_bf16, "m16n8k16", "bf16.bf16")
HONE_MMA(mma_f16, "m16n8k16", "f16.f16")
HONE_MMA(mma_tf32, "m16n8k8", "tf32.tf32")
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
HONE_MMA(mma_e4m3, "m16n8k32", "e4m3.e4m3")
HONE_MMA(mma_e5m2, "m16n8k32", "e5m2.e5m2")
#endif
#undef HONE_MMA

/// Four 8 x 8 matrices of 16 bits; lane 8i + j says where row j of matrix i is (16 bytes, aligned so).
__device__ __forceinline__ void ldmatrix_4(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_4_transposed(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__device__ __forceinline__ void stmatrix_4(const std::uint32_t (&from)[4], void* row) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
               "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
}
#endif

/// x, computed where it stands: nvcc puts what only one side of a choice needs into a branch.
__device__ __forceinline__ std::uint32_t computed(std::uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}
/// Of a normal number (what is less counts as 0), off by at most one unit in the last place.
__device__ __forceinline__ float fast_sqrt(float x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}
__device__ __forceinline__ float fast_inverse(float x) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
}

/// 16 bytes from global to shared memory, past the registers; of them the first from_size (0 … 16), then 0.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, int from_size = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(from_size)
               : "memory");
}
/// Four bytes, or where from_size is 0 zeros.
__device__ __forceinline__ void copy_async_4(void* to, const void* from, int from_size = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(from_size)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits for all but the last kGroups groups that this thread has committed. Others see them after a barrier.
template <int kGroups>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}
/// 2^x to 2 units in the last place; 0 where that is below 2^-126. One instruction, where exp2f is five.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ void prefetch_l2(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

#else

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  cuda_emulation::mma(cuda_emulation::Element::kBF16, d, a, b);
}
inline void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  cuda_emulation::mma(cuda_emulation::Element::kF16, d, a, b);
}
inline void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  cuda_emulation::mma(cuda_emulation::Element::kTF32, d, a, b);
}
inline void mma_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  cuda_emulation::mma(cuda_emulation::Element::kE4M3, d, a, b);
}
inline void mma_e5m2(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  cuda_emulation::mma(cuda_emulation::Element::kE5M2, d, a, b);
}
inline void ldmatrix_4(std::uint32_t (&to)[4], const void* row) {
  cuda_emulation::ldmatrix(to, 4, false, row);
}
inline void ldmatrix_4_transposed(std::uint32_t (&to)[4], const void* row) {
  cuda_emulation::ldmatrix(to, 4, true, row);
}
inline void stmatrix_4(const std::uint32_t (&from)[4], void* row) {
  cuda_emulation::stmatrix(from, 4, false, row);
}
inline std::uint32_t computed(std::uint32_t x) {
  return x;
}
inline float fast_sqrt(float x) {
  return x < 0x1p-126F ? 0 : std::sqrt(x);
}
inline float fast_inverse(float x) {
  return 1 / (x < 0x1p-126F ? 0 : x);
}
inline void copy_async_16(void* to, const void* from, int from_size = 16) {
  cuda_emulation::copy_async(to, from, 16, static_cast<std::size_t>(from_size));
}
inline void copy_async_4(void* to, const void* from, int from_size = 4) {
  cuda_emulation::copy_async(to, from, 4, static_cast<std::size_t>(from_size));
}
inline void commit_copies() {
  cuda_emulation::commit_copies();
}
template <int kGroups>
void wait_copies() {
  cuda_emulation::wait_copies(kGroups);
}
inline float exp2_approx(float x) {
  return x < -126 ? 0.0F : exp2f(x);
}
inline void prefetch_l2(const void*) {}

#endif

}  // namespace hone::kernels::cuda
