// head_norm_rope and its gradient.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {
namespace {

// A head is cut into units of sixteen numbers in two packs, so that a lane holds both numbers of each pair
// that it turns: eight and their eight partners half a rotary_dim later, or of interleaved ones (and of those
// that are not turned) sixteen in a row. As many lanes work on a head as it has units, at most a warp.
constexpr int kUnit = 2 * kPack;

/// How every head lies and is turned.
struct Heads {
  int heads, dim, begin, half;  // turned are 2 half numbers from `begin` on
  bool interleaved, vectors;    // vectors: every pack begins at 16 bytes
  const float *cos, *sin;
  bool angle_vectors;
  const std::int32_t* positions;

  __host__ __device__ int turned_units() const { return (half + kPack - 1) / kPack; }
  __host__ __device__ int units_before() const { return (begin + kUnit - 1) / kUnit; }
  __host__ __device__ int units() const {
    return turned_units() + units_before() + (dim - begin - 2 * half + kUnit - 1) / kUnit;
  }
};

/// Where in a head the two packs of a unit are, and how many numbers of each there are (0 or less: none).
struct Unit {
  int at[2], count[2];
  int pair = -1;  // the first pair of it; -1: not turned
};
__device__ __forceinline__ Unit unit_of(const Heads& h, int u) {
  if (u < h.turned_units()) {
    const int pair = u * kPack, count = h.half - pair;
    if (!h.interleaved) return {{h.begin + pair, h.begin + h.half + pair}, {count, count}, pair};
    return {{h.begin + 2 * pair, h.begin + 2 * pair + kPack}, {2 * count, 2 * count - kPack}, pair};
  }
  u -= h.turned_units();
  const bool before = u < h.units_before();
  const int end = before ? h.begin : h.dim;
  const int at = before ? u * kUnit : h.begin + 2 * h.half + (u - h.units_before()) * kUnit;
  return {{at, at + kPack}, {end - at, end - at - kPack}, -1};
}

template <typename T>
__device__ __forceinline__ void load_unit(const T* head, const Unit& unit, bool vectors,
                                          float (&v)[2][kPack]) {
#pragma unroll
  for (int p = 0; p < 2; ++p) load(head + unit.at[p], unit.count[p], vectors, v[p]);
}
template <typename T>
__device__ __forceinline__ void store_unit(T* head, const Unit& unit, bool vectors,
                                           const float (&v)[2][kPack]) {
#pragma unroll
  for (int p = 0; p < 2; ++p) store(head + unit.at[p], unit.count[p], vectors, v[p]);
}

/// Turns the pairs of a unit by the angles of a token, or where `back` by their negatives.
__device__ __forceinline__ void turn(const Heads& h, const Unit& unit, Index token, bool back,
                                     float (&v)[2][kPack]) {
  if (unit.pair < 0) return;
  float cos[kPack], sin[kPack];
  const Index at = static_cast<Index>(h.positions[token]) * h.half + unit.pair;
  load(h.cos + at, h.half - unit.pair, h.angle_vectors, cos);
  load(h.sin + at, h.half - unit.pair, h.angle_vectors, sin);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    float& a = h.interleaved ? v[2 * i / kPack][2 * i % kPack] : v[0][i];
    float& b = h.interleaved ? v[2 * i / kPack][2 * i % kPack + 1] : v[1][i];
    const float x = a, y = b, s = back ? -sin[i] : sin[i];
    a = x * cos[i] - y * s;
    b = y * cos[i] + x * s;
  }
}

/// weight, or with unit_offset 1 + weight; without one, 1.
template <typename T>
struct HeadWeight {
  const T* data;
  float offset;
  __device__ __forceinline__ void times(const Unit& unit, bool vectors, float (&v)[2][kPack]) const {
    if (data == nullptr) return;
    float w[2][kPack];
    load_unit(data, unit, vectors, w);
#pragma unroll
    for (int p = 0; p < 2; ++p)
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[p][i] *= w[p][i] + offset;
  }
};

/// The sum over each `lanes` neighbours (a power of two), to all of them.
__device__ __forceinline__ float sum_of_lanes(float v, int lanes) {
  for (int other = lanes / 2; other > 0; other /= 2) v += __shfl_xor_sync(0xffffffffU, v, other);
  return v;
}

/// Block x has a token, block y some of its heads: `lanes` threads each.
template <typename T>
__global__ void norm_and_turn(Rows<const T> x, HeadWeight<T> weight, Rows<T> y, Heads h, int lanes,
                              float eps) {
  begin_kernel();
  const Index token = blockIdx.x;
  const int head = static_cast<int>((blockIdx.y * blockDim.x + threadIdx.x) / static_cast<unsigned>(lanes));
  const int lane = static_cast<int>(threadIdx.x) % lanes, units = head < h.heads ? h.units() : 0;
  const T* const from = x.at(token, static_cast<Index>(head) * h.dim);
  T* const to = y.at(token, static_cast<Index>(head) * h.dim);
  float v[2][kPack], scale = 1;
  if (weight.data != nullptr) {
    float squares = 0;
    for (int u = lane; u < units; u += lanes) {
      load_unit(from, unit_of(h, u), h.vectors, v);
#pragma unroll
      for (int p = 0; p < 2; ++p)
#pragma unroll
        for (int i = 0; i < kPack; ++i) squares = fmaf(v[p][i], v[p][i], squares);
    }
    scale = 1.0F / sqrtf(sum_of_lanes(squares, lanes) / static_cast<float>(h.dim) + eps);
  }
  for (int u = lane; u < units; u += lanes) {
    const Unit unit = unit_of(h, u);
    load_unit(from, unit, h.vectors, v);
#pragma unroll
    for (int p = 0; p < 2; ++p)
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[p][i] *= scale;
    weight.times(unit, h.vectors, v);
    turn(h, unit, token, false, v);
    store_unit(to, unit, h.vectors, v);
  }
}

/// With n = x * rstd and d the gradient of n * weight (dy turned back): dx = rstd * (weight * d - n * mean(n
/// * weight * d)). Block b has `chunk` heads from b * chunk on, token after token, and where `partial` is not
/// null writes their sum of n * d to its row b: in shared memory each thread keeps its own.
template <typename D, typename T, typename DX>
__global__ void norm_and_turn_grad(Rows<const D> dy, Rows<const T> x, HeadWeight<T> weight, Rows<DX> dx,
                                   Heads h, int lanes, float eps, bool accumulate, float* partial,
                                   Index all_heads, Index chunk) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(float, sums);
  const int threads = static_cast<int>(blockDim.x), me = static_cast<int>(threadIdx.x);
  const int lane = me % lanes, steps = (h.units() + lanes - 1) / lanes;
  if (partial != nullptr)
    for (int i = 0; i < steps * kUnit; ++i) sums[i * threads + me] = 0;
  const Index begin = static_cast<Index>(blockIdx.x) * chunk;
  const Index end = begin + chunk < all_heads ? begin + chunk : all_heads;
  for (Index base = begin; base < end; base += threads / lanes) {  // the same count for all: they shuffle
    const Index mine = base + me / lanes, token = mine / h.heads, first = mine % h.heads * h.dim;
    const int units = mine < end ? h.units() : 0;
    float d[2][kPack], v[2][kPack], rstd = 1, mean = 0;
    if (weight.data != nullptr) {
      float squares = 0, dot = 0;
      for (int u = lane; u < units; u += lanes) {
        const Unit unit = unit_of(h, u);
        load_unit(dy.at(token, first), unit, h.vectors, d);
        load_unit(x.at(token, first), unit, h.vectors, v);
        turn(h, unit, token, true, d);
        weight.times(unit, h.vectors, d);
#pragma unroll
        for (int p = 0; p < 2; ++p)
#pragma unroll
          for (int i = 0; i < kPack; ++i) {
            squares = fmaf(v[p][i], v[p][i], squares);
            dot = fmaf(v[p][i], d[p][i], dot);
          }
      }
      const float dim = static_cast<float>(h.dim);
      rstd = 1.0F / sqrtf(sum_of_lanes(squares, lanes) / dim + eps);
      mean = sum_of_lanes(dot, lanes) / dim * rstd;
    }
    for (int u = lane; u < units; u += lanes) {
      const Unit unit = unit_of(h, u);
      float before[2][kPack] = {};
      load_unit(dy.at(token, first), unit, h.vectors, d);
      turn(h, unit, token, true, d);
      if (weight.data != nullptr) {
        load_unit(x.at(token, first), unit, h.vectors, v);
        if (partial != nullptr)
#pragma unroll
          for (int i = 0; i < kUnit; ++i)
            sums[(u / lanes * kUnit + i) * threads + me] +=
                d[i / kPack][i % kPack] * v[i / kPack][i % kPack] * rstd;
        weight.times(unit, h.vectors, d);
      }
      if (dx.data == nullptr) continue;
      if (accumulate) load_unit(dx.at(token, first), unit, h.vectors, before);
#pragma unroll
      for (int p = 0; p < 2; ++p)
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
          if (weight.data != nullptr) d[p][i] = rstd * (d[p][i] - v[p][i] * rstd * mean);
          d[p][i] += before[p][i];
        }
      store_unit(dx.at(token, first), unit, h.vectors, d);
    }
  }
  if (partial == nullptr) return;
  __syncthreads();
  for (int i = me; i < h.units() * kUnit; i += threads) {
    const int u = i / kUnit, j = i % kPack;
    const bool second = i % kUnit >= kPack;
    const Unit unit = unit_of(h, u);
    if (j >= (second ? unit.count[1] : unit.count[0])) continue;
    float sum = 0;
    const float* const of_lane = sums + (u / lanes * kUnit + i % kUnit) * threads + u % lanes;
    for (int group = 0; group < threads / lanes; ++group) sum += of_lane[group * lanes];
    partial[static_cast<Index>(blockIdx.x) * h.dim + (second ? unit.at[1] : unit.at[0]) + j] = sum;
  }
}

/// aligned: every row, and the weight, begins at 16 bytes.
template <typename Args>
Heads heads_of(const Args& a, bool aligned) {
  const std::int64_t half = a.rotary_dim / 2;
  const auto whole = [](std::int64_t n) { return n % kPack == 0; };
  return {static_cast<int>(a.heads),
          static_cast<int>(a.head_dim),
          static_cast<int>(a.rotary_begin),
          static_cast<int>(half),
          a.interleaved,
          aligned && whole(a.head_dim) && whole(a.rotary_begin) && whole(a.interleaved ? a.rotary_dim : half),
          a.cos,
          a.sin,
          half % 4 == 0 && is_aligned(a.cos) && is_aligned(a.sin),
          a.positions};
}
/// A power of two, at most a warp.
int lanes_of(const Heads& h) {
  int lanes = 1;
  while (lanes < 32 && lanes < h.units()) lanes *= 2;
  return lanes;
}
template <typename T, typename Args>
HeadWeight<T> head_weight(const Args& a) {
  return {a.has_weight ? static_cast<const T*>(a.weight) : nullptr, a.unit_offset ? 1.0F : 0.0F};
}

/// How the gradient's blocks are cut: the shapes alone decide.
struct GradPlan {
  int lanes;
  Index threads, shared_bytes;  // shared_bytes: where the weight's gradient is wanted
  Index chunk, blocks;          // heads of a block
};
GradPlan plan_of(const HeadNormRopeGradArgs& a, const Heads& h) {
  const int lanes = lanes_of(h);
  // 256 threads, or of heads above 768 as many as 48 KiB hold the sums of
  const Index of_warp = ceil_div(h.units(), lanes) * kUnit * 32 * static_cast<Index>(sizeof(float));
  const Index most = static_cast<Index>(kSharedBytes) / of_warp;
  const Index threads = 32 * (most < kThreads / 32 ? most : kThreads / 32);
  // some 1,024 blocks, in which each thread has at least 4 heads
  const Index all_heads = a.dy.rows * a.heads, at_once = threads / lanes;
  const Index rounds = ceil_div(all_heads, at_once * 1024), chunk = at_once * (rounds > 4 ? rounds : 4);
  return {lanes, threads, of_warp * threads / 32, chunk, ceil_div(all_heads, chunk)};
}

}  // namespace

HONE_NO_SCRATCH(HeadNormRopeArgs)
void head_norm_rope(const HeadNormRopeArgs& a, Stream& stream) {
  if (a.x.rows == 0) return;
  const Heads h =
      heads_of(a, has_vectors(a.x) && has_vectors(a.y) && (!a.has_weight || is_aligned(a.weight)));
  const int lanes = lanes_of(h);
  const Index wanted = ceil_div(a.heads * lanes, 32) * 32, threads = wanted < kThreads ? wanted : kThreads;
  const dim3 grid(static_cast<unsigned>(a.x.rows), static_cast<unsigned>(ceil_div(wanted, threads)));
  with_dtype(a.x.dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    HONE_LAUNCH(norm_and_turn<T>, grid, static_cast<unsigned>(threads), 0, cuda_stream(stream),
                rows_of<const T>(a.x), head_weight<T>(a), rows_of<T>(a.y), h, lanes, a.eps);
  });
}

std::int64_t scratch_bytes_of(const HeadNormRopeGradArgs& a) {
  if (!a.wants_dweight) return 0;
  return plan_of(a, heads_of(a, false)).blocks * a.head_dim * static_cast<Index>(sizeof(float));
}
void head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream) {
  const Heads h = heads_of(a, has_vectors(a.dy) && has_vectors(a.dx) &&
                                  (!a.has_weight || (has_vectors(a.x) && is_aligned(a.weight))));
  const GradPlan plan = plan_of(a, h);
  float* partial = nullptr;
  if (a.wants_dweight && plan.blocks > 0)
    partial = static_cast<float*>(stream.shared_workspace(static_cast<std::size_t>(scratch_bytes_of(a))));
  if (plan.blocks > 0 && (a.dx.given() || a.wants_dweight))
    with_dtype(a.dy.dtype, [&](auto d) {
      with_dtype(a.has_weight ? a.x.dtype : DType::kF32, [&](auto t) {
        with_dtype(a.dx.given() ? a.dx.dtype : DType::kF32, [&](auto dx) {
          using D = TypeOf<decltype(d)>;
          using T = TypeOf<decltype(t)>;
          using DX = TypeOf<decltype(dx)>;
          Rows<DX> to = rows_of<DX>(a.dx);
          if (!a.dx.given()) to.data = nullptr;
          HONE_LAUNCH((norm_and_turn_grad<D, T, DX>), static_cast<unsigned>(plan.blocks),
                      static_cast<unsigned>(plan.threads),
                      a.wants_dweight ? static_cast<std::size_t>(plan.shared_bytes) : 0, cuda_stream(stream),
                      rows_of<const D>(a.dy), rows_of<const T>(a.x), head_weight<T>(a), to, h, plan.lanes,
                      a.eps, a.accumulate_dx, partial, a.dy.rows * a.heads, plan.chunk);
        });
      });
    });
  if (a.wants_dweight)
    with_dtype(a.dweight_dtype, [&](auto out) {
      using Out = TypeOf<decltype(out)>;
      HONE_LAUNCH(sum_partial_rows<Out>, static_cast<unsigned>(ceil_div(a.head_dim, kSumColumns)),
                  dim3(kSumColumns, kSumThreadRows), 0, cuda_stream(stream), partial, plan.blocks, a.head_dim,
                  static_cast<Out*>(a.dweight), a.accumulate_dweight);
    });
}

}  // namespace hone::kernels::cuda
