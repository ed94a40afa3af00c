// Reference attention against the formula over a whole matrix of scores, and against finite differences.
#include <cmath>

#include "tests/kernels/finite_difference.h"

namespace hone::test {
namespace {

using namespace kernels;

constexpr std::size_t kHeads = 4, kKvHeads = 2, kDim = 3;
constexpr double kScale = 0.7;

/// Queries and keys of one sequence; the last query sees the last key.
Numbers attend(const Numbers& q, const Numbers& k, const Numbers& v, std::size_t window) {
  const std::size_t queries = q.size() / (kHeads * kDim), keys = k.size() / (kKvHeads * kDim);
  Numbers out(q.size());
  for (std::size_t t = 0; t < queries; ++t)
    for (std::size_t h = 0; h < kHeads; ++h) {
      const std::size_t kv = h / (kHeads / kKvHeads);
      Numbers p(keys);
      double sum = 0;
      for (std::size_t s = 0; s < keys; ++s) {
        const bool future = s + queries > keys + t;
        const bool old = window > 0 && s + queries + window <= keys + t;
        double dot = 0;
        for (std::size_t d = 0; d < kDim; ++d)
          dot += q[(t * kHeads + h) * kDim + d] * k[(s * kKvHeads + kv) * kDim + d];
        sum += p[s] = future || old ? 0 : std::exp(dot * kScale);
      }
      for (std::size_t s = 0; s < keys; ++s)
        for (std::size_t d = 0; d < kDim; ++d)
          out[(t * kHeads + h) * kDim + d] += p[s] / sum * v[(s * kKvHeads + kv) * kDim + d];
    }
  return out;
}

struct Case {
  Numbers q, k, v;
  std::vector<float> fq, fk, fv, out;
  std::int32_t offsets[2], begin[1] = {0}, length[1];
  AttentionArgs args;
  Case(std::size_t queries, std::size_t keys, std::int64_t window)
      : q(random_numbers(queries * kHeads * kDim, 1)),
        k(random_numbers(keys * kKvHeads * kDim, 2)),
        v(random_numbers(keys * kKvHeads * kDim, 3)),
        fq(to_floats(q)),
        fk(to_floats(k)),
        fv(to_floats(v)),
        out(q.size()),
        offsets{0, static_cast<std::int32_t>(queries)},
        length{static_cast<std::int32_t>(keys)} {
    args = {.q = as_matrix(fq, kHeads * kDim),
            .k = as_matrix(fk, kKvHeads * kDim),
            .v = as_matrix(fv, kKvHeads * kDim),
            .out = as_matrix(out, kHeads * kDim),
            .q_offsets = offsets,
            .key_begin = begin,
            .key_length = length,
            .sequences = 1,
            .heads = kHeads,
            .kv_heads = kKvHeads,
            .head_dim = kDim,
            .window = window,
            .scale = static_cast<float>(kScale)};
  }
};

TEST(Attention, MatchesTheFormulaWithWindowsAndEarlierKeys) {
  device::CpuStream stream = make_stream(2);
  for (const std::size_t queries : {1, 5})
    for (const std::size_t keys : {5, 9})
      for (const std::int64_t window : {0, 1, 3, 20}) {
        Case c(queries, keys, window);
        reference::attention(c.args, stream);
        expect_close(c.out, attend(c.q, c.k, c.v, static_cast<std::size_t>(window)), 16, "out");
      }
}

TEST(Attention, GradientMatchesFiniteDifferences) {
  device::CpuStream stream = make_stream(2);
  for (const std::int64_t window : {0, 3}) {
    Case c(6, 6, window);
    const auto w = static_cast<std::size_t>(window);
    const Numbers dout = random_numbers(c.q.size(), 4);
    auto fdout = to_floats(dout);
    std::vector<float> dq(c.q.size()), dk(c.k.size()), dv(c.v.size());
    reference::attention_grad({.forward = c.args,
                               .dout = as_matrix(fdout, kHeads * kDim),
                               .dq = as_matrix(dq, kHeads * kDim),
                               .dk = as_matrix(dk, kKvHeads * kDim),
                               .dv = as_matrix(dv, kKvHeads * kDim)},
                              stream);
    expect_close(dq, numeric_gradient([&](const Numbers& x) { return attend(x, c.k, c.v, w); }, c.q, dout),
                 64, "dq");
    expect_close(dk, numeric_gradient([&](const Numbers& x) { return attend(c.q, x, c.v, w); }, c.k, dout),
                 64, "dk");
    expect_close(dv, numeric_gradient([&](const Numbers& x) { return attend(c.q, c.k, x, w); }, c.v, dout),
                 64, "dv");
  }
}

TEST(Attention, SequencesDoNotSeeEachOther) {
  device::CpuStream stream = make_stream(2);
  Case both(7, 7, 0);
  const std::int32_t offsets[] = {0, 3, 7}, begin[] = {0, 3}, length[] = {3, 4};
  both.args.q_offsets = offsets;
  both.args.key_begin = begin;
  both.args.key_length = length;
  both.args.sequences = 2;
  reference::attention(both.args, stream);
  const auto slice = [](const Numbers& x, std::size_t from, std::size_t to) {
    return Numbers(x.begin() + static_cast<std::ptrdiff_t>(from),
                   x.begin() + static_cast<std::ptrdiff_t>(to));
  };
  const std::size_t q = kHeads * kDim, k = kKvHeads * kDim;
  Numbers want = attend(slice(both.q, 0, 3 * q), slice(both.k, 0, 3 * k), slice(both.v, 0, 3 * k), 0);
  const Numbers second =
      attend(slice(both.q, 3 * q, 7 * q), slice(both.k, 3 * k, 7 * k), slice(both.v, 3 * k, 7 * k), 0);
  want.insert(want.end(), second.begin(), second.end());
  expect_close(both.out, want, 16, "out");
}

}  // namespace
}  // namespace hone::test
