// The emulator's mbarriers, TMA, wgmma and proxies: what right kernels compute, and that it says what is
// wrong with others.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "tests/cuda_emulation/hopper_emulation.h"

namespace hone::kernels::cuda {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
// --- TMA

/// A box of `rows` rows of 64 numbers to shared memory, and from there, in the rows' order, back.
template <int kRank>
__global__ void box_and_back(const __grid_constant__ CUtensorMap map, int rows, int c0, int c1, int c2,
                             int c3, Number* to) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  HONE_SHARED(std::uint64_t, barrier, [1]);
  if (threadIdx.x == 0) {
    init_mbarrier(barrier, 1);
    fence_mbarriers();
    arrive_expecting(barrier, rows * 128);
    if constexpr (kRank == 2) load_box(memory, map, barrier, c0, c1);
    if constexpr (kRank == 3) load_box(memory, map, barrier, c0, c1, c2);
    if constexpr (kRank == 4) load_box(memory, map, barrier, c0, c1, c2, c3);
  }
  __syncthreads();
  wait_for(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < rows * 64; i += static_cast<int>(blockDim.x)) {
    const int row = i / 64, col = i % 64;
    to[i] = reinterpret_cast<const Number*>(memory + row * 128 + (col / 8 ^ row % 8) * 16)[col % 8];
  }
}
TEST_F(HopperEmulation, BoxesComeSwizzledAndZeroBeyondTheTensor) {
  constexpr int kWide = 72, kHigh = 11;
  auto* from = random_numbers(kWide * kHigh, 1);
  auto* to = managed<Number>(16 * 64);
  const CUtensorMap map = map_of(from, {kWide, kHigh}, {kWide * 2}, {64, 16});
  for (const auto& [c0, c1] : {std::pair{0, 0}, std::pair{64, 3}, std::pair{-8, -2}, std::pair{4, 10}}) {
    HONE_LAUNCH(box_and_back<2>, 1, 64, 16 * 128, nullptr, map, 16, c0, c1, 0, 0, to);
    ASSERT_EQ(outcome(), "");
    for (int i = 0; i < 16 * 64; ++i) {
      const int row = c1 + i / 64, col = c0 + i % 64;
      const bool inside = row >= 0 && row < kHigh && col >= 0 && col < kWide;
      ASSERT_EQ(float(to[i]), inside ? float(from[row * kWide + col]) : 0.0F)
          << c0 << ", " << c1 << ": " << i;
    }
  }
}
TEST_F(HopperEmulation, BoxesOfThreeAndFourDimensions) {
  constexpr int kK = 64, kRows = 48, kExperts = 2;  // of a gate and an up matrix each
  auto* from = random_numbers(kK * kRows * 2 * kExperts, 2);
  auto* to = managed<Number>(64 * 64);
  HONE_LAUNCH(box_and_back<3>, 1, 64, 16 * 128, nullptr,
              map_of(from, {kK, 2 * kRows, kExperts}, {kK * 2, kK * 2 * kRows * 2}, {64, 16, 1}), 16, 0, 88,
              1, 0, to);
  ASSERT_EQ(outcome(), "");
  for (int i = 0; i < 16 * 64; ++i) {
    const int row = 88 + i / 64;  // eight rows are of expert 1, whose neighbour is not read
    ASSERT_EQ(float(to[i]), row < 2 * kRows ? float(from[(2 * kRows + row) * kK + i % 64]) : 0.0F) << i;
  }
  // rows of the up part of expert 1, of which there are 8
  const cuuint64_t row_bytes = kK * 2;
  HONE_LAUNCH(box_and_back<4>, 1, 64, 16 * 128, nullptr,
              map_of(from, {kK, kRows, 2, kExperts}, {row_bytes, row_bytes * kRows, row_bytes * kRows * 2},
                     {64, 16, 1, 1}),
              16, 0, kRows - 8, 1, 1, to);
  ASSERT_EQ(outcome(), "");
  for (int i = 0; i < 16 * 64; ++i)
    ASSERT_EQ(float(to[i]), i / 64 < 8 ? float(from[(4 * kRows - 8 + i / 64) * kK + i % 64]) : 0.0F) << i;
}
TEST_F(HopperEmulation, TensorMapsThatTheDriverRefuses) {
  CUtensorMap map{};
  auto* data = managed<Number>(4096);
  const cuuint32_t ones[2] = {1, 1};
  const auto encode = [&](const void* at, cuuint64_t stride, cuuint32_t columns, cuuint32_t rows) {
    const cuuint64_t dims[2] = {64, 16};
    const cuuint32_t box[2] = {columns, rows};
    return cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(at), dims,
                                  &stride, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  EXPECT_EQ(encode(data, 128, 64, 16), CUDA_SUCCESS);
  EXPECT_NE(encode(data + 1, 128, 64, 16), CUDA_SUCCESS);
  EXPECT_NE(encode(data, 136, 64, 16), CUDA_SUCCESS);
  EXPECT_NE(encode(data, 128, 128, 16), CUDA_SUCCESS);
  EXPECT_NE(encode(data, 128, 64, 257), CUDA_SUCCESS);
}

// --- wgmma

/// c (64, n) = a b over 64 of k; a and b in shared memory along k or across.
template <int kN, bool kAAcross, bool kBAcross>
__global__ void product(const __grid_constant__ CUtensorMap of_a, const __grid_constant__ CUtensorMap of_b,
                        float* c) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  HONE_SHARED(std::uint64_t, barrier, [1]);
  unsigned char *a = memory, *b = memory + 8192;
  if (threadIdx.x == 0) {
    init_mbarrier(barrier, 1);
    fence_mbarriers();
    constexpr int kSlabs = kBAcross ? (kN + 63) / 64 : 1;
    arrive_expecting(barrier, 8192 + (kBAcross ? kSlabs * 8192 : kN * 128));
    load_box(a, of_a, barrier, 0, 0);
    for (int s = 0; s < kSlabs; ++s) load_box(b + s * 8192, of_b, barrier, s * 64, 0);
  }
  __syncthreads();
  wait_for(barrier, 0);
  float sums[kN / 2];
  wgmma_fence();
  for (int k = 0; k < 4; ++k)
    Wgmma<kN, kAAcross, kBAcross>::multiply(
        sums, descriptor_of(a, 16, 1024) + (kAAcross ? 128 : 2) * k,
        descriptor_of(b, kBAcross ? 8192 : 16, 1024) + (kBAcross ? 128 : 2) * k, k > 0);
  wgmma_commit();
  wgmma_wait<0>();
  const int t = static_cast<int>(threadIdx.x);
  for (int i = 0; i < kN / 2; ++i)
    c[(t / 32 * 16 + t % 32 / 4 + i % 4 / 2 * 8) * kN + i / 4 * 8 + t % 4 * 2 + i % 2] = sums[i];
}
template <int kN, bool kAAcross, bool kBAcross>
void expect_product(const Number* a, const Number* b, float* c) {
  // along k: rows of 64 numbers; across: 64 rows of k
  const CUtensorMap of_a = map_of(a, {64, 64}, {128}, {64, 64});
  const CUtensorMap of_b =
      kBAcross ? map_of(b, {kN, 64}, {kN * 2}, {64, 64}) : map_of(b, {64, kN}, {128}, {64, kN});
  HONE_LAUNCH((product<kN, kAAcross, kBAcross>), 1, 128, 8192 + (kN + 63) / 64 * 8192, nullptr, of_a, of_b,
              c);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cuda_emulation::last_report();
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < kN; ++j) {
      float want = 0;
      for (int k = 0; k < 64; ++k)
        want +=
            float(kAAcross ? a[k * 64 + i] : a[i * 64 + k]) * float(kBAcross ? b[k * kN + j] : b[j * 64 + k]);
      ASSERT_EQ(c[i * kN + j], want) << kN << ": " << i << ", " << j;
    }
}
TEST_F(HopperEmulation, ProductsOfEveryLayout) {
  auto *a = random_numbers(64 * 64, 3), *b = random_numbers(256 * 64, 4);
  auto* c = managed<float>(64 * 256);
  expect_product<16, false, false>(a, b, c);
  expect_product<48, true, false>(a, b, c);
  expect_product<128, false, true>(a, b, c);
  expect_product<256, true, true>(a, b, c);
}

enum class LeftBug { kNone, kNoFence, kFencedBefore, kWritten };
/// c (64, n) = a b over 64 of k, a in registers; b in shared memory along k or across.
template <int kN, bool kBAcross>
__global__ void product_of_registers(const Number* a, const __grid_constant__ CUtensorMap of_b, LeftBug bug,
                                     float* c) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  HONE_SHARED(std::uint64_t, barrier, [1]);
  const int t = static_cast<int>(threadIdx.x), row = t / 32 * 16 + t % 32 / 4, col = t % 4 * 2;
  if (t == 0) {
    init_mbarrier(barrier, 1);
    fence_mbarriers();
    constexpr int kSlabs = kBAcross ? (kN + 63) / 64 : 1;
    arrive_expecting(barrier, kBAcross ? kSlabs * 8192 : kN * 128);
    for (int s = 0; s < kSlabs; ++s) load_box(memory + s * 8192, of_b, barrier, s * 64, 0);
  }
  __syncthreads();
  wait_for(barrier, 0);
  std::uint32_t left[4][4];
  const auto fill = [&](int k) {
    for (int i = 0; i < 4; ++i)
      left[k][i] =
          *reinterpret_cast<const std::uint32_t*>(a + (row + i % 2 * 8) * 64 + k * 16 + i / 2 * 8 + col);
  };
  float sums[kN / 2];
  const auto multiply = [&](int k) {
    WgmmaOfRegisters<kN, kBAcross>::multiply(
        sums, left[k], descriptor_of(memory, kBAcross ? 8192 : 16, 1024) + (kBAcross ? 128 : 2) * k, k > 0);
  };
  for (int k = 0; k < 2; ++k) fill(k);
  if (bug != LeftBug::kNoFence) wgmma_fence();
  for (int k = 0; k < 2; ++k) multiply(k);
  wgmma_commit();
  for (int k = 2; k < 4; ++k) fill(k);
  if (bug != LeftBug::kFencedBefore) wgmma_fence();
  for (int k = 2; k < 4; ++k) multiply(k);
  wgmma_commit();
  if (bug == LeftBug::kWritten) left[3][t % 4] ^= 1;
  wgmma_wait<0>();
  for (int i = 0; i < kN / 2; ++i) c[(row + i % 4 / 2 * 8) * kN + i / 4 * 8 + col + i % 2] = sums[i];
}
class ProductOfRegisters : public HopperEmulation {
 protected:
  template <int kN, bool kBAcross>
  std::string run(LeftBug bug) {
    const CUtensorMap of_b =
        kBAcross ? map_of(b_, {kN, 64}, {kN * 2}, {64, 64}) : map_of(b_, {64, kN}, {128}, {64, kN});
    HONE_LAUNCH((product_of_registers<kN, kBAcross>), 1, 128, (kN + 63) / 64 * 8192, nullptr, a_, of_b, bug,
                c_);
    return outcome();
  }
  template <int kN, bool kBAcross>
  void expect_product() {
    ASSERT_EQ((run<kN, kBAcross>(LeftBug::kNone)), "");
    for (int i = 0; i < 64; ++i)
      for (int j = 0; j < kN; ++j) {
        float want = 0;
        for (int k = 0; k < 64; ++k)
          want += float(a_[i * 64 + k]) * float(kBAcross ? b_[k * kN + j] : b_[j * 64 + k]);
        ASSERT_EQ(c_[i * kN + j], want) << kN << ": " << i << ", " << j;
      }
  }
  Number *a_ = random_numbers(64 * 64, 7), *b_ = random_numbers(128 * 64, 8);
  float* c_ = managed<float>(64 * 128);
};
TEST_F(ProductOfRegisters, OfEveryLayout) {
  expect_product<64, false>();
  expect_product<64, true>();
  expect_product<128, false>();
  expect_product<128, true>();
}
TEST_F(ProductOfRegisters, WhoseRegistersAreTheTensorCores) {
  EXPECT_THAT((run<64, true>(LeftBug::kNoFence)), HasSubstr("without a wgmma.fence"));
  EXPECT_THAT((run<64, true>(LeftBug::kFencedBefore)),
              HasSubstr("without a wgmma.fence since the last group"));
  EXPECT_THAT((run<64, true>(LeftBug::kWritten)), HasSubstr("written while it was on its way"));
}

// --- wgmma of e4m3

/// c (64, 16) = a b over 128 of k, of codes along k.
__global__ void product_of_codes(const __grid_constant__ CUtensorMap of_a,
                                 const __grid_constant__ CUtensorMap of_b, float* c) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  HONE_SHARED(std::uint64_t, barrier, [1]);
  unsigned char *a = memory, *b = memory + 8192;
  if (threadIdx.x == 0) {
    init_mbarrier(barrier, 1);
    fence_mbarriers();
    arrive_expecting(barrier, 8192 + 2048);
    load_box(a, of_a, barrier, 0, 0);
    load_box(b, of_b, barrier, 0, 0);
  }
  __syncthreads();
  wait_for(barrier, 0);
  float sums[8];
  wgmma_fence();
  for (int k = 0; k < 4; ++k)
    WgmmaE4m3<16>::multiply(sums, descriptor_of(a, 16, 1024) + 2 * k, descriptor_of(b, 16, 1024) + 2 * k,
                            k > 0);
  wgmma_commit();
  wgmma_wait<0>();
  const int t = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i)
    c[(t / 32 * 16 + t % 32 / 4 + i % 4 / 2 * 8) * 16 + i / 4 * 8 + t % 4 * 2 + i % 2] = sums[i];
}

class Codes : public HopperEmulation {
 protected:
  /// The code of a whole number up to 15, or of 2^n.
  static std::uint8_t code_of(int x) {
    const int size = std::abs(x), exponent = size == 0 ? 0 : std::ilogb(size);
    const int bits = size == 0 ? 0 : (exponent + 7) << 3 | ((size << 3 >> exponent) & 7);
    return static_cast<std::uint8_t>(bits | (x < 0 ? 0x80 : 0));
  }
  Codes() {
    for (int i = 0; i < 64 * kK; ++i) a_[i] = 0;
    for (int i = 0; i < 16 * kK; ++i) b_[i] = 0;
  }
  void multiply() {
    HONE_LAUNCH(product_of_codes, 1, 128, 8192 + 2048, nullptr, bytes_of(a_, 64), bytes_of(b_, 16), c_);
    ASSERT_EQ(outcome(), "");
  }
  /// The sum of row 0 and column 0, whose b is 1.
  float sum_of(const std::vector<std::pair<int, int>>& a) {
    for (int k = 0; k < kK; ++k) a_[k] = 0, b_[k] = code_of(1);
    for (const auto& [k, x] : a) a_[k] = code_of(x);
    multiply();
    return c_[0];
  }

  static constexpr int kK = 128;
  std::uint8_t *a_ = managed<std::uint8_t>(64 * kK), *b_ = managed<std::uint8_t>(16 * kK);
  float* c_ = managed<float>(64 * 16);

 private:
  static CUtensorMap bytes_of(const std::uint8_t* data, cuuint32_t rows) {
    CUtensorMap map{};
    const cuuint64_t dims[2] = {kK, rows}, stride = kK;
    const cuuint32_t box[2] = {kK, rows}, ones[2] = {1, 1};
    EXPECT_EQ(
        cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<std::uint8_t*>(data), dims,
                               &stride, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                               CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
        CUDA_SUCCESS);
    return map;
  }
};

TEST_F(Codes, MultiplyExactlyWhatFitsTheirSums) {
  std::mt19937 random(9);
  std::vector<int> a(64 * kK), b(16 * kK);
  for (std::size_t i = 0; i < a.size(); ++i) a_[i] = code_of(a[i] = static_cast<int>(random() % 31) - 15);
  for (std::size_t i = 0; i < b.size(); ++i) b_[i] = code_of(b[i] = static_cast<int>(random() % 31) - 15);
  multiply();
  for (std::size_t i = 0; i < 64; ++i)
    for (std::size_t j = 0; j < 16; ++j) {
      int want = 0;  // below 2^14
      for (std::size_t k = 0; k < kK; ++k) want += a[i * kK + k] * b[j * kK + k];
      ASSERT_EQ(c_[i * 16 + j], static_cast<float>(want)) << i << ", " << j;
    }
}

/// Of an instruction's 32 products and what it adds to, what is below 2^-13 of the largest is cut off.
TEST_F(Codes, AreCutOffBelowTheLargestOfAnInstruction) {
  EXPECT_EQ(sum_of({{0, 256}, {31, 1}}), 257);
  for (int k = 0; k < kK; ++k) b_[k] = code_of(k == 0 ? 128 : 1);
  const auto with_2_to_15 = [&](const std::vector<std::pair<int, int>>& a) {  // 256 x 128 and more
    for (int k = 0; k < kK; ++k) a_[k] = 0;
    a_[0] = code_of(256);
    for (const auto& [k, x] : a) a_[k] = code_of(x);
    multiply();
    return c_[0] - 32768;
  };
  EXPECT_EQ(with_2_to_15({{1, 4}}), 4) << "2^-13 of it";
  EXPECT_EQ(with_2_to_15({{1, 7}}), 4);
  EXPECT_EQ(with_2_to_15({{1, -7}}), -4) << "towards zero";
  EXPECT_EQ(with_2_to_15({{1, 2}, {2, 2}}), 0) << "each by itself";
  EXPECT_EQ(with_2_to_15({{40, 2}, {41, 2}}), 0) << "beside the sum of the instruction before";
  EXPECT_EQ(with_2_to_15({{1, 128}, {2, 4}}), 132);
  // 2^15 + 2^15 is one more bit: the sum keeps 14
  b_[1] = code_of(128);
  EXPECT_EQ(with_2_to_15({{1, 256}, {2, 4}}), 32768);
  EXPECT_EQ(with_2_to_15({{1, 256}, {2, 8}}), 32768 + 8);
}

TEST_F(Codes, ThatAreNoNumberReachTheirSums) {
  for (int k = 0; k < kK; ++k) b_[k] = code_of(1);
  a_[5 * kK + 70] = 0x7f;
  a_[6 * kK + 1] = 1;  // 2^-9
  multiply();
  EXPECT_TRUE(std::isnan(c_[5 * 16]));
  EXPECT_EQ(c_[6 * 16], 0x1p-9F);
  EXPECT_EQ(c_[7 * 16], 0);
}

// --- A pipeline, with one bug at a time

enum class Bug {
  kNone,
  kNoInit,
  kNotPublished,
  kInitNotSeen,
  kReadsBeforeTheWait,
  kReleasesBeforeTheWait,
  kOverfills,
  kExpectsTooMuch,
  kExpectsTooLittle,
  kArrivesTwice,
  kWrongParity,
  kNoWgmmaFence,
  kReadsSumsEarly,
  kWritesWhileReading,
  kNoProxyFence,
  kLeavesEarly,
  kDescriptorsDiffer,
  kWithinARow,
  kBarrierOfTooMany,
  kTooManyRegisters,
  kReadsBeyond,
};
constexpr int kStages = 2, kStageBytes = 8192 + 2048;

/// sums (64, 16) = the sum over `steps` blocks of 64 k of a b + one more, whose b is 1 everywhere and written
/// by the threads themselves. Warpgroup 0 multiplies, a thread of the second fetches; the third is there for
/// its registers.
__global__ void pipeline(const __grid_constant__ CUtensorMap of_a, const __grid_constant__ CUtensorMap of_b,
                         int steps, Bug bug, float* c) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  HONE_SHARED(std::uint64_t, full, [kStages]);
  HONE_SHARED(std::uint64_t, empty, [kStages]);
  unsigned char* ones = memory + kStages * kStageBytes;
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0 && bug != Bug::kNoInit) {
    for (int i = 0; i < kStages; ++i) {
      init_mbarrier(full + i, 1);
      init_mbarrier(empty + i, 4);
    }
    if (bug != Bug::kNotPublished) fence_mbarriers();
  }
  if (bug != Bug::kInitNotSeen) __syncthreads();
  if (t >= 128) {
    if (bug != Bug::kTooManyRegisters) give_registers<40>();
    if (t == 128)
      for (int step = 0; step < steps; ++step) {
        const int stage = step % kStages;
        unsigned char* at = memory + stage * kStageBytes;
        if (bug != Bug::kOverfills) wait_for(empty + stage, static_cast<unsigned>(step / kStages + 1) & 1);
        arrive_expecting(full + stage, kStageBytes + (bug == Bug::kExpectsTooMuch && step == 1     ? 16
                                                      : bug == Bug::kExpectsTooLittle && step == 1 ? -2048
                                                                                                   : 0));
        load_box(at, of_a, full + stage, bug == Bug::kReadsBeyond ? 64 * step + 4096 : 64 * step, 0);
        load_box(at + 8192, of_b, full + stage, 64 * step, 0);
      }
    return;
  }
  take_registers<240>();
  for (int i = t; i < 16 * 64; i += 128) reinterpret_cast<Number*>(ones)[i] = Number(1.0F);
  if (bug != Bug::kNoProxyFence) fence_for_async();
  meet(1, bug == Bug::kBarrierOfTooMany ? 160 : 128);
  float sums[8];
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages;
    unsigned char* at = memory + stage * kStageBytes;
    if (bug != Bug::kReadsBeforeTheWait)
      wait_for(full + stage, static_cast<unsigned>(step / kStages + (bug == Bug::kWrongParity ? 1 : 0)) & 1);
    if (bug != Bug::kNoWgmmaFence) wgmma_fence();
    for (int k = 0; k < 4; ++k)
      Wgmma<16, false, false>::multiply(
          sums, descriptor_of(at, 16, 1024) + 2 * k,
          descriptor_of(at + 8192 + (bug == Bug::kWithinARow ? 128 : 0), 16, 1024) +
              2 * (bug == Bug::kDescriptorsDiffer && t >= 32 ? k ^ 1 : k),
          step > 0 || k > 0);
    if (bug == Bug::kReleasesBeforeTheWait && t % 32 == 0) arrive(empty + stage);
    wgmma_commit();
    if (bug == Bug::kLeavesEarly && step + 1 == steps) return;
    if (bug == Bug::kReadsSumsEarly) c[t] = sums[0];
    if (bug == Bug::kWritesWhileReading && t == 5) at[3] = 0;
    wgmma_wait<0>();
    if (bug != Bug::kReleasesBeforeTheWait && t % 32 == 0) arrive(empty + stage);
    if (bug == Bug::kArrivesTwice && t % 32 == 0) arrive(empty + stage);
  }
  // a of the last stage, which nobody fills again
  unsigned char* last = memory + (steps - 1) % kStages * kStageBytes;
  wgmma_fence();
  for (int k = 0; k < 4; ++k)
    Wgmma<16, false, false>::multiply(sums, descriptor_of(last, 16, 1024) + 2 * k,
                                      descriptor_of(ones, 16, 1024) + 2 * k, true);
  wgmma_commit();
  wgmma_wait<0>();
  if (bug == Bug::kReadsSumsEarly) return;
  for (int i = 0; i < 8; ++i)
    c[(t / 32 * 16 + t % 32 / 4 + i % 4 / 2 * 8) * 16 + i / 4 * 8 + t % 4 * 2 + i % 2] = sums[i];
}

class Pipeline : public HopperEmulation {
 protected:
  static constexpr int kSteps = 5;
  std::string run(Bug bug) {
    HONE_LAUNCH(pipeline, 1, 384, kStages * kStageBytes + 2048, nullptr,
                map_of(a_, {64 * kSteps, 64}, {128 * kSteps}, {64, 64}),
                map_of(b_, {64 * kSteps, 16}, {128 * kSteps}, {64, 16}), kSteps, bug, c_);
    return outcome();
  }
  Number *a_ = random_numbers(64 * 64 * kSteps, 5), *b_ = random_numbers(16 * 64 * kSteps, 6);
  float* c_ = managed<float>(64 * 16);
};

TEST_F(Pipeline, Right) {
  for (int again = 0; again < 20; ++again) {
    ASSERT_EQ(run(Bug::kNone), "");
    for (int i = 0; i < 64; ++i)
      for (int j = 0; j < 16; ++j) {
        float want = 0;
        for (int k = 0; k < 64 * kSteps; ++k)
          want += float(a_[i * 64 * kSteps + k]) *
                  (float(b_[j * 64 * kSteps + k]) + (k >= 64 * (kSteps - 1) ? 1.0F : 0.0F));
        ASSERT_EQ(c_[i * 16 + j], want) << i << ", " << j;
      }
  }
}
/// What is said of memory that is used too early depends on who comes first.
const auto kHazard = AnyOf(HasSubstr("still reads"), HasSubstr("race"), HasSubstr("on its way"),
                           HasSubstr("uninitialised"), HasSubstr("arrivals"));

TEST_F(Pipeline, Mbarriers) {
  EXPECT_THAT(run(Bug::kNoInit), HasSubstr("where no mbarrier was initialised"));
  EXPECT_THAT(run(Bug::kNotPublished), HasSubstr("was not fenced (fence.mbarrier_init)"));
  EXPECT_THAT(run(Bug::kInitNotSeen),
              AnyOf(HasSubstr("may not have come before"), HasSubstr("no mbarrier was initialised")));
  EXPECT_THAT(run(Bug::kExpectsTooMuch), HasSubstr("0 arrivals and 16 bytes are missing"));
  EXPECT_THAT(run(Bug::kExpectsTooLittle), kHazard);
  EXPECT_THAT(run(Bug::kArrivesTwice), kHazard);
  EXPECT_THAT(run(Bug::kWrongParity), kHazard);
  EXPECT_THAT(run(Bug::kOverfills), kHazard);
}
TEST_F(Pipeline, CopiesAndProductsThatAreNotWaitedFor) {
  EXPECT_THAT(run(Bug::kReadsBeforeTheWait), kHazard);
  EXPECT_THAT(run(Bug::kReleasesBeforeTheWait), kHazard);
  EXPECT_THAT(run(Bug::kWritesWhileReading), HasSubstr("still reads"));
  EXPECT_THAT(run(Bug::kNoWgmmaFence), HasSubstr("without a wgmma.fence"));
  EXPECT_THAT(run(Bug::kLeavesEarly), HasSubstr("wgmma of a warp on their way"));
  EXPECT_EQ(run(Bug::kReadsSumsEarly), "");
  EXPECT_TRUE(std::isnan(c_[0]));
}
TEST_F(Pipeline, ProxiesDescriptorsBarriersAndRegisters) {
  EXPECT_THAT(run(Bug::kNoProxyFence), HasSubstr("without a fence.proxy.async between"));
  EXPECT_THAT(run(Bug::kDescriptorsDiffer), HasSubstr("that the warps of a warpgroup issue differently"));
  EXPECT_THAT(run(Bug::kWithinARow), HasSubstr("begins within 8 rows"));
  EXPECT_THAT(run(Bug::kBarrierOfTooMany), HasSubstr("named barrier 1 of 160 threads, to which"));
  EXPECT_THAT(run(Bug::kTooManyRegisters),
              HasSubstr("setmaxnreg.inc from 168 to 240, of 2016 for all warps"));
  EXPECT_EQ(run(Bug::kReadsBeyond), "");  // of the tensor: zeros
}

/// 16 bytes a thread by cp.async, of which an mbarrier tells the others.
__global__ void copies_by_mbarrier(const float* from, float* to, bool waits) {
  begin_kernel();
  HONE_SHARED(float4, data, [64]);
  HONE_SHARED(std::uint64_t, barrier, [1]);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) init_mbarrier(barrier, 64);
  __syncthreads();
  copy_async_16(&data[t], from + 4 * t);
  arrive_after_copies(barrier);
  if (waits) wait_for(barrier, 0);
  to[t] = data[t ^ 33].y;
}
TEST_F(HopperEmulation, CopiesThatArrive) {
  auto *from = managed<float>(256), *to = managed<float>(64);
  for (int i = 0; i < 256; ++i) from[i] = static_cast<float>(i);
  HONE_LAUNCH(copies_by_mbarrier, 1, 64, 0, nullptr, from, to, true);
  ASSERT_EQ(outcome(), "");
  for (int i = 0; i < 64; ++i) EXPECT_EQ(to[i], static_cast<float>((i ^ 33) * 4 + 1));
  HONE_LAUNCH(copies_by_mbarrier, 1, 64, 0, nullptr, from, to, false);
  EXPECT_THAT(outcome(), AnyOf(HasSubstr("on its way"), HasSubstr("uninitialised"), HasSubstr("race")));
}

}  // namespace
}  // namespace hone::kernels::cuda
