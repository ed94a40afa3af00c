// The gradient of attention of cards beyond the cases: by every path, of extreme numbers, and beside rows
// that are of no sequence.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "kernels/cuda/register.h"
#include "tests/cuda/card_memory.h"
#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {
namespace {

using kernels::AttentionArgs;
using kernels::AttentionGradArgs;

/// The parameter: HONE_CUDA_PATHS.
class CudaAttentionGrad : public CardMemory, public testing::WithParamInterface<const char*> {
 protected:
  static constexpr std::int64_t kHeads = 4, kKvHeads = 2, kDim = 64;
  CudaAttentionGrad() { ::setenv("HONE_CUDA_PATHS", GetParam(), 1); }
  ~CudaAttentionGrad() override { ::unsetenv("HONE_CUDA_PATHS"); }

  struct Sequences {
    std::vector<std::int32_t> q_offsets, key_begin, key_length;
    std::int64_t tokens, keys;  // rows, those of no sequence as well
  };
  /// A call in bf16, forward as yet to be run.
  static AttentionGradArgs call_of(Arena& arena, const Sequences& s) {
    AttentionGradArgs g{};
    AttentionArgs& a = g.forward;
    a.q_offsets = arena.integers(s.q_offsets);
    a.key_begin = arena.integers(s.key_begin);
    a.key_length = arena.integers(s.key_length);
    a.sequences = static_cast<std::int64_t>(s.key_begin.size());
    a.heads = kHeads;
    a.kv_heads = kKvHeads;
    a.head_dim = kDim;
    a.scale = 0.125F;
    for (std::size_t i = 0; i < s.key_begin.size(); ++i)
      a.pairs += kernels::attended_pairs(s.q_offsets[i + 1] - s.q_offsets[i], s.key_length[i], 0);
    a.q = arena.input(s.tokens, kHeads * kDim, DType::kBF16, 8);
    a.k = arena.input(s.keys, kKvHeads * kDim, DType::kBF16, 16);
    a.v = arena.input(s.keys, kKvHeads * kDim, DType::kBF16);
    g.dout = arena.input(s.tokens, kHeads * kDim, DType::kBF16, 24);
    a.out = arena.output("", s.tokens, kHeads * kDim, DType::kBF16, false, 1);
    a.wants_lse = true;
    a.lse = static_cast<float*>(arena.output("", s.tokens, kHeads, DType::kF32, false, 1).data);
    g.dq = arena.output("dq", s.tokens, kHeads * kDim, DType::kBF16, false, 0, 8);
    g.dk = arena.output("dk", s.keys, kKvHeads * kDim, DType::kBF16, false, 0);
    g.dv = arena.output("dv", s.keys, kKvHeads * kDim, DType::kBF16, false, 0);
    return g;
  }
  static std::vector<double> numbers_of(const Matrix& m) {
    std::vector<double> all;
    for (std::int64_t row = 0; row < m.rows; ++row)
      for (std::int64_t col = 0; col < m.cols; ++col) all.push_back(get(m, row, col));
    return all;
  }
  using Gradients = std::array<std::vector<double>, 3>;  // dq, dk, dv
  static Gradients gradients_of(const AttentionGradArgs& g) {
    return {numbers_of(g.dq), numbers_of(g.dk), numbers_of(g.dv)};
  }
  /// In f64, of what forward has stored: lse, and out, which bf16 has rounded (beside a probability near 1
  /// what that leaves of dout v less dout out is more than all roundings here).
  static Gradients of_stored(const AttentionGradArgs& g) {
    const AttentionArgs& a = g.forward;
    const auto zeros = [](const Matrix& m) {
      return std::vector<double>(static_cast<std::size_t>(m.rows * m.cols));
    };
    Gradients all{zeros(g.dq), zeros(g.dk), zeros(g.dv)};
    const auto add = [](std::vector<double>& to, const Matrix& m, std::int64_t row, std::int64_t col,
                        double factor, const Matrix& x, std::int64_t x_row, std::int64_t x_col) {
      for (std::int64_t d = 0; d < kDim; ++d)
        to[static_cast<std::size_t>(row * m.cols + col + d)] += factor * get(x, x_row, x_col + d);
    };
    const auto dot = [](const Matrix& x, std::int64_t x_row, std::int64_t x_col, const Matrix& y,
                        std::int64_t y_row, std::int64_t y_col) {
      double sum = 0;
      for (std::int64_t d = 0; d < kDim; ++d) sum += get(x, x_row, x_col + d) * get(y, y_row, y_col + d);
      return sum;
    };
    for (std::int64_t s = 0; s < a.sequences; ++s)
      for (std::int64_t q = a.q_offsets[s]; q < a.q_offsets[s + 1]; ++q)
        for (std::int64_t head = 0; head < kHeads; ++head) {
          const std::int64_t of_q = head * kDim, of_k = head / (kHeads / kKvHeads) * kDim;
          const double delta = dot(a.out, q, of_q, g.dout, q, of_q);
          for (std::int64_t k = a.key_begin[s]; k <= a.key_begin[s] + q - a.q_offsets[s]; ++k) {
            const double p = std::exp(a.scale * dot(a.q, q, of_q, a.k, k, of_k) - a.lse[q * kHeads + head]);
            const double ds = a.scale * p * (dot(g.dout, q, of_q, a.v, k, of_k) - delta);
            if (q > a.q_offsets[s]) add(all[0], g.dq, q, of_q, ds, a.k, k, of_k);
            if (q > a.q_offsets[s]) add(all[1], g.dk, k, of_k, ds, a.q, q, of_q);
            add(all[2], g.dv, k, of_k, p, g.dout, q, of_q);
          }
        }
    return all;
  }
  /// What the card makes of a call whose numbers `change` sets is near what `oracle` makes of it.
  template <typename Change, typename Oracle>
  void expect_near_oracle(const Sequences& s, const Change& change, const Oracle& oracle) {
    Arena arena;
    AttentionGradArgs g = call_of(arena, s);
    change(g);
    device::CpuStream host = make_stream(2);
    kernels::cpu_kernels(kernels::CpuIsa::kReference).attention(g.forward, host);
    kernels::cuda_kernels().attention_grad(g, card());
    arena_memory.settle();
    const Gradients got = gradients_of(g), want = oracle(g);
    for (std::size_t i = 0; i < got.size(); ++i)
      // as in attention_cases.cpp
      EXPECT_LE(relative_distance(got[i], want[i]), 2 * tolerance(DType::kBF16, 4 * (s.keys + kDim)))
          << (i == 0   ? "dq"
              : i == 1 ? "dk"
                       : "dv");
  }
};

/// Keys and values of one row are 1e4 times the others', and dout of another; so are scores, of which one
/// wins.
TEST_P(CudaAttentionGrad, OfOutliersAndPeakedProbabilities) {
  const Sequences s{{0, 150, 283}, {0, 150}, {150, 133}, 283, 283};
  for (const double large : {30.0, 1e4}) {
    SCOPED_TRACE(large);
    const auto grow = [&](AttentionGradArgs& g) {
      for (std::int64_t d = 0; d < kDim; ++d) {
        set(g.forward.v, 70, d, large * get(g.forward.v, 70, d));
        set(g.forward.k, 201, d, large * get(g.forward.k, 201, d));
        set(g.dout, 131, kDim + d, large * get(g.dout, 131, kDim + d));
      }
    };
    expect_near_oracle(s, grow, of_stored);
  }
}

/// Every number of a row that is of no sequence is none: nothing of them may come into a product.
TEST_P(CudaAttentionGrad, LeavesRowsOfNoSequenceAlone) {
  const Sequences s{{2, 72, 75, 206}, {5, 90, 140}, {80, 3, 131}, 211, 300};
  const auto poison = [&](AttentionGradArgs& g) {
    const auto of_none = [&](std::int64_t row, bool of_keys) {
      for (std::size_t i = 0; i < s.key_begin.size(); ++i) {
        const auto begin = of_keys ? s.key_begin[i] : s.q_offsets[i];
        const auto end = of_keys ? begin + s.key_length[i] : s.q_offsets[i + 1];
        if (row >= begin && row < end) return false;
      }
      return true;
    };
    for (const auto& [m, of_keys] : {std::pair(g.forward.q, false), std::pair(g.dout, false),
                                     std::pair(g.forward.k, true), std::pair(g.forward.v, true)})
      for (std::int64_t row = 0; row < m.rows; ++row)
        for (std::int64_t col = 0; col < m.cols && of_none(row, of_keys); ++col) set(m, row, col, NAN);
  };
  const auto start = [&](AttentionGradArgs& g) {
    poison(g);
    for (const Matrix& m : {g.dq, g.dk, g.dv})  // rows of no sequence are left as they are, and compared
      for (std::int64_t row = 0; row < m.rows; ++row)
        for (std::int64_t col = 0; col < m.cols; ++col) set(m, row, col, 0.25);
  };
  expect_near_oracle(s, start, [&](AttentionGradArgs& g) {
    start(g);
    device::CpuStream host = make_stream(2);
    kernels::cpu_kernels(kernels::CpuIsa::kReference).attention_grad(g, host);
    return gradients_of(g);
  });
}

INSTANTIATE_TEST_SUITE_P(Paths, CudaAttentionGrad, testing::Values("", "portable"),
                         [](const auto& test) { return *test.param == 0 ? "default" : test.param; });

}  // namespace
}  // namespace hone::test
