// The gradient of attention on compute capability 9.0, in bf16 with heads of up to 128 numbers: what its two
// kernels share.
//
// A block owns 128 keys (or packed rows), 64 of each multiplying warpgroup, and goes over the tiles of the
// other; a third warpgroup fetches, by cp.async, which takes any group of heads and any rows of 16 bytes'
// multiples and writes zeros where there is nothing. A warpgroup's own are wgmma's rows, so that what comes
// out of one product (probabilities, their gradients) is in the registers that the next takes it from:
// shared memory is written by copies alone until the results are. Two warpgroups hide one another's
// exponentials, and the last product of a step is in flight while the first of the next is put behind it.
#pragma once

#include "kernels/cuda/attention_grad.cuh"
#include "kernels/cuda/cuts.h"
#include "kernels/cuda/wgmma.cuh"

namespace hone::kernels::cuda {

/// The warps of a block.
struct HopperAttention {
  static constexpr int kMultiplying = 256, kFetching = 128, kThreads = kMultiplying + kFetching;
  static constexpr int kOwn = HopperAttentionCut::kOwn, kOfGroup = kOwn / 2;
  // 40 for 128 threads and 232 for 256 are what 168 for 384 are
  static constexpr int kFetchingRegisters = 40, kMultiplyingRegisters = 232;
  static_assert(kOfGroup == 64);  // wgmma's rows
};

/// kRows heads of up to kD numbers as wgmma reads them: 64 columns of all rows (rows of 128 bytes, swizzled),
/// then the next 64.
template <int kRows, int kD>
struct HeadSlabs {
  static constexpr int kSlabBytes = kRows * 128, kBytes = kRows * kD * 2;
  unsigned char* data;
};

#if HONE_HOPPER

/// Fetches the heads that row_of(0) … row_of(given - 1) say, of two matrices, `dim` numbers each, and zeros
/// to the end of kRows rows of kD numbers: what P or dS is multiplied by must be a number where they are 0.
/// All fetching threads; at least one row is given.
template <int kRows, int kD, typename RowOf>
__device__ __forceinline__ void fetch_heads(HeadSlabs<kRows, kD> to_x, HeadSlabs<kRows, kD> to_y,
                                            const Rows<const __nv_bfloat16>& x,
                                            const Rows<const __nv_bfloat16>& y, int given, int dim,
                                            int thread, RowOf row_of) {
  constexpr int kAtOnce = HopperAttention::kFetching / 8;
  const int chunk = thread % 8;
#pragma unroll 2
  for (int row = thread / 8; row < kRows; row += kAtOnce) {
    const PackedRows::Row from = row_of(row < given ? row : 0);
    const Index first = static_cast<Index>(from.head) * dim;
    const __nv_bfloat16 *of_x = x.at(from.token, first), *of_y = y.at(from.token, first);
    const int at = row * 128 + (chunk ^ row % 8) * 16;
#pragma unroll
    for (int slab = 0; slab < kD / 64; ++slab) {
      const bool there = row < given && slab * 64 + chunk * 8 < dim;
      const int col = there ? slab * 64 + chunk * 8 : 0, bytes = there ? 16 : 0;
      copy_async_16(to_x.data + slab * to_x.kSlabBytes + at, of_x + col, bytes);
      copy_async_16(to_y.data + slab * to_y.kSlabBytes + at, of_y + col, bytes);
    }
  }
}

/// sums (64, kRows) = a b^T, of 64 heads and kRows; a group of products of its own.
template <int kRows, int kD>
__device__ __forceinline__ void multiply_heads(float (&sums)[kRows / 8][4], HeadSlabs<64, kD> a,
                                               HeadSlabs<kRows, kD> b) {
  const std::uint64_t left = descriptor_of(a.data, 16, 1024), right = descriptor_of(b.data, 16, 1024);
  constexpr int kLeftSlab = a.kSlabBytes / 16, kRightSlab = b.kSlabBytes / 16;  // of a descriptor
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kD / 16; ++k)
    Wgmma<kRows, false, false>::multiply(&sums[0][0], left + k / 4 * kLeftSlab + k % 4 * 2,
                                         right + k / 4 * kRightSlab + k % 4 * 2, k > 0);
  wgmma_commit();
}
/// sums (64, kD) += p b, of p (64, kRows) in registers and kRows heads; a group of products of its own.
template <int kRows, int kD>
__device__ __forceinline__ void add_heads(float (&sums)[kD / 8][4], const std::uint32_t (&p)[kRows / 16][4],
                                          HeadSlabs<kRows, kD> b) {
  const std::uint64_t right = descriptor_of(b.data, b.kSlabBytes, 1024);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kRows / 16; ++k)
    WgmmaOfRegisters<kD, true>::multiply(&sums[0][0], p[k], right + k * 128, true);
  wgmma_commit();
}
template <int kTiles>
__device__ __forceinline__ void keep_after_wait(float (&sums)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) keep_after_wait(sums[n][i]);
}
/// Sums of tile n of 8 columns, as the left side of the next product has them.
template <int kSteps>
__device__ __forceinline__ void put_left(std::uint32_t (&left)[kSteps][4], int n, const float (&v)[4]) {
  left[n / 2][n % 2 * 2] = pair_of(v[0], v[1]);
  left[n / 2][n % 2 * 2 + 1] = pair_of(v[2], v[3]);
}

/// Writes a warp's 16 rows of sums below `dim`, a multiple of 8, each where address(row) says, if row <
/// given.
template <int kTiles, typename Address>
__device__ __forceinline__ void write_pairs(const float (&sums)[kTiles][4], float factor, int given, int dim,
                                            Address address) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    if (row >= given) continue;
    float* const to = address(row) + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
      if (n * 8 < dim) put_pair(to + n * 8, sums[n][2 * i] * factor, sums[n][2 * i + 1] * factor);
  }
}

/// From the product of a query and a key to its probability. A softcap is known when it is compiled: its
/// tanh takes registers, for which tiles have half as many rows (or keys).
template <bool kSoftcap>
struct HopperScore {
  float factor, cap;
  __device__ __forceinline__ explicit HopperScore(const AttentionShape& shape)
      : factor(kLog2E * (kSoftcap ? __fdividef(2 * shape.scale, shape.softcap) : shape.scale)),
        cap(shape.softcap * kLog2E) {}
  /// Of -infinity 0: where a key is not seen. slope: the derivative of the score by scale * the product.
  __device__ __forceinline__ float probability(float product, float lse2, float& slope) const {
    if constexpr (kSoftcap) {
      // tanh without a branch: its error near 0, 6e-8, is that of a score / softcap
      const float t = 1.0F - __fdividef(2.0F, 1.0F + exp2_approx(product * factor));
      slope = fmaf(-t, t, 1.0F);
      const float p = exp2_approx(fmaf(cap, t, -lse2));
      return product == -kInfinity ? 0.0F : p;
    } else {
      slope = 1;
      return exp2_approx(fmaf(product, factor, -lse2));
    }
  }
};

/// The multiplying warps' way through the buffers: a buffer is given back when the products that read it are
/// over, which is known a step later.
template <int kStages>
struct AttentionBuffers {
  std::uint64_t *full, *empty;
  BufferStage<kStages> stage = {};
  int before = -1;
  /// Waits for the next one; which it is.
  __device__ __forceinline__ int take() {
    wait_for(full + stage.at, stage.phase);
    fence_for_async();
    return stage.at;
  }
  __device__ __forceinline__ void give_back(int buffer) {
    __syncwarp();  // all lanes have read what they read by themselves
    if (threadIdx.x % 32 == 0) arrive(empty + buffer);
  }
  /// The products of the step before are over.
  __device__ __forceinline__ void give_back_last() {
    if (before >= 0) give_back(before);
    before = -1;
  }
  /// This step's products are put into the queue.
  __device__ __forceinline__ void advance() {
    before = stage.at;
    stage.advance();
  }
  /// Steps of which this warpgroup sees nothing. (It waits for them, too: it must not give one back twice
  /// before the other has.)
  __device__ __forceinline__ void skip(int steps) {
#pragma unroll 1
    for (int i = 0; i < steps; ++i) {
      give_back(take());
      stage.advance();
    }
  }
};

#endif

/// Calls f(D, softcap) with the head size that kernels are made for and whether there is a softcap, as
/// std::integral_constant.
template <typename F>
void with_hopper_heads(const AttentionArgs& a, F f) {
  const auto with_dim = [&](auto dim) {
    if (a.softcap > 0) return f(dim, std::true_type{});
    f(dim, std::false_type{});
  };
  if (a.head_dim <= 64) return with_dim(std::integral_constant<int, 64>{});
  with_dim(std::integral_constant<int, HopperAttentionCut::kMostHeadDim>{});
}

}  // namespace hone::kernels::cuda
