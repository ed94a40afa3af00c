// How a kernel is put into a stream and how it declares shared memory: the two places where nvcc and the
// emulator (emulation/cuda) need different words.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "base/dtype.h"

namespace hone::kernels::cuda {

/// What a block may have of shared memory without asking.
inline constexpr std::size_t kSharedBytes = 48 << 10;
/// What it may have of any card when it asks: compute capability 8.6, 8.9 and 12.x have 99 KiB, where 8.0 has
/// 163 and 9.0 has 227 (CUDA programming guide, "Technical Specifications per Compute Capability").
inline constexpr std::size_t kSharedBytesOfAll = 99 << 10;

/// Throws Error(kInternal) where a kernel was not launched (or one before it has failed).
void check_launch(const char* kernel, cudaError_t status);
/// Where HONE_CUDA_SYNC=1: waits for the stream, so that what a kernel does wrong is told by its name.
void wait_if_asked(const char* kernel, cudaStream_t stream);
/// Throws Error(kInternal) where it is neither f32 nor bf16. (These here, for the host's compiler: nvcc 13
/// does not take fmt 9's format strings.)
void check_row_dtype(DType dtype);

// Not in files of the host's compiler beside nvcc: those launch nothing.
#if defined(__CUDACC__) || defined(CUDA_EMULATION)
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  if (shared_bytes > kSharedBytes)
    check_launch(name, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared_bytes)));
#if defined(__CUDACC__)
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Arguments&&>(arguments)...);
  check_launch(name, cudaGetLastError());
#else
  check_launch(name, cuda_emulation::launch(name, kernel, grid, block, shared_bytes, stream,
                                            static_cast<Arguments&&>(arguments)...));
#endif
  wait_if_asked(name, stream);
}
#endif

/// HONE_LAUNCH((kernel<T>), grid, block, shared_bytes, stream, arguments...). A grid of no blocks does
/// nothing on no device: callers return before.
#define HONE_LAUNCH(kernel, ...) ::hone::kernels::cuda::launch(#kernel, kernel, __VA_ARGS__)

// HONE_SHARED(float, tile, [8][33]); HONE_DYNAMIC_SHARED(float, data);   (the launch says how much of it)
#if defined(__CUDACC__)
#define HONE_SHARED(type, name, dimensions) __shared__ type name dimensions
#define HONE_DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(128) unsigned char hone_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(hone_dynamic_shared)
#else
#define HONE_SHARED(type, name, dimensions)                  \
  static const char name##_site = 0;                         \
  type(&name) dimensions = *static_cast<type(*) dimensions>( \
      ::cuda_emulation::static_shared(&name##_site, #name, sizeof(type dimensions), alignof(type)))
#define HONE_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::cuda_emulation::dynamic_shared())
#endif

}  // namespace hone::kernels::cuda
