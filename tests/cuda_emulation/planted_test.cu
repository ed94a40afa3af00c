// Kernels with a bug each: the emulator must say which, and leave their mended twins alone.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace hone::kernels::cuda {
namespace {

using testing::HasSubstr;

/// Device memory for a test; a new device afterwards.
class Planted : public testing::Test {
 protected:
  ~Planted() override {
    cudaDeviceReset();
    for (void* p : memory_) cudaFree(p);
  }
  template <typename T>
  T* uninitialised(std::size_t n) {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, n * sizeof(T)), cudaSuccess);
    memory_.push_back(p);
    return static_cast<T*>(p);
  }
  template <typename T>
  T* zeros(std::size_t n) {
    T* p = uninitialised<T>(n);
    EXPECT_EQ(cudaMemset(p, 0, n * sizeof(T)), cudaSuccess);
    return p;
  }
  /// Runs what was launched; what was caught, "" if nothing.
  static std::string outcome() {
    const int before = cuda_emulation::caught();
    const cudaError_t status = cudaDeviceSynchronize();
    if (status == cudaSuccess) return "";
    EXPECT_EQ(status, cudaErrorIllegalAddress);
    EXPECT_GE(cuda_emulation::caught(), before);
    EXPECT_EQ(std::string(cudaGetErrorString(status)), cuda_emulation::last_report());
    cudaDeviceReset();
    return cuda_emulation::last_report();
  }

 private:
  std::vector<void*> memory_;
};

__device__ int thread_of_grid() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

template <typename T>
__global__ void fill(T* p, int n) {
  begin_kernel();
  if (thread_of_grid() < n) p[thread_of_grid()] = T(1);
}
TEST_F(Planted, WritesBeyondAnAllocationAreToldByTheByte) {
  auto* p = uninitialised<float>(33);
  HONE_LAUNCH(fill<float>, 2, 32, 0, nullptr, p, 33);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(fill<float>, 2, 32, 0, nullptr, p, 34);
  EXPECT_THAT(outcome(), HasSubstr("fill<float>, block (1, 0, 0), thread (1, 0, 0): write of 4 bytes"));
  EXPECT_THAT(cuda_emulation::last_report(), HasSubstr("0 bytes beyond an allocation of 132"));
  auto* bytes = uninitialised<unsigned char>(33);
  HONE_LAUNCH(fill<unsigned char>, 2, 32, 0, nullptr, bytes, 34);
  EXPECT_THAT(outcome(), HasSubstr("0 bytes beyond an allocation of 33"));
}

__global__ void read_at(const float* p, int at, float* to) {
  begin_kernel();
  *to = p[at];
}
TEST_F(Planted, ReadsOutOfBounds) {
  auto* p = zeros<float>(8);
  auto* to = zeros<float>(1);
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, p, 7, to);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, p, -1, to);
  EXPECT_THAT(outcome(), HasSubstr("4 bytes before an allocation of 32"));
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, p, 1 << 28, to);
  EXPECT_THAT(outcome(), HasSubstr("out of bounds"));
}
TEST_F(Planted, FreedMemory) {
  auto* to = zeros<float>(1);
  float* p = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&p), 64);
  cudaMemset(p, 0, 64);
  cudaFree(p);
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, p, 0, to);
  EXPECT_THAT(outcome(), HasSubstr("it was freed"));
}
TEST_F(Planted, HostMemory) {
  auto* to = zeros<float>(1);
  std::vector<float> host(8);
  float on_stack = 0;
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, host.data(), 0, to);
  EXPECT_THAT(outcome(), HasSubstr("which is not device memory"));
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, &on_stack, 0, to);
  EXPECT_THAT(outcome(), HasSubstr("which is not device memory"));
}
TEST_F(Planted, UninitialisedGlobalMemory) {
  auto* p = uninitialised<float>(8);
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, p, 3, zeros<float>(1));
  EXPECT_THAT(outcome(), HasSubstr("which is uninitialised"));
  auto* copy = uninitialised<float>(8);
  cudaMemset(p, 0, 8);
  cudaMemcpy(copy, p, 32, cudaMemcpyDeviceToDevice);
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, copy, 1, zeros<float>(1));
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(read_at, 1, 1, 0, nullptr, copy, 2, zeros<float>(1));
  EXPECT_THAT(outcome(), HasSubstr("which is uninitialised"));
}

__global__ void read_vector(const float* p, float* to) {
  begin_kernel();
  *to = reinterpret_cast<const float4*>(p)->x;
}
__global__ void write_vector(float* p) {
  begin_kernel();
  *reinterpret_cast<float4*>(p) = make_float4(1, 2, 3, 4);
}
TEST_F(Planted, MisalignedVectors) {
  auto* p = zeros<float>(8);
  HONE_LAUNCH(read_vector, 1, 1, 0, nullptr, p, zeros<float>(1));
  HONE_LAUNCH(write_vector, 1, 1, 0, nullptr, p + 4);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(read_vector, 1, 1, 0, nullptr, p + 1, zeros<float>(1));
  EXPECT_THAT(outcome(), HasSubstr("misaligned access"));
  HONE_LAUNCH(write_vector, 1, 1, 0, nullptr, p + 2);
  EXPECT_THAT(outcome(), HasSubstr("which needs 16 bytes"));
}

__global__ void shared_at(int at, float* to) {
  begin_kernel();
  HONE_SHARED(float, first, [32]);
  HONE_SHARED(float, second, [32]);
  first[threadIdx.x] = second[threadIdx.x] = 0;
  __syncthreads();
  float* p = first;
  if (threadIdx.x == 0) *to = p[at];
}
__global__ void dynamic_at(int at) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(float, data);
  data[at + static_cast<int>(threadIdx.x)] = 1;
}
TEST_F(Planted, SharedMemoryOutOfBounds) {
  auto* to = zeros<float>(1);
  HONE_LAUNCH(shared_at, 1, 32, 0, nullptr, 31, to);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(shared_at, 1, 32, 0, nullptr, 32, to);
  EXPECT_THAT(outcome(), HasSubstr("out of bounds"));
  HONE_LAUNCH(dynamic_at, 1, 32, 128, nullptr, 0);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(dynamic_at, 1, 32, 128, nullptr, 1);
  EXPECT_THAT(outcome(), HasSubstr("0 bytes beyond 128 bytes of dynamic shared memory"));
}

__global__ void uninitialised_shared(float* to, bool write) {
  begin_kernel();
  HONE_SHARED(float, data, [32]);
  if (write || threadIdx.x != 5) data[threadIdx.x] = 0;
  __syncthreads();
  to[threadIdx.x] = data[31 - threadIdx.x];
}
TEST_F(Planted, UninitialisedSharedMemory) {
  auto* to = zeros<float>(32);
  HONE_LAUNCH(uninitialised_shared, 1, 32, 0, nullptr, to, true);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(uninitialised_shared, 1, 32, 0, nullptr, to, false);  // of the block before
  EXPECT_THAT(outcome(), HasSubstr("shared memory data, byte 20, which is uninitialised"));
}

enum class Between { kNothing, kWarp, kBlock };
/// Each thread takes its neighbour's number, `distance` away, and puts one back.
template <typename T>
__global__ void exchange(T* to, int distance, Between before, Between after) {
  begin_kernel();
  HONE_SHARED(T, data, [64]);
  const int me = static_cast<int>(threadIdx.x), other = (me + distance) % static_cast<int>(blockDim.x);
  data[me] = T(me);
  if (before == Between::kWarp) __syncwarp();
  if (before == Between::kBlock) __syncthreads();
  const T got = data[other];
  if (after == Between::kWarp) __syncwarp();
  if (after == Between::kBlock) __syncthreads();
  data[me] = T(0);
  to[me] = got;
}
TEST_F(Planted, RacesInSharedMemory) {
  auto* to = zeros<float>(64);
  auto* narrow = zeros<unsigned char>(64);
  using enum Between;
  HONE_LAUNCH(exchange<float>, 1, 64, 0, nullptr, to, 32, kBlock, kBlock);
  HONE_LAUNCH(exchange<float>, 1, 32, 0, nullptr, to, 1, kWarp, kWarp);
  HONE_LAUNCH(exchange<unsigned char>, 1, 64, 0, nullptr, narrow, 1, kBlock, kBlock);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(exchange<float>, 1, 64, 0, nullptr, to, 32, kWarp, kBlock);  // other warp's
  EXPECT_THAT(outcome(), testing::AnyOf(HasSubstr("race"), HasSubstr("uninitialised")));
  HONE_LAUNCH(exchange<float>, 1, 64, 0, nullptr, to, 32, kBlock, kWarp);
  EXPECT_THAT(outcome(), HasSubstr("race: "));
  HONE_LAUNCH(exchange<float>, 1, 32, 0, nullptr, to, 1, kWarp, kNothing);
  EXPECT_THAT(outcome(), HasSubstr("race: "));
}

__global__ void add_across_blocks(int* sum, bool atomically) {
  begin_kernel();
  if (threadIdx.x != 0) return;
  if (atomically)
    atomicAdd(sum, 1);
  else
    *sum = 1;
}
__global__ void neighbours(float* p) {
  begin_kernel();
  p[threadIdx.x] = 1;
  p[(threadIdx.x + 1) % 32] = 2;
}
TEST_F(Planted, RacesInGlobalMemory) {
  auto* sum = zeros<int>(1);
  HONE_LAUNCH(add_across_blocks, 40, 32, 0, nullptr, sum, true);
  EXPECT_EQ(outcome(), "");
  int host = 0;
  cudaMemcpy(&host, sum, sizeof host, cudaMemcpyDeviceToHost);
  EXPECT_EQ(host, 40);
  HONE_LAUNCH(add_across_blocks, 1, 32, 0, nullptr, sum, false);  // launches of a stream are in order
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(add_across_blocks, 2, 32, 0, nullptr, sum, false);
  EXPECT_THAT(outcome(), HasSubstr("of the grid wrote without a barrier between"));
  HONE_LAUNCH(neighbours, 1, 32, 0, nullptr, zeros<float>(32));
  EXPECT_THAT(outcome(), HasSubstr("of this block wrote without a barrier between"));
}

__global__ void divergent(int threads) {
  begin_kernel();
  if (static_cast<int>(threadIdx.x) < threads) __syncthreads();
}
__global__ void elsewhere() {
  begin_kernel();
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncwarp(threadIdx.x == 40 ? 0xffffffffU : 0xffffffffU), __syncthreads_count(1);
}
__global__ void partial_shuffle(int* to, int lanes, int from, unsigned mask) {
  begin_kernel();
  if (static_cast<int>(threadIdx.x) < lanes)
    to[threadIdx.x] = __shfl_sync(mask, static_cast<int>(threadIdx.x), from);
}
TEST_F(Planted, DivergentBarriers) {
  HONE_LAUNCH(divergent, 3, 64, 0, nullptr, 64);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(divergent, 3, 64, 0, nullptr, 63);
  EXPECT_THAT(outcome(), HasSubstr("waits in __syncthreads for thread (63, 0, 0), which has exited"));
  HONE_LAUNCH(elsewhere, 1, 64, 0, nullptr);
  EXPECT_THAT(outcome(), HasSubstr("waits in __syncthreads"));
}
TEST_F(Planted, ShufflesAmongLanesThatDoNotTakePart) {
  auto* to = zeros<int>(32);
  HONE_LAUNCH(partial_shuffle, 1, 32, 0, nullptr, to, 32, 3, 0xffffffffU);
  HONE_LAUNCH(partial_shuffle, 1, 32, 0, nullptr, to, 16, 3, 0xffffU);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(partial_shuffle, 1, 32, 0, nullptr, to, 16, 3, 0xffffffffU);
  EXPECT_THAT(outcome(), HasSubstr("__shfl_sync"));
  HONE_LAUNCH(partial_shuffle, 1, 32, 0, nullptr, to, 16, 20, 0xffffU);
  EXPECT_THAT(outcome(), HasSubstr("takes the value of lane 20, which does not take part"));
  HONE_LAUNCH(partial_shuffle, 1, 32, 0, nullptr, to, 17, 3, 0xffffU);
  EXPECT_THAT(outcome(), HasSubstr("in which the lane itself is not"));
}

__global__ void late_copy(const float* from, float* to, bool wait, bool barrier, int misaligned) {
  begin_kernel();
  HONE_SHARED(float4, data, [64]);
  const int me = static_cast<int>(threadIdx.x);
  copy_async_16(&data[me], from + 4 * me + misaligned);
  commit_copies();
  if (wait) wait_copies<0>();
  if (barrier) __syncthreads();
  to[me] = data[me ^ 33].y;
}
TEST_F(Planted, AsynchronousCopies) {
  auto* from = zeros<float>(260);
  auto* to = zeros<float>(64);
  HONE_LAUNCH(late_copy, 1, 64, 0, nullptr, from, to, true, true, 0);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(late_copy, 1, 64, 0, nullptr, from, to, false, true, 0);
  EXPECT_THAT(outcome(), HasSubstr("while an asynchronous copy is on its way there"));
  HONE_LAUNCH(late_copy, 1, 64, 0, nullptr, from, to, true, false, 0);
  EXPECT_NE(outcome(), "");
  HONE_LAUNCH(late_copy, 1, 64, 0, nullptr, from, to, true, true, 1);
  EXPECT_THAT(outcome(), HasSubstr("misaligned cp.async"));
}

/// Four matrices of 8 x 8 that a warp stores; lane i reads of row i / 2.
__global__ void stored_matrices(std::uint32_t* to, bool barrier) {
  begin_kernel();
  HONE_SHARED(__nv_bfloat16, rows, [32][8]);
  const int lane = static_cast<int>(threadIdx.x);
  const std::uint32_t words[4] = {0, 1, 2, 3};
  stmatrix_4(words, rows[lane]);
  if (barrier) __syncwarp();
  to[lane] = *reinterpret_cast<const std::uint32_t*>(rows[lane / 2]);
}
TEST_F(Planted, StoredMatricesAreOthersAfterABarrier) {
  auto* to = zeros<std::uint32_t>(32);
  HONE_LAUNCH(stored_matrices, 1, 32, 0, nullptr, to, true);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(stored_matrices, 1, 32, 0, nullptr, to, false);
  EXPECT_THAT(outcome(), HasSubstr("race: read of 4 bytes at shared memory rows"));
}

__global__ void has_static_and_dynamic() {
  begin_kernel();
  HONE_SHARED(float, own, [256]);
  HONE_DYNAMIC_SHARED(float, given);
  own[threadIdx.x] = given[threadIdx.x] = 0;
}
TEST_F(Planted, StaticAndDynamicSharedMemoryHaveOneLimit) {
  HONE_LAUNCH(has_static_and_dynamic, 1, 32, 47 << 10, nullptr);
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(has_static_and_dynamic, 1, 32, 48 << 10, nullptr);  // which asks for no more
  EXPECT_THAT(outcome(),
              HasSubstr("too much shared memory: 1024 bytes of its own and 49152 dynamic of 49152"));
}

__global__ void hoards() {
  begin_kernel();
  HONE_SHARED(float, data, [12289]);
  data[threadIdx.x] = 0;
}
TEST_F(Planted, Limits) {
  HONE_LAUNCH(hoards, 1, 32, 0, nullptr);
  EXPECT_THAT(outcome(), HasSubstr("too much shared memory: 49156 bytes of its own"));
  const auto refused = [](auto... how) {
    try {
      HONE_LAUNCH(divergent, how..., nullptr, 0);
    } catch (const Error& e) {
      cudaGetLastError();
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(refused(dim3(1), dim3(1024), 48 << 10), "");
  EXPECT_EQ(refused(dim3(1), dim3(32), 227 << 10), "");
  EXPECT_THAT(refused(dim3(1), dim3(32), (227 << 10) + 1), HasSubstr("cudaErrorInvalidValue"));
  EXPECT_THAT(refused(dim3(1), dim3(1025), 0),
              HasSubstr("no launch of (1, 1, 1) blocks of (1025, 1, 1) threads"));
  EXPECT_THAT(refused(dim3(1), dim3(1, 1, 65), 0), HasSubstr("cudaErrorInvalidConfiguration"));
  EXPECT_THAT(refused(dim3(0), dim3(32), 0), HasSubstr("cudaErrorInvalidConfiguration"));
  EXPECT_THAT(refused(dim3(1, 65536), dim3(32), 0), HasSubstr("cudaErrorInvalidConfiguration"));
  EXPECT_EQ(outcome(), "");
  ::setenv("HONE_CUDA_EMULATED_SM", "120", 1);
  EXPECT_EQ(refused(dim3(1), dim3(32), 99 << 10), "");
  EXPECT_THAT(refused(dim3(1), dim3(32), (99 << 10) + 1), HasSubstr("cudaErrorInvalidValue"));
  ::unsetenv("HONE_CUDA_EMULATED_SM");
}

}  // namespace
}  // namespace hone::kernels::cuda
