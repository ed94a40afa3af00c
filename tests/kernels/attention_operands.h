// The operands of attention over one sequence, forward and backward, for tests that compute it themselves.
#pragma once

#include <cmath>
#include <vector>

#include "tests/kernels/long_sums.h"

namespace hone::test {

/// Heads of one kv head. The arguments point to the members: every input of `g` but a window, a softcap and
/// sinks is set, and what is written starts as 0.
struct AttentionOperands {
  std::vector<std::int32_t> offsets, begin{0}, length;
  Values q, k, v, out, dout, dq, dk, dv, lse;
  kernels::AttentionGradArgs g;

  /// q and dout are (queries, heads * dim), k and v (keys, dim): the last query sees the last key.
  AttentionOperands(std::int64_t queries, std::int64_t keys, std::int64_t heads, std::int64_t dim,
                    DType dtype, const std::vector<float>& q_values, const std::vector<float>& k_values,
                    const std::vector<float>& v_values, const std::vector<float>& dout_values)
      : offsets{0, static_cast<std::int32_t>(queries)},
        length{static_cast<std::int32_t>(keys)},
        q(queries, heads * dim, dtype, q_values),
        k(keys, dim, dtype, k_values),
        v(keys, dim, dtype, v_values),
        out(queries, heads * dim, dtype),
        dout(queries, heads * dim, dtype, dout_values),
        dq(queries, heads * dim, dtype),
        dk(keys, dim, dtype),
        dv(keys, dim, dtype),
        lse(queries, heads, DType::kF32) {
    kernels::AttentionArgs& a = g.forward;
    a.q = q.matrix();
    a.k = k.matrix();
    a.v = v.matrix();
    a.out = out.matrix();
    a.lse = static_cast<float*>(lse.data());
    a.wants_lse = true;
    a.q_offsets = offsets.data();
    a.key_begin = begin.data();
    a.key_length = length.data();
    a.sequences = a.kv_heads = 1;
    a.heads = heads;
    a.head_dim = dim;
    a.scale = 1 / std::sqrt(static_cast<float>(dim));
    g.dout = dout.matrix();
    g.dq = dq.matrix();
    g.dk = dk.matrix();
    g.dv = dv.matrix();
  }
  AttentionOperands(const AttentionOperands&) = delete;
  AttentionOperands& operator=(const AttentionOperands&) = delete;
};

}  // namespace hone::test
