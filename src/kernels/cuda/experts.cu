// The experts of one layer: gather, gate and up, activation; down; the weighted sum over each token's slots.
#include "kernels/cuda/experts.cuh"

#include <algorithm>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/expert_rows_hopper.cuh"
#include "kernels/cuda/fp8.h"
#include "kernels/cuda/hopper_path.h"
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows_e4m3.cuh"

namespace hone::kernels::cuda {
namespace {

/// pre_activation = v + bias, activation = f(gate) * up, both of whose columns a lane has.
template <typename T>
struct Activate {
  const T* bias;  // (experts, parts * ffn), may be null
  T* pre;         // (capacity, parts * ffn), may be null
  T* activation;  // (capacity, ffn)
  Index ffn;
  bool gated, vectors;
  Activation kind;
  float alpha, limit;

  /// Adds the bias of `part` to columns j … and keeps them.
  __device__ __forceinline__ void finish_part(Index expert, Index row, Index part, Index j,
                                              float (&v)[kPack]) const {
    const Index inner = gated ? 2 * ffn : ffn, col = part * ffn + j, n = ffn - j;
    if (bias != nullptr) {
      float more[kPack];
      load(bias + expert * inner + col, n, vectors, more);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += more[i];
    }
    if (pre != nullptr) store(pre + row * inner + col, n, vectors, v);
  }
  __device__ __forceinline__ void activate_and_store(Index row, Index j, float (&gate)[kPack],
                                                     const float (&up)[kPack]) const {
    with_activation(kind, [&](auto k) {
#pragma unroll
      for (int i = 0; i < kPack; ++i)
        gate[i] = activate<decltype(k)::value>(gate[i], up[i], alpha, limit).value;
    });
    store(activation + row * ffn + j, ffn - j, vectors, gate);
  }
  __device__ __forceinline__ auto of(const ExpertRows& rows, Index first_column) const {
    const auto finish = [*this, rows, first_column](int r, int c, float(&v)[kPack], float(&w)[kPack]) {
      const Index row = rows.first + r, col = first_column + c;
      if (row >= rows.end) return;
#pragma unroll 1
      for (int half = 0; half < (gated ? 1 : 2); ++half) {  // ungated, both are columns of the one matrix
        const Index j = gated ? col / 32 * 16 + col % 16 : col + 16 * half;
        if (j >= ffn) return;
        float up[kPack];
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
          up[i] = gated ? w[i] : 1.0F;
          v[i] = half == 0 ? v[i] : w[i];
        }
        finish_part(rows.expert, row, 0, j, v);
        if (gated) finish_part(rows.expert, row, 1, j, up);
        activate_and_store(row, j, v, up);
      }
    };
    return ApartBy16<decltype(finish)>{finish};
  }
};

struct Scratch {
  std::int64_t activation, rows, x, weight, bytes;  // the last two: of operands in FP8
};
Scratch scratch_of(const ExpertsArgs& a) {
  const Index capacity = a.x.rows * a.top_k, size = static_cast<Index>(size_of(a.x.dtype));
  Pieces pieces;
  Scratch s{};
  s.activation = pieces.take(capacity * a.ffn * size);
  s.rows = pieces.take(capacity * a.x.cols * size);
  if (a.fp8 && capacity > 0) {  // of either path
    const Fp8Order order = a.gated ? Fp8Order::kPairs : Fp8Order::kRows;
    s.x = pieces.take(std::max(
        {fp8_copy_bytes(a.x), fp8_rows_bytes(a.x.rows, a.x.cols, 1), fp8_rows_bytes(capacity, a.ffn, 1)}));
    s.weight = pieces.take(std::max({fp8_weight_bytes(a.experts, a.parts(), a.ffn, a.x.cols),
                                     fp8_weight_bytes(a.experts, 1, a.x.cols, a.ffn),
                                     fp8_lines_bytes(a.experts, a.parts(), a.ffn, a.x.cols, order),
                                     fp8_lines_bytes(a.experts, 1, a.x.cols, a.ffn, Fp8Order::kRows)}));
  }
  s.bytes = pieces.bytes;
  return s;
}

template <typename T>
void experts_of(const ExpertsArgs& a, unsigned char* memory, Stream& queue) {
  const cudaStream_t stream = cuda_stream(queue);
  const device::CudaCard& card = device::card_of(queue);
  [[maybe_unused]] const bool hopper = why_not_hopper(a, card).empty();
  // rows of x are gathered, those of the activation are there in the plan's order
  const auto product = [&](auto gathered, const Matrix& x, const ExpertWeight& weight,
                           const WeightShape& shape, const RowProduct& p, const auto& finish) {
    constexpr bool kGather = decltype(gathered)::value;
    const std::int32_t* index = kGather ? a.permutation : nullptr;
    const int divisor = static_cast<int>(a.top_k);
    if constexpr (sizeof(T) == 2)
      if (hopper)
        return launch_row_hopper<true, kGather>(x, index, divisor, weight, shape, p, finish,
                                                card.multiprocessors, stream);
    launch_row_product<T, true>(x, index, divisor, weight, shape, p, finish, stream);
  };
  const Scratch scratch = scratch_of(a);
  const Index capacity = a.x.rows * a.top_k, hidden = a.x.cols;
  T* activation = reinterpret_cast<T*>(memory + scratch.activation);
  T* rows = reinterpret_cast<T*>(memory + scratch.rows);
  Activate<T> activate{};
  activate.bias = a.has_gate_up_bias ? static_cast<const T*>(a.gate_up_bias) : nullptr;
  activate.pre = a.wants_pre_activation ? static_cast<T*>(a.pre_activation) : nullptr;
  activate.activation = activation;
  activate.ffn = a.ffn;
  activate.gated = a.gated;
  activate.vectors =
      a.ffn * Index{sizeof(T)} % 16 == 0 && is_aligned(activate.bias) && is_aligned(activate.pre);
  activate.kind = a.activation;
  activate.alpha = a.alpha;
  activate.limit = a.limit;
  const WeightShape gate_up{a.parts(), a.ffn, hidden, a.gated}, down{1, hidden, a.ffn, false};
  const int experts = static_cast<int>(a.experts);
  const RowProduct to_inner{a.offsets, experts, capacity, hidden, gate_up.lines()},
      to_hidden{a.offsets, experts, capacity, a.ffn, hidden};
  StoreRows<T> store{};
  store.bias = a.has_down_bias ? static_cast<const T*>(a.down_bias) : nullptr;
  store.out = rows;
  store.columns = hidden;
  store.vectors = hidden * Index{sizeof(T)} % 16 == 0 && is_aligned(store.bias);
  const Matrix of_activation{activation, a.x.dtype, capacity, a.ffn, a.ffn};
  if constexpr (sizeof(T) == 2)
    if (hopper && a.fp8) {
      void *coded = memory + scratch.x, *lines = memory + scratch.weight;
      const Fp8Rows x = encode_fp8_rows(a.x, 1, coded, queue);
      launch_row_e4m3<true>(
          {x, a.permutation, static_cast<int>(a.top_k)},
          encode_fp8_lines(a.gate_up.data, a.x.dtype, hidden, a.experts, a.parts(), a.ffn, hidden,
                           a.gated ? Fp8Order::kPairs : Fp8Order::kRows, lines, queue),
          to_inner, activate, card.multiprocessors, stream);
      const Fp8Rows of_rows = encode_fp8_rows(of_activation, 1, coded, queue, a.offsets + a.experts);
      launch_row_e4m3<false>({of_rows, nullptr, 1},
                             encode_fp8_lines(a.down.data, a.x.dtype, a.ffn, a.experts, 1, hidden, a.ffn,
                                              Fp8Order::kRows, lines, queue),
                             to_hidden, store, card.multiprocessors, stream);
      return launch_combine<T>(rows, a, a.weights, a.residual, a.y, false, stream);
    }
  Matrix x = a.x;
  ExpertWeight weight = a.gate_up;
  if (a.fp8) {
    x = fp8_copy_at(a.x, memory + scratch.x);
    round_fp8(a.x, x, Fp8Blocks::kAlongRows, queue);
    weight = encode_fp8_weight(a.gate_up, a.x.dtype, a.experts, a.parts(), a.ffn, hidden,
                               memory + scratch.weight, queue);
  }
  product(std::true_type{}, x, weight, gate_up, to_inner, activate);
  weight = a.down;
  if (a.fp8) {
    round_fp8(of_activation, of_activation, Fp8Blocks::kAlongRows, queue, a.offsets + a.experts);
    weight =
        encode_fp8_weight(a.down, a.x.dtype, a.experts, 1, hidden, a.ffn, memory + scratch.weight, queue);
  }
  product(std::false_type{}, of_activation, weight, down, to_hidden, store);
  launch_combine<T>(rows, a, a.weights, a.residual, a.y, false, stream);
}

}  // namespace

std::int64_t scratch_bytes_of(const ExpertsArgs& a) {
  return scratch_of(a).bytes;
}

void experts(const ExpertsArgs& a, Stream& stream) {
  if (a.x.rows == 0) return;
  auto* memory =
      static_cast<unsigned char*>(stream.shared_workspace(static_cast<std::size_t>(scratch_bytes_of(a))));
  with_dtype(a.x.dtype, [&](auto t) { experts_of<TypeOf<decltype(t)>>(a, memory, stream); });
}

}  // namespace hone::kernels::cuda
