// What right kernels compute in the emulator: collectives, tensor cores, streams.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/dtype.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace hone::kernels::cuda {
namespace {

template <typename T>
T* managed(std::size_t n) {
  void* p = nullptr;
  EXPECT_EQ(cudaMallocManaged(&p, n * sizeof(T)), cudaSuccess);
  return static_cast<T*>(p);
}

__global__ void collectives(unsigned* to) {
  begin_kernel();
  const unsigned me = threadIdx.x;
  constexpr unsigned kAll = 0xffffffffU;
  unsigned* mine = to + me * 16;
  mine[0] = __shfl_up_sync(kAll, me, 3);
  mine[1] = __shfl_down_sync(kAll, me, 3, 8);
  mine[2] = __shfl_xor_sync(kAll, me, 5);
  mine[3] = __shfl_sync(kAll, me, 9, 8);
  mine[4] = __ballot_sync(kAll, me % 3 == 0);
  mine[5] =
      static_cast<unsigned>(__any_sync(kAll, me == 7)) + 2 * static_cast<unsigned>(__all_sync(kAll, me != 7));
  mine[6] = __reduce_add_sync(kAll, me);
  mine[7] = __reduce_max_sync(kAll, me ^ 21U);
  mine[8] = __match_any_sync(kAll, me / 4);
  mine[9] = __reduce_xor_sync(kAll, me * me);
  mine[10] = static_cast<unsigned>(__syncthreads_count(me % 5 == 0));
  mine[11] = static_cast<unsigned>(__syncthreads_or(me == 3)) +
             2 * static_cast<unsigned>(__syncthreads_and(me != 3));
  mine[12] = me < 8 ? __shfl_sync(0xffU, me, 2) : 0;  // part of the warp
}
TEST(Emulation, Collectives) {
  auto* to = managed<unsigned>(32 * 16);
  HONE_LAUNCH(collectives, 1, 32, 0, nullptr, to);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  unsigned squares = 0;
  for (unsigned i = 0; i < 32; ++i) squares ^= i * i;
  for (unsigned i = 0; i < 32; ++i) {
    const unsigned want[] = {i < 3 ? i : i - 3,
                             i % 8 < 5 ? i + 3 : i,
                             i ^ 5,
                             i / 8 * 8 + 1,
                             0x49249249U,
                             1,
                             496,
                             31,
                             0xfU << i / 4 * 4,
                             squares,
                             7,
                             1,
                             i < 8 ? 2U : 0U};
    for (unsigned j = 0; j < std::size(want); ++j)
      EXPECT_EQ(to[i * 16 + j], want[j]) << "lane " << i << ", " << j;
  }
  cudaFree(to);
}

/// c (16, 8) = a (16, 16) b (16, 8), all row-major, the operands by ldmatrix.
__global__ void tile_product(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c,
                             __nv_bfloat16* round_trip) {
  begin_kernel();
  HONE_SHARED(__nv_bfloat16, left, [16][24]);
  HONE_SHARED(__nv_bfloat16, right, [16][16]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) left[i / 16][i % 16] = a[i];
  for (int i = lane; i < 256; i += 32) right[i / 16][i % 16] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : b[0];
  __syncwarp();
  std::uint32_t x[4], y[4];
  ldmatrix_4(x, &left[lane % 16][lane / 16 * 8]);
  ldmatrix_4_transposed(y, &right[lane % 16][lane / 16 * 8]);
  float sums[4] = {};
  const std::uint32_t first[2] = {y[0], y[1]};
  mma_bf16(sums, x, first);
  for (int i = 0; i < 4; ++i) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
  __syncwarp();
  stmatrix_4(x, &right[lane % 16][lane / 16 * 8]);
  __syncwarp();
  for (int i = lane; i < 256; i += 32) round_trip[i] = right[i / 16][i % 16];
}
TEST(Emulation, TensorCores) {
  auto *a = managed<__nv_bfloat16>(256), *b = managed<__nv_bfloat16>(128),
       *back = managed<__nv_bfloat16>(256);
  auto* c = managed<float>(128);
  std::mt19937 random(3);
  for (int i = 0; i < 256; ++i) a[i] = __nv_bfloat16(static_cast<float>(random() % 17) - 8);
  for (int i = 0; i < 128; ++i) b[i] = __nv_bfloat16(static_cast<float>(random() % 17) - 8);
  HONE_LAUNCH(tile_product, 1, 32, 0, nullptr, a, b, c, back);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float want = 0;
      for (int k = 0; k < 16; ++k) want += float(a[i * 16 + k]) * float(b[k * 8 + j]);
      EXPECT_EQ(c[i * 8 + j], want) << i << ", " << j;
    }
  for (int i = 0; i < 256; ++i) EXPECT_EQ(float(back[i]), float(a[i]));
  for (void* p :
       {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c), static_cast<void*>(back)})
    cudaFree(p);
}

/// One element each of a and b that is not 0, at every place in turn: where the layouts put it.
template <int kBytes>
__global__ void narrow_product(const unsigned char* a, const unsigned char* b, float* c) {
  begin_kernel();
  const int lane = static_cast<int>(threadIdx.x), group = lane / 4, place = lane % 4;
  const auto word = [](const unsigned char* p) {
    return p[0] | std::uint32_t{p[1]} << 8 | std::uint32_t{p[2]} << 16 | std::uint32_t{p[3]} << 24;
  };
  // rows of 32 bytes, b column by column
  const std::uint32_t x[4] = {word(a + group * 32 + place * 4), word(a + (group + 8) * 32 + place * 4),
                              word(a + group * 32 + 16 + place * 4),
                              word(a + (group + 8) * 32 + 16 + place * 4)};
  const std::uint32_t y[2] = {word(b + group * 32 + place * 4), word(b + group * 32 + 16 + place * 4)};
  float sums[4] = {};
  if (kBytes == 1)
    mma_e4m3(sums, x, y);
  else if (kBytes == 2)
    mma_f16(sums, x, y);
  else
    mma_tf32(sums, x, y);
  for (int i = 0; i < 4; ++i) c[(group + i / 2 * 8) * 8 + place * 2 + i % 2] = sums[i];
}
template <int kBytes>
void expect_narrow_product(const std::vector<std::pair<std::uint32_t, float>>& numbers) {
  auto *a = managed<unsigned char>(512), *b = managed<unsigned char>(256);
  auto* c = managed<float>(128);
  std::mt19937 random(kBytes);
  constexpr int kDepth = 32 / kBytes;
  std::vector<float> x(16 * kDepth), y(8 * kDepth);
  for (auto [values, memory] : {std::pair{&x, a}, std::pair{&y, b}})
    for (std::size_t i = 0; i < values->size(); ++i) {
      const auto& [bits, value] = numbers[random() % numbers.size()];
      (*values)[i] = value;
      std::memcpy(memory + i * kBytes, &bits, kBytes);
    }
  HONE_LAUNCH(narrow_product<kBytes>, 1, 32, 0, nullptr, a, b, c);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float want = 0;
      for (int k = 0; k < kDepth; ++k)
        want += x[static_cast<std::size_t>(i * kDepth + k)] * y[static_cast<std::size_t>(j * kDepth + k)];
      EXPECT_EQ(c[i * 8 + j], want) << i << ", " << j;
    }
  for (void* p : {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c)}) cudaFree(p);
}
TEST(Emulation, NarrowerAndWiderProducts) {
  expect_narrow_product<1>(
      {{0, 0}, {0x38, 1}, {0xc4, -3}, {0x7e, 448}, {0x01, 0x1p-9F}, {0x87, -7 * 0x1p-9F}});
  expect_narrow_product<2>({{0, 0}, {0x3c00, 1}, {0xc200, -3}, {0x7bff, 65504}, {0x0001, 0x1p-24F}});
  expect_narrow_product<4>(
      {{0, 0}, {0x3f800000, 1}, {0xc0400000, -3}, {0x3f801fff, 1}});  // the last 13 bits are cut
}

__global__ void set_to(int* p, int value) {
  begin_kernel();
  *p = value;
}
__global__ void add_from(int* p, const int* q) {
  begin_kernel();
  *p += *q;
}
TEST(Emulation, EventsOrderStreams) {
  cudaStream_t one = nullptr, two = nullptr;
  cudaEvent_t event = nullptr;
  cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  auto *p = managed<int>(1), *q = managed<int>(1);
  bool was_late = false;
  for (int i = 0; i < 50; ++i) {
    HONE_LAUNCH(set_to, 1, 1, 0, one, p, i);
    cudaEventRecord(event, one);
    was_late = was_late || cudaEventQuery(event) == cudaErrorNotReady;
    cudaStreamWaitEvent(two, event);
    HONE_LAUNCH(set_to, 1, 1, 0, two, q, 1000);
    HONE_LAUNCH(add_from, 1, 1, 0, two, q, p);
    ASSERT_EQ(cudaStreamSynchronize(two), cudaSuccess);
    EXPECT_EQ(*q, 1000 + i);
    EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  }
  EXPECT_TRUE(was_late);
  cudaFree(p);
  cudaFree(q);
  cudaEventDestroy(event);
  cudaStreamDestroy(one);
  cudaStreamDestroy(two);
}

TEST(Emulation, CopiesFromPinnedMemoryReadItLate) {
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  void *pinned = nullptr, *device = nullptr;
  cudaMallocHost(&pinned, 4);
  cudaMalloc(&device, 4);
  bool was_late = false, kept = true;
  for (int i = 0; i < 50; ++i) {
    int host = 1;
    *static_cast<int*>(pinned) = 1;
    cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream);
    *static_cast<int*>(pinned) = 2;
    cudaMemcpyAsync(&host, device, 4, cudaMemcpyDeviceToHost, stream);
    was_late = was_late || host == 2;
    host = 3;
    cudaMemcpyAsync(device, &host, 4, cudaMemcpyHostToDevice, stream);
    host = 4;
    cudaMemcpyAsync(&host, device, 4, cudaMemcpyDeviceToHost, stream);
    kept = kept && host == 3;
  }
  EXPECT_TRUE(was_late);
  EXPECT_TRUE(kept);
  cudaFree(device);
  cudaFreeHost(pinned);
  cudaStreamDestroy(stream);
}

TEST(Emulation, WhatIsFreedTakesNothingOfItsNeighbours) {
  // in sizes that end between pages, each before one that is kept
  constexpr std::size_t kLarge = (std::size_t{2} << 20) + 512, kSmall = 1024;
  for (int i = 0; i < 8; ++i) {
    void *large = nullptr, *small = nullptr;
    cudaMallocManaged(&large, kLarge + static_cast<std::size_t>(i) * 512);
    cudaMallocManaged(&small, kSmall);
    std::memset(small, 7, kSmall);
    cudaFree(large);
    const auto* bytes = static_cast<const unsigned char*>(small);
    EXPECT_EQ(std::count(bytes, bytes + kSmall, 7), kSmall) << i;
    cudaFree(small);
  }
}

}  // namespace
}  // namespace hone::kernels::cuda
