// How a kernel is put into a stream, how it begins and how it declares shared memory: the places where nvcc
// and the emulator (emulation/cuda) need different words.
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
/// Whether a kernel may come to the card while the one before it is at work (begin_kernel): where its code is
/// for compute capability 9.0 or later, and so has the wait in it, and HONE_CUDA_PDL is not 0. What is told
/// of one kernel holds for all on the thread's current card: they are compiled for the same cards.
bool may_come_early(const void* kernel);
/// Where HONE_CUDA_SYNC=1: waits for the stream, so that what a kernel does wrong is told by its name.
void wait_if_asked(const char* kernel, cudaStream_t stream);
/// Throws Error(kInternal) where it is neither f32 nor bf16. (These here, for the host's compiler: nvcc 13
/// does not take fmt 9's format strings.)
void check_row_dtype(DType dtype);

// Not in files of the host's compiler beside nvcc: those launch nothing.
#if defined(__CUDACC__) || defined(CUDA_EMULATION)
// Programmatic dependent launch (CUDA programming guide 13, 4.5; PTX ISA 9.0, "griddepcontrol"): a kernel's
// blocks come to the card as soon as all of the kernel before have their place there, set up what is their
// own and wait, so that nothing stands still from one kernel to the next. That holds between two kernels of
// ours in a stream, also in a graph captured from it; whatever else lies between (copies, fills, events, the
// libraries' kernels) waits, or is waited for, to its end, as without.
//
// Hence two rules, which the emulator checks. Every thread waits before its first access of global memory, be
// it a read or a write: the kernel before may still write what this one reads, and read what this one writes.
// And no block ends without having waited: the next kernel waits for the end of this one alone, so that a
// kernel that did not wait would let the next one overtake the one before. Parameters are no global memory.
// A third rule it cannot check: nothing tells the compiler that nobody writes what is read (`__restrict__`,
// `__ldg`). Such loads are outside of PTX's memory model, and are moved before the wait: nvcc 13.0 does so
// for sm_100. tools/cuda_code.py follows each kernel's machine code to its wait.

/// Blocks of the next kernel may come once every block of this one has called it, or ended. Early: then all
/// of this kernel's blocks have their place, and those that come take what others leave.
__device__ __forceinline__ void let_next_kernel_in() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// Until everything before it in the stream is done and seen. At once where it was not launched early.
__device__ __forceinline__ void wait_for_kernels_before() {
#if defined(CUDA_EMULATION)
  cuda_emulation::grid_dependency_wait();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// What every kernel begins with, unless it has something to set up between the two.
__device__ __forceinline__ void begin_kernel() {
  let_next_kernel_in();
  wait_for_kernels_before();
}

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  if (shared_bytes > kSharedBytes)
    check_launch(name, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared_bytes)));
  const bool early = may_come_early(reinterpret_cast<const void*>(kernel));
#if defined(__CUDACC__)
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  (void)cudaLaunchKernelEx(&config, kernel, static_cast<Arguments&&>(arguments)...);
  check_launch(name, cudaGetLastError());
#else
  check_launch(name, cuda_emulation::launch(name, kernel, grid, block, shared_bytes, stream, early,
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
