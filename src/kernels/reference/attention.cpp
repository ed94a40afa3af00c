// Reference: causal grouped-query attention, score by score.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

namespace {

/// What one query of one head sees: the keys first … last (rows of k and v) and their probabilities.
struct Seen {
  std::int64_t first = 0;
  std::vector<double> probability;
  std::vector<double> slope;  // of the softcap
  double lse = 0;
  double sink = 0;  // its probability
};

Seen look(const AttentionArgs& a, std::int64_t s, std::int64_t query, std::int64_t head) {
  const std::int64_t position =
      a.key_length[s] - (a.q_offsets[s + 1] - query);  // its last query sees the last key
  const std::int64_t from = a.window > 0 ? std::max<std::int64_t>(0, position - a.window + 1) : 0;
  const std::int64_t kv = head / (a.heads / a.kv_heads);
  const auto count = static_cast<std::size_t>(position - from + 1);
  Seen seen{a.key_begin[s] + from, std::vector<double>(count), std::vector<double>(count, 1.0)};
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  const double sink = a.has_sinks ? static_cast<double>(load(a.sinks, a.q.dtype, head)) : kNone;
  double largest = sink;
  for (std::size_t i = 0; i < seen.probability.size(); ++i) {
    double dot = 0;
    for (std::int64_t d = 0; d < a.head_dim; ++d)
      dot += static_cast<double>(load(a.q, query, head * a.head_dim + d)) *
             load(a.k, seen.first + static_cast<std::int64_t>(i), kv * a.head_dim + d);
    seen.probability[i] = dot * a.scale;
    if (a.softcap > 0) {
      const double t = std::tanh(seen.probability[i] / a.softcap);
      seen.probability[i] = a.softcap * t;
      seen.slope[i] = 1 - t * t;
    }
    largest = std::max(largest, seen.probability[i]);
  }
  double sum = std::exp(sink - largest);
  for (double& p : seen.probability) sum += p = std::exp(p - largest);
  for (double& p : seen.probability) p /= sum;
  seen.sink = std::exp(sink - largest) / sum;
  seen.lse = largest + std::log(sum);
  return seen;
}

}  // namespace

void attention(const AttentionArgs& a, Stream& stream) {
  parallel_for(stream, a.sequences * a.heads, [&](std::int64_t task) {
    const std::int64_t s = task / a.heads, head = task % a.heads;
    const std::int64_t kv = head / (a.heads / a.kv_heads);
    for (std::int64_t query = a.q_offsets[s]; query < a.q_offsets[s + 1]; ++query) {
      const Seen seen = look(a, s, query, head);
      if (a.wants_lse) a.lse[query * a.heads + head] = static_cast<float>(seen.lse);
      const std::int64_t dim = a.value_dim();
      for (std::int64_t d = 0; d < dim; ++d) {
        double sum = 0;
        for (std::size_t i = 0; i < seen.probability.size(); ++i)
          sum += seen.probability[i] * load(a.v, seen.first + static_cast<std::int64_t>(i), kv * dim + d);
        store(a.out, query, head * dim + d, sum);
      }
    }
  });
}

namespace {

/// The gradients of one sequence and one kv head; dk and dv gather over its query heads in double, and
/// dsinks[head] gets what the sequence adds to it. The softmax is computed again rather than read from out
/// and lse, so that the oracle does not share their rounding.
void kv_head_grad(const AttentionGradArgs& g, std::int64_t s, std::int64_t kv, double* dsinks) {
  const AttentionArgs& a = g.forward;
  const std::int64_t group = a.heads / a.kv_heads, keys = a.key_length[s], dim = a.head_dim;
  const std::int64_t v_dim = a.value_dim();
  std::vector<double> dk(static_cast<std::size_t>(keys * dim)), dv(static_cast<std::size_t>(keys * v_dim));
  std::vector<double> dq(static_cast<std::size_t>(dim));
  for (std::int64_t head = kv * group; head < (kv + 1) * group; ++head)
    for (std::int64_t query = a.q_offsets[s]; query < a.q_offsets[s + 1]; ++query) {
      const Seen seen = look(a, s, query, head);
      const std::int64_t count = static_cast<std::int64_t>(seen.probability.size());
      std::vector<double> dp(seen.probability.size());
      double mean = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t offset = (seen.first + i - a.key_begin[s]) * v_dim;
        double dot = 0;
        for (std::int64_t d = 0; d < v_dim; ++d) {
          const double dout = load(g.dout, query, head * v_dim + d);
          dot += dout * load(a.v, seen.first + i, kv * v_dim + d);
          dv[static_cast<std::size_t>(offset + d)] += seen.probability[static_cast<std::size_t>(i)] * dout;
        }
        dp[static_cast<std::size_t>(i)] = dot;
        mean += dot * seen.probability[static_cast<std::size_t>(i)];
      }
      dsinks[head] -= seen.sink * mean;
      std::fill(dq.begin(), dq.end(), 0.0);
      for (std::int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double ds = seen.probability[at] * (dp[at] - mean) * seen.slope[at] * a.scale;
        const std::int64_t offset = (seen.first + i - a.key_begin[s]) * dim;
        for (std::int64_t d = 0; d < dim; ++d) {
          dq[static_cast<std::size_t>(d)] += ds * load(a.k, seen.first + i, kv * dim + d);
          dk[static_cast<std::size_t>(offset + d)] += ds * load(a.q, query, head * dim + d);
        }
      }
      for (std::int64_t d = 0; d < dim; ++d)
        store(g.dq, query, head * dim + d, dq[static_cast<std::size_t>(d)]);
    }
  for (std::int64_t i = 0; i < keys; ++i) {
    for (std::int64_t d = 0; d < dim; ++d)
      store(g.dk, a.key_begin[s] + i, kv * dim + d, dk[static_cast<std::size_t>(i * dim + d)]);
    for (std::int64_t d = 0; d < v_dim; ++d)
      store(g.dv, a.key_begin[s] + i, kv * v_dim + d, dv[static_cast<std::size_t>(i * v_dim + d)]);
  }
}

}  // namespace

void attention_grad(const AttentionGradArgs& g, Stream& stream) {
  const std::int64_t kv_heads = g.forward.kv_heads, heads = g.forward.heads;
  std::vector<double> dsinks(static_cast<std::size_t>(g.forward.sequences * heads));
  parallel_for(stream, g.forward.sequences * kv_heads, [&](std::int64_t task) {
    kv_head_grad(g, task / kv_heads, task % kv_heads, dsinks.data() + task / kv_heads * heads);
  });
  for (std::int64_t head = 0; g.wants_dsinks && head < heads; ++head) {
    double sum = g.accumulate_dsinks ? static_cast<double>(load(g.dsinks, g.dsinks_dtype, head)) : 0;
    for (std::int64_t s = 0; s < g.forward.sequences; ++s)
      sum += dsinks[static_cast<std::size_t>(s * heads + head)];
    store(g.dsinks, g.dsinks_dtype, head, sum);
  }
}

}  // namespace hone::kernels::reference
