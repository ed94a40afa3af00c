// The instructions of compute capability 9.0 beside those of ptx.cuh, as functions: mbarriers, TMA, wgmma,
// registers moved between warps. Each has its twin in the emulator (emulation/cuda/include/hopper.h).
//
// wgmma and TMA exist for sm_90a alone: HONE_HOPPER is 1 where they may be used, and a kernel that uses them
// has an empty body elsewhere, where nobody launches it.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

#if defined(__CUDACC__)
#include <cuda.h>
#else
#include <hopper.h>
#endif

// Shared memory that the launch says how much of, at a multiple of 1,024 bytes, as the swizzle wants it; the
// kernel has no other.
#if defined(__CUDACC__)
#define HONE_SWIZZLED_SHARED(name)                                        \
  extern __shared__ __align__(1024) unsigned char hone_swizzled_shared[]; \
  unsigned char* const name = hone_swizzled_shared
#else
#define HONE_SWIZZLED_SHARED(name) HONE_DYNAMIC_SHARED(unsigned char, name)
#endif

#if defined(CUDA_EMULATION) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HONE_HOPPER 1
#else
#define HONE_HOPPER 0
#endif

// Before a kernel's name: its blocks come in clusters of so many neighbours, which run at the same time and
// reach each other's shared memory. Grids are multiples of that; before the launch: has_clusters(kernel,
// blocks).
#if defined(__CUDACC__) && HONE_HOPPER
#define HONE_CLUSTER(blocks) __cluster_dims__(blocks, 1, 1)
#else
#define HONE_CLUSTER(blocks)
#endif

namespace hone::kernels::cuda {

/// To the emulator what HONE_CLUSTER is to nvcc.
template <typename Kernel>
void has_clusters([[maybe_unused]] Kernel* kernel, [[maybe_unused]] int blocks) {
#if defined(CUDA_EMULATION)
  cuda_emulation::set_cluster(reinterpret_cast<const void*>(kernel), blocks);
#endif
}

#if HONE_HOPPER

#if defined(__CUDACC__)

/// count arrivals make a phase of it. Others use it after a barrier; copies by TMA after fence_mbarriers,
/// too.
__device__ __forceinline__ void init_mbarrier(std::uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
               : "memory");
}
__device__ __forceinline__ void fence_mbarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
/// Arrives, and the phase ends after `bytes` more of copies by TMA.
__device__ __forceinline__ void arrive_expecting(std::uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
/// Arrives when the cp.async that this thread has begun are done.
__device__ __forceinline__ void arrive_after_copies(std::uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
/// Waits until the phase of that parity is over. Not for ever: a kernel that is stuck ends after some
/// seconds, by an ordinary store to address 0. (A trap would be an exit that all branches share: ptxas then
/// gives no branch more registers than the launch does, spills, and runs the wgmma one by one.)
__device__ __forceinline__ void wait_for(std::uint64_t* barrier, unsigned parity) {
  const std::uint32_t at = shared_address(barrier);
  std::uint32_t over = 0;
#pragma unroll 1
  for (unsigned tries = 0; over == 0; ++tries) {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
        : "=r"(over)
        : "r"(at), "r"(parity)
        : "memory");
    if (tries > 1U << 22) asm volatile("st.global.u32 [%0], %1;" ::"l"(0ULL), "r"(tries) : "memory");
  }
}
/// What this thread knows to be written to shared memory by ordinary stores and cp.async is there for wgmma
/// and TMA.
__device__ __forceinline__ void fence_for_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// A box of a tensor, from the coordinates on, innermost first, to shared memory; all of the box's bytes
/// count, what is out of bounds is 0. One thread.
__device__ __forceinline__ void load_box(void* to, const CUtensorMap& map, std::uint64_t* barrier, int c0,
                                         int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1)
      : "memory");
}
__device__ __forceinline__ void load_box(void* to, const CUtensorMap& map, std::uint64_t* barrier, int c0,
                                         int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
__device__ __forceinline__ void load_box(void* to, const CUtensorMap& map, std::uint64_t* barrier, int c0,
                                         int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

/// The same box to the same place of each of `blocks` of the cluster, a bit each; all its bytes count in each
/// of them, at the mbarrier that they have there.
__device__ __forceinline__ void load_box_to(unsigned blocks, void* to, const CUtensorMap& map,
                                            std::uint64_t* barrier, int c0, int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "h"(static_cast<std::uint16_t>(blocks))
      : "memory");
}
__device__ __forceinline__ int rank_in_cluster() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
/// Of the mbarrier that the block of this rank has there. It has not exited, for that there is meet_cluster.
/// It says that what this thread knows to be read has been read, as a block that may fill a buffer again
/// wants to know; nothing of what was written. (That would be .release.cluster, for which the compiler waits
/// for a fence of the whole card each time.)
__device__ __forceinline__ void arrive_in(int rank, std::uint64_t* barrier) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}
/// Of all threads of all blocks of the cluster.
__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// Boxes from shared memory to a tensor; what is beyond the tensor is left out. One thread, which waits for
// them by groups. What others wrote to shared memory is there for the store after fence_for_async of theirs
// and a barrier.
__device__ __forceinline__ void store_box(const CUtensorMap& map, const void* from, int c0, int c1, int c2) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
               "r"(shared_address(from)), "r"(c0), "r"(c1), "r"(c2)
               : "memory");
}
__device__ __forceinline__ void commit_stores() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Shared memory of all but the last kGroups groups has been read, and may be written again.
template <int kGroups>
__device__ __forceinline__ void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}
/// They are done.
template <int kGroups>
__device__ __forceinline__ void wait_stores() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kGroups) : "memory");
}

/// A barrier of `threads` threads, whole warps; `id` 1 … 15 (0 is __syncthreads).
__device__ __forceinline__ void meet(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// Each warp of a warpgroup: this many registers a thread from here on.
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

// wgmma, of all threads of a warpgroup. Registers of sums and shared memory are the tensor cores' from
// wgmma_fence until wgmma_wait.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits for all but the last kGroups groups.
template <int kGroups>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
/// Keeps the compiler from using a sum before the wait that is above.
__device__ __forceinline__ void keep_after_wait(float& sum) {
  asm volatile("" : "+f"(sum)::"memory");
}

#else

inline std::uint32_t shared_address(const void* p) {
  return cuda_emulation::shared_address(p);
}
inline void init_mbarrier(std::uint64_t* barrier, int count) {
  cuda_emulation::mbarrier_init(barrier, count);
}
inline void fence_mbarriers() {
  cuda_emulation::fence_mbarrier_init();
}
inline void arrive(std::uint64_t* barrier) {
  cuda_emulation::mbarrier_arrive(barrier);
}
inline void arrive_expecting(std::uint64_t* barrier, int bytes) {
  cuda_emulation::mbarrier_arrive_expect(barrier, static_cast<std::uint32_t>(bytes));
}
inline void arrive_after_copies(std::uint64_t* barrier) {
  cuda_emulation::mbarrier_arrive_after_copies(barrier);
}
inline void wait_for(std::uint64_t* barrier, unsigned parity) {
  cuda_emulation::mbarrier_wait(barrier, parity);
}
inline void fence_for_async() {
  cuda_emulation::fence_proxy_async();
}
template <typename... Coordinates>
void load_box(void* to, const CUtensorMap& map, std::uint64_t* barrier, Coordinates... coordinates) {
  const int at[] = {coordinates...};
  cuda_emulation::tma_load(to, &map, barrier, static_cast<int>(sizeof...(coordinates)), at, 0);
}
inline void load_box_to(unsigned blocks, void* to, const CUtensorMap& map, std::uint64_t* barrier, int c0,
                        int c1) {
  const int at[] = {c0, c1};
  cuda_emulation::tma_load(to, &map, barrier, 2, at, blocks);
}
inline int rank_in_cluster() {
  return cuda_emulation::rank_in_cluster();
}
inline void arrive_in(int rank, std::uint64_t* barrier) {
  cuda_emulation::mbarrier_arrive_in(barrier, rank);
}
inline void meet_cluster() {
  cuda_emulation::cluster_barrier();
}
inline void store_box(const CUtensorMap& map, const void* from, int c0, int c1, int c2) {
  const int at[] = {c0, c1, c2};
  cuda_emulation::tma_store(&map, from, 3, at);
}
inline void commit_stores() {
  cuda_emulation::commit_stores();
}
template <int kGroups>
void wait_stores_read() {
  cuda_emulation::wait_stores(kGroups, true);
}
template <int kGroups>
void wait_stores() {
  cuda_emulation::wait_stores(kGroups, false);
}
inline void meet(int id, int threads) {
  cuda_emulation::named_barrier(id, threads, true);
}
template <int kCount>
void take_registers() {
  cuda_emulation::set_registers(kCount, true);
}
template <int kCount>
void give_registers() {
  cuda_emulation::set_registers(kCount, false);
}
inline void wgmma_fence() {
  cuda_emulation::wgmma_fence();
}
inline void wgmma_commit() {
  cuda_emulation::wgmma_commit();
}
template <int kGroups>
void wgmma_wait() {
  cuda_emulation::wgmma_wait(kGroups);
}
inline void keep_after_wait(float&) {}

#endif

/// Of kStages buffers that are filled and read in turn the next one, and which of its mbarriers' phases.
template <int kStages>
struct BufferStage {
  int at = 0;
  unsigned phase = 0;
  __device__ __forceinline__ void advance() {
    if (++at < kStages) return;
    at = 0;
    phase ^= 1;
  }
};

/// An operand in shared memory, rows of 128 bytes with the 128-byte swizzle, at a multiple of 1,024 bytes
/// (and 32 bytes a step of 16 k beyond, where rows lie along k; 2,048 across). Rows of the operand are 128
/// bytes long and 8 of them `stride` apart; across k, slabs of 64 are `leading` apart. (PTX ISA 9.0, "Matrix
/// Descriptor Format".)
__device__ __forceinline__ std::uint64_t descriptor_of(const void* p, int leading, int stride) {
  return static_cast<std::uint64_t>((shared_address(p) & 0x3ffffU) >> 4) |
         static_cast<std::uint64_t>(leading >> 4) << 16 | static_cast<std::uint64_t>(stride >> 4) << 32 |
         std::uint64_t{1} << 62;
}

#endif

}  // namespace hone::kernels::cuda
