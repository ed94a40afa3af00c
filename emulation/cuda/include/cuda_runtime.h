// The CUDA language as C++20, for g++: what a kernel's source may say (emulation/cuda/README.md). Kernels are
// compiled with -fsanitize=thread,alignment,bounds and linked to emulation/cuda/instrument.cpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>

#include "cuda_runtime_api.h"

#define CUDA_EMULATION 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// Shared memory is declared by HONE_SHARED and HONE_DYNAMIC_SHARED (kernels/cuda/launch.cuh) alone.

struct uint2 {
  unsigned x, y;
} __attribute__((aligned(8)));
struct uint3 {
  unsigned x, y, z;
};
struct uint4 {
  unsigned x, y, z, w;
} __attribute__((aligned(16)));
struct int2 {
  int x, y;
} __attribute__((aligned(8)));
struct int4 {
  int x, y, z, w;
} __attribute__((aligned(16)));
struct float2 {
  float x, y;
} __attribute__((aligned(8)));
struct float4 {
  float x, y, z, w;
} __attribute__((aligned(16)));
struct double2 {
  double x, y;
} __attribute__((aligned(16)));
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
inline int4 make_int4(int x, int y, int z, int w) {
  return {x, y, z, w};
}
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace cuda_emulation {

/// Where the running thread is.
struct Here {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
[[gnu::const]] const Here& here();

/// What one lane brings to a collective of its warp and takes from it.
using Lanes = void* const (&)[32];
/// Called once, when all lanes of `mask` have come, with what each brought (null: not in the mask).
using Meet = void (*)(Lanes lanes, unsigned mask);
/// Waits for all lanes of `mask`, which must call the same; the last one runs `meet`.
void meet_warp(const char* what, unsigned mask, void* mine, Meet meet);
/// The value of `source`, a lane of the mask.
std::uint64_t shuffle(const char* what, unsigned mask, std::uint64_t value, int source);
/// The values of all lanes of the mask; 0 of the others.
void gather(const char* what, unsigned mask, std::uint64_t value, std::uint64_t (&values)[32]);
int lane_of_here();

enum class Vote { kNone, kCount, kAnd, kOr };
/// Waits for all threads of the block.
int meet_block(const char* what, Vote vote = Vote::kNone, bool mine = false);

enum class Access { kRead, kWrite, kAtomic };
/// What an access that the compiler does not see does to memory: checked as if it did.
void touch(const void* address, std::size_t size, Access access);

/// The shared memory of `site`, a place in the source, for this block.
void* static_shared(const void* site, const char* name, std::size_t size, std::size_t alignment);
void* dynamic_shared();

/// Asynchronous copies to shared memory: `size` bytes (4, 8 or 16), the first `from_size` of `from`, then 0.
void copy_async(void* to, const void* from, std::size_t size, std::size_t from_size);
void commit_copies();
/// Waits for all but the last `groups` groups of this thread.
void wait_copies(int groups);

/// griddepcontrol.wait. In an early launch no thread may touch global memory before, and no block end
/// without.
void grid_dependency_wait();

struct Launch {
  const char* kernel_name;
  const void* kernel;
  dim3 grid, block;
  std::size_t shared_bytes;
  cudaStream_t stream;
  bool early;  // cudaLaunchAttributeProgrammaticStreamSerialization
};
/// The arguments are `size` bytes, which kernels may read.
cudaError_t launch(const Launch& launch, std::shared_ptr<const void> arguments, std::size_t size,
                   void (*run)(const void* arguments));
/// Puts a kernel into a stream, with copies of its arguments.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                   std::size_t shared_bytes, cudaStream_t stream, bool early, Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> copies;
  };
  auto call = std::make_shared<const Call>(Call{kernel, {static_cast<Arguments&&>(arguments)...}});
  return launch({name, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream, early}, call,
                sizeof(Call), [](const void* p) {
                  const auto* c = static_cast<const Call*>(p);
                  std::apply(c->kernel, c->copies);
                });
}

// Of tests: marks memory of the runtime as not to be touched by kernels, though it is allocated.
void forbid(const void* from, std::size_t size);
// Of tests: marks memory that the host reaches, and which so counts as written, as uninitialised.
void forget(const void* from, std::size_t size);
/// How often kernels have been stopped, and what the last one did.
int caught();
const char* last_report();

template <typename To, typename From>
To bits(From value) {
  static_assert(sizeof(To) >= sizeof(From));
  To to{};
  std::memcpy(&to, &value, sizeof value);
  return to;
}
template <typename To>
To from_bits(std::uint64_t value) {
  To to;
  std::memcpy(&to, &value, sizeof to);
  return to;
}

// Atomics on 4 and 8 bytes; op tells what becomes of them.
enum class Atomic { kAdd, kMin, kMax, kAnd, kOr, kXor, kExchange };
int atomic(Atomic op, int* p, int v);
unsigned atomic(Atomic op, unsigned* p, unsigned v);
unsigned long long atomic(Atomic op, unsigned long long* p, unsigned long long v);
float atomic(Atomic op, float* p, float v);
double atomic(Atomic op, double* p, double v);
unsigned compare_and_swap(unsigned* p, unsigned expected, unsigned v);
unsigned long long compare_and_swap(unsigned long long* p, unsigned long long expected, unsigned long long v);

}  // namespace cuda_emulation

#define threadIdx (::cuda_emulation::here().thread)
#define blockIdx (::cuda_emulation::here().block)
#define blockDim (::cuda_emulation::here().block_size)
#define gridDim (::cuda_emulation::here().grid_size)
inline constexpr int warpSize = 32;

inline void __syncthreads() {
  cuda_emulation::meet_block("__syncthreads");
}
inline int __syncthreads_count(int p) {
  return cuda_emulation::meet_block("__syncthreads_count", cuda_emulation::Vote::kCount, p != 0);
}
inline int __syncthreads_and(int p) {
  return cuda_emulation::meet_block("__syncthreads_and", cuda_emulation::Vote::kAnd, p != 0);
}
inline int __syncthreads_or(int p) {
  return cuda_emulation::meet_block("__syncthreads_or", cuda_emulation::Vote::kOr, p != 0);
}
inline void __syncwarp(unsigned mask = 0xffffffffU) {
  cuda_emulation::meet_warp("__syncwarp", mask, nullptr, [](cuda_emulation::Lanes, unsigned) {});
}
// Memory is sequentially consistent here: missing fences are not found.
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = cuda_emulation::lane_of_here(), from = (lane & ~(width - 1)) | (source & (width - 1));
  return cuda_emulation::from_bits<T>(
      cuda_emulation::shuffle("__shfl_sync", mask, cuda_emulation::bits<std::uint64_t>(value), from));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = cuda_emulation::lane_of_here(), from = lane - static_cast<int>(delta);
  return cuda_emulation::from_bits<T>(cuda_emulation::shuffle("__shfl_up_sync", mask,
                                                              cuda_emulation::bits<std::uint64_t>(value),
                                                              from < (lane & ~(width - 1)) ? lane : from));
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = cuda_emulation::lane_of_here(), from = lane + static_cast<int>(delta);
  return cuda_emulation::from_bits<T>(cuda_emulation::shuffle("__shfl_down_sync", mask,
                                                              cuda_emulation::bits<std::uint64_t>(value),
                                                              from > (lane | (width - 1)) ? lane : from));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const int lane = cuda_emulation::lane_of_here(), from = lane ^ lanes;
  return cuda_emulation::from_bits<T>(cuda_emulation::shuffle("__shfl_xor_sync", mask,
                                                              cuda_emulation::bits<std::uint64_t>(value),
                                                              from > (lane | (width - 1)) ? lane : from));
}

namespace cuda_emulation {
/// The lanes of the mask whose value is `value`.
inline unsigned lanes_with(const char* what, unsigned mask, std::uint64_t mine, std::uint64_t value) {
  std::uint64_t values[32];
  gather(what, mask, mine, values);
  unsigned lanes = 0;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0 && values[i] == value) lanes |= 1U << i;
  return lanes;
}
template <typename T, typename Op>
T reduce(const char* what, unsigned mask, T value, Op op) {
  std::uint64_t values[32];
  gather(what, mask, bits<std::uint64_t>(value), values);
  bool first = true;
  T result = value;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0) {
      const T other = from_bits<T>(values[i]);
      result = first ? other : op(result, other);
      first = false;
    }
  return result;
}
}  // namespace cuda_emulation

inline unsigned __ballot_sync(unsigned mask, int p) {
  return cuda_emulation::lanes_with("__ballot_sync", mask, p != 0 ? 1 : 0, 1);
}
inline int __any_sync(unsigned mask, int p) {
  return cuda_emulation::lanes_with("__any_sync", mask, p != 0 ? 1 : 0, 1) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int p) {
  return cuda_emulation::lanes_with("__all_sync", mask, p != 0 ? 1 : 0, 1) == mask ? 1 : 0;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  const auto mine = cuda_emulation::bits<std::uint64_t>(value);
  return cuda_emulation::lanes_with("__match_any_sync", mask, mine, mine);
}
template <typename T>
unsigned __match_all_sync(unsigned mask, T value, int* all) {
  const auto mine = cuda_emulation::bits<std::uint64_t>(value);
  *all = cuda_emulation::lanes_with("__match_all_sync", mask, mine, mine) == mask ? 1 : 0;
  return *all != 0 ? mask : 0;
}
template <typename T>
T __reduce_add_sync(unsigned mask, T v) {
  return cuda_emulation::reduce("__reduce_add_sync", mask, v, [](T a, T b) { return static_cast<T>(a + b); });
}
template <typename T>
T __reduce_max_sync(unsigned mask, T v) {
  return cuda_emulation::reduce("__reduce_max_sync", mask, v, [](T a, T b) { return a < b ? b : a; });
}
template <typename T>
T __reduce_min_sync(unsigned mask, T v) {
  return cuda_emulation::reduce("__reduce_min_sync", mask, v, [](T a, T b) { return b < a ? b : a; });
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned v) {
  return cuda_emulation::reduce("__reduce_or_sync", mask, v, [](unsigned a, unsigned b) { return a | b; });
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned v) {
  return cuda_emulation::reduce("__reduce_and_sync", mask, v, [](unsigned a, unsigned b) { return a & b; });
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned v) {
  return cuda_emulation::reduce("__reduce_xor_sync", mask, v, [](unsigned a, unsigned b) { return a ^ b; });
}

template <typename T>
T atomicAdd(T* p, T v) {
  return cuda_emulation::atomic(cuda_emulation::Atomic::kAdd, p, v);
}
template <typename T>
T atomicMin(T* p, T v) {
  return cuda_emulation::atomic(cuda_emulation::Atomic::kMin, p, v);
}
template <typename T>
T atomicMax(T* p, T v) {
  return cuda_emulation::atomic(cuda_emulation::Atomic::kMax, p, v);
}
template <typename T>
T atomicAnd(T* p, T v) {
  return cuda_emulation::atomic(cuda_emulation::Atomic::kAnd, p, v);
}
template <typename T>
T atomicOr(T* p, T v) {
  return cuda_emulation::atomic(cuda_emulation::Atomic::kOr, p, v);
}
template <typename T>
T atomicXor(T* p, T v) {
  return cuda_emulation::atomic(cuda_emulation::Atomic::kXor, p, v);
}
template <typename T>
T atomicExch(T* p, T v) {
  return cuda_emulation::atomic(cuda_emulation::Atomic::kExchange, p, v);
}
inline int atomicSub(int* p, int v) {
  return atomicAdd(p, -v);
}
inline unsigned atomicSub(unsigned* p, unsigned v) {
  return atomicAdd(p, 0U - v);
}
inline unsigned atomicCAS(unsigned* p, unsigned expected, unsigned v) {
  return cuda_emulation::compare_and_swap(p, expected, v);
}
inline int atomicCAS(int* p, int expected, int v) {
  return static_cast<int>(cuda_emulation::compare_and_swap(
      reinterpret_cast<unsigned*>(p), static_cast<unsigned>(expected), static_cast<unsigned>(v)));
}
inline unsigned long long atomicCAS(unsigned long long* p, unsigned long long expected,
                                    unsigned long long v) {
  return cuda_emulation::compare_and_swap(p, expected, v);
}

// Loads and stores with a cache hint, which is nothing here.
template <typename T>
T __ldg(const T* p) {
  return *p;
}
template <typename T>
T __ldcs(const T* p) {
  return *p;
}
template <typename T>
T __ldca(const T* p) {
  return *p;
}
template <typename T>
T __ldcg(const T* p) {
  return *p;
}
template <typename T>
void __stcs(T* p, T v) {
  *p = v;
}
template <typename T>
void __stcg(T* p, T v) {
  *p = v;
}

// Arithmetic. The fast intrinsics are the exact functions: their errors on a GPU are not modelled.
inline float rsqrtf(float x) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(x)));
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __frcp_rn(float x) {
  return 1 / x;
}
inline float __fsqrt_rn(float x) {
  return std::sqrt(x);
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
/// Byte i of the result is byte (selector >> 4 i) & 7 of a and b, a's four first.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned from = selector >> (4 * i) & 7;
    result |= ((from < 4 ? a : b) >> (8 * (from % 4)) & 0xff) << (8 * i);
  }
  return result;
}
inline int __float_as_int(float x) {
  return cuda_emulation::bits<int>(x);
}
inline unsigned __float_as_uint(float x) {
  return cuda_emulation::bits<unsigned>(x);
}
inline float __int_as_float(int x) {
  return cuda_emulation::bits<float>(x);
}
inline float __uint_as_float(unsigned x) {
  return cuda_emulation::bits<float>(x);
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1U) << (31 - i);
  return y;
}
using std::fma;
using std::isfinite;
using std::isnan;
using std::max;
using std::min;
