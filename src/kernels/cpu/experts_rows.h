// What both directions of the experts share: the work memory, the rows' tokens, gathering rows and summing
// the rows of each token.
#pragma once

#include "device/stream.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/expert_plan.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/quantised.h"
#include "kernels/cpu/rows.h"

namespace hone::kernels::cpu {

/// Row i of out = row index[i] of x, converted. The rows lie anywhere: they are prefetched a few ahead.
template <class Isa, class S, class E>
void gather_rows(const S* x, Index x_stride, const std::int32_t* index, Index rows, Index n, E* out,
                 Index out_stride) {
  constexpr Index kAhead = 4, kLine = 64 / Index{sizeof(S)};
  for (Index i = 0; i < rows; i++) {
    const S* ahead = x + index[least(rows - 1, i + kAhead)] * x_stride;
    for (Index j = 0; j < n; j += kLine) __builtin_prefetch(ahead + j);
    const S* from = x + index[i] * x_stride;
    if constexpr (std::is_same_v<S, E>) {
      __builtin_memcpy(out + i * out_stride, from, static_cast<std::size_t>(n) * sizeof(S));
    } else {
      convert_rows<Isa>(from, x_stride, 1, n, out + i * out_stride, out_stride);
    }
  }
}

/// token_of[row] of every row of the plan that counts.
template <class Isa>
void find_tokens(const ExpertsArgs& args, std::int32_t* token_of) {
  const auto top_k = static_cast<std::int32_t>(args.top_k);
  const Index rows = args.offsets[args.experts];
  for (Index row = 0; row < rows; row++) token_of[row] = args.permutation[row] / top_k;
}

/// Expert e's quantised weights.
[[gnu::always_inline]] inline QuantisedMatrix gate_up_of(const ExpertsArgs& a, Index e) {
  return QuantisedMatrix::of(a.gate_up, e, a.parts(), a.ffn, a.x.cols);
}
[[gnu::always_inline]] inline QuantisedMatrix down_of(const ExpertsArgs& a, Index e) {
  return QuantisedMatrix::of(a.down, e, 1, a.x.cols, a.ffn);
}

/// y_t = [base_t +] the sum of token t's rows in the order of its slots, of those that go somewhere. base may
/// be y itself.
template <class Isa, class B, class Y>
void combine_rows(const ExpertsArgs& args, const float* rows, const B* base, Index base_stride, Y* y,
                  Index y_stride, device::Stream& stream) {
  using Vec = typename Isa::Vec;
  constexpr Index kLanes = Isa::kLanes, kChunk = 16;  // tokens at a time
  const Index tokens = args.x.rows, hidden = args.x.cols, top_k = args.top_k;
  const int threads = static_cast<int>(least(stream.num_threads(), ceil_div(tokens * hidden, 1 << 14)));
  const auto combine = [&](Index chunk, int) {
    for (Index t = chunk * kChunk; t < least(tokens, (chunk + 1) * kChunk); t++) {
      const std::int32_t* of_slot = args.inverse + t * top_k;
      const std::int32_t* of_next = args.inverse + least(tokens - 1, t + 1) * top_k;
      for (Index j = 0; j < hidden; j += 2 * kLanes) {
        const Index low = least(kLanes, hidden - j), high = most(0, least(kLanes, hidden - j - kLanes));
        Vec sum[2] = {Isa::zero(), Isa::zero()};
        if (base != nullptr) {
          sum[0] = load_lanes<Isa>(base + t * base_stride + j, low);
          if (high > 0) sum[1] = load_lanes<Isa>(base + t * base_stride + j + kLanes, high);
        }
        for (Index s = 0; s < top_k; s++) {
          prefetch_panel<Isa>(rows + most(0, of_next[s]) * hidden + j);
          if (of_slot[s] < 0) continue;
          const float* from = rows + of_slot[s] * hidden + j;
          sum[0] = sum[0] + load_lanes<Isa>(from, low);
          if (high > 0) sum[1] = sum[1] + load_lanes<Isa>(from + kLanes, high);
        }
        store_lanes<Isa>(y + t * y_stride + j, sum[0], low);
        if (high > 0) store_lanes<Isa>(y + t * y_stride + j + kLanes, sum[1], high);
      }
    }
  };
  stream.team().parallel_for(threads, ceil_div(tokens, kChunk), combine);
}

}  // namespace hone::kernels::cpu
