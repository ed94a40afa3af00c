// The emulated twins of what compute capability 9.0 has beside mma: mbarriers, TMA, wgmma, named barriers,
// setmaxnreg. Meanings are those of the PTX ISA 9.0; what is late there is as late here as it may be
// (emulation/cuda/README.md).
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

namespace cuda_emulation {

/// Where it is in the block's shared memory: a 32-bit shared address.
std::uint32_t shared_address(const void* p);

// mbarrier.{init, arrive, arrive.expect_tx, try_wait.parity until it is true} of .shared::cta,
// fence.mbarrier_init, cp.async.mbarrier.arrive.noinc
void mbarrier_init(void* barrier, int count);
void fence_mbarrier_init();
void mbarrier_arrive(void* barrier);
/// The same of the mbarrier that another block of the cluster has there (mapa; .shared::cluster). Who waits
/// there learns as of .release.cluster, where hardware promises the order of this thread's reads alone.
void mbarrier_arrive_in(void* barrier, int rank);
void mbarrier_arrive_expect(void* barrier, std::uint32_t bytes);
void mbarrier_wait(void* barrier, unsigned parity);
void mbarrier_arrive_after_copies(void* barrier);
/// fence.proxy.async.shared::cta
void fence_proxy_async();

/// cp.async.bulk.tensor.{2 … 5}d.shared::cluster.global.mbarrier::complete_tx::bytes, with
/// .multicast::cluster where `blocks` of the cluster, a bit each, are not 0.
void tma_load(void* to, const CUtensorMap* map, void* barrier, int rank, const int* at, unsigned blocks);

/// A kernel's blocks come in clusters of so many, as __cluster_dims__ says elsewhere.
void set_cluster(const void* kernel, int blocks);
/// %cluster_ctarank
int rank_in_cluster();
/// barrier.cluster.{arrive, wait} of all threads of all its blocks
void cluster_barrier();

/// cp.async.bulk.tensor.{2 … 5}d.global.shared::cta.bulk_group; commit_group; wait_group for all but the last
/// `groups`, or wait_group.read, after which shared memory may be written again and the tensor is not there
/// yet.
void tma_store(const CUtensorMap* map, const void* from, int rank, const int* at);
void commit_stores();
void wait_stores(int groups, bool read);

/// bar.sync, or bar.arrive where it does not wait.
void named_barrier(int id, int threads, bool waits);
/// setmaxnreg.{inc, dec}
void set_registers(int count, bool increase);

/// wgmma.mma_async.sync.aligned.m64nNk16.f32.bf16.bf16, both operands by descriptors; d: this thread's n / 2
/// sums.
void wgmma(float* d, int n, std::uint64_t a, std::uint64_t b, bool accumulate, bool a_transposed,
           bool b_transposed);
/// The same, a in four registers of this thread, which are read when the warp waits for it.
void wgmma_of_registers(float* d, int n, const std::uint32_t* a, std::uint64_t b, bool accumulate,
                        bool b_transposed);
/// wgmma.mma_async.sync.aligned.m64nNk32.f32.e4m3.e4m3: both lie along k, others there are none of.
void wgmma_e4m3(float* d, int n, std::uint64_t a, std::uint64_t b, bool accumulate);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int groups);

}  // namespace cuda_emulation
