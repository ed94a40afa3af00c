// Every kernel that adds up rows or columns keeps the small terms of a long sum: no further from float64 than
// the same formula in f32 whose sums are added up pairwise, whatever the instruction set.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/kernels/arena.h"
#include "tests/kernels/long_sums.h"
#include "tests/tolerance.h"

namespace hone::test {
namespace {

using kernels::CpuIsa;

/// Sums of n terms, `count` of them, each of products of a term and a factor: in f32 pairwise and in f64.
struct Sums {
  std::int64_t count, n;
  std::vector<float> terms, factors;  // (count, n)

  Sums(Terms kind, std::int64_t count_, std::int64_t n_, DType dtype) : count(count_), n(n_) {
    std::mt19937 random(static_cast<unsigned>(n));
    terms = Values(count, n, dtype, make_terms(kind, count, n, random)).floats();
    factors = Values(count, n, dtype, make_factors(count, n, random)).floats();
  }
  template <class Real>
  std::vector<double> products() const {
    std::vector<double> sums;
    for (std::int64_t i = 0; i < count; ++i)
      sums.push_back(static_cast<double>(dot_of<Real>(terms.data() + i * n, factors.data() + i * n, n)));
    return sums;
  }
  /// For sums over rows of a matrix: (n, count).
  std::vector<float> columns(const std::vector<float>& of) const {
    std::vector<float> result(of.size());
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        result[static_cast<std::size_t>(j * count + i)] = of[static_cast<std::size_t>(i * n + j)];
    return result;
  }
};

/// One sum over a long dimension: f32 results of a kernel, and what they are by pairwise sums and exactly.
class LongRowSums : public testing::TestWithParam<std::tuple<std::int64_t, Terms, DType>> {
 protected:
  std::int64_t n() const { return std::get<0>(GetParam()); }
  Terms terms() const { return std::get<1>(GetParam()); }
  DType dtype() const { return std::get<2>(GetParam()); }

  /// `run` returns the kernel's results from one table.
  void check(const char* what, const std::vector<double>& pairwise, const std::vector<double>& exact,
             const std::function<std::vector<float>(const KernelTable&, Stream&)>& run) {
    const double allowed = relative_distance(pairwise, exact);
    for (const CpuIsa isa : kernels::available_cpu_isas()) {
      const std::vector<float> values = run(kernels::cpu_kernels(isa), stream_);
      const double got = relative_distance(std::vector<double>(values.begin(), values.end()), exact);
      if (std::getenv("HONE_SHOW_ERRORS") != nullptr)
        fmt::print("{:12} {:24} {:9} {:8} {} ratio {:.3f}\n", kernels::name_of(isa), what, name_of(terms()),
                   n(), hone::name_of(dtype()), got / allowed);
      EXPECT_LE(got, allowed + 1e-12) << kernels::name_of(isa) << ' ' << what << ": ratio " << got / allowed;
    }
  }
  device::CpuStream stream_ = make_stream(2);
};

constexpr std::int64_t kSums = 20;  // with a ragged end in every instruction set

TEST_P(LongRowSums, OfColumns) {
  Sums s(terms(), kSums, n(), dtype());
  std::fill(s.factors.begin(), s.factors.end(), 1.0F);
  Values x(n(), kSums, dtype(), s.columns(s.terms));
  check("column_sum", s.products<float>(), s.products<double>(),
        [&](const KernelTable& table, Stream& stream) {
          Values out(1, kSums, DType::kF32);
          table.column_sum({.x = x.matrix(), .out = out.data()}, stream);
          return out.floats();
        });
}

TEST_P(LongRowSums, OfOneWordsGradients) {
  Sums s(terms(), kSums, n(), dtype());
  std::fill(s.factors.begin(), s.factors.end(), 1.0F);
  Values dout(n(), kSums, dtype(), s.columns(s.terms));
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(n()), 1);
  check("embedding_grad", s.products<float>(), s.products<double>(),
        [&](const KernelTable& table, Stream& stream) {
          Values dtable(2, kSums, DType::kF32);
          kernels::EmbeddingGradArgs a;
          a.dout = dout.data();
          a.dout_dtype = dtype();
          a.ids = ids.data();
          a.dtable = dtable.data();
          a.dtable_dtype = DType::kF32;
          a.rows = n();
          a.hidden = kSums;
          a.vocab = 2;
          a.padding_id = -1;
          table.embedding_grad(a, stream);
          const auto all = dtable.floats();
          return std::vector<float>(all.begin() + kSums, all.end());
        });
}

TEST_P(LongRowSums, OfTheGradientOfANormsWeight) {
  Sums s(terms(), kSums, n(), dtype());
  Values dy(n(), kSums, dtype(), s.columns(s.terms)), x(n(), kSums, dtype(), s.columns(s.factors));
  Values weight(1, kSums, dtype(), std::vector<float>(kSums, 1.0F));
  const std::vector<float> rstd(static_cast<std::size_t>(n()), 1.0F);
  check("rms_norm_grad", s.products<float>(), s.products<double>(),
        [&](const KernelTable& table, Stream& stream) {
          Values dweight(1, kSums, DType::kF32);
          kernels::RmsNormGradArgs a;
          a.dy = dy.matrix();
          a.x = x.matrix();
          a.weight = weight.data();
          a.weight_dtype = dtype();
          a.rstd = rstd.data();
          a.dweight = dweight.data();
          a.wants_dweight = true;
          table.rms_norm_grad(a, stream);
          return dweight.floats();
        });
}

template <class Real>
std::vector<double> head_weight_gradient(const std::vector<float>& dy, const std::vector<float>& x,
                                         std::int64_t rows) {
  std::vector<Real> rstd;
  for (std::int64_t i = 0; i < rows; ++i)
    rstd.push_back(1 / std::sqrt(dot_of<Real>(x.data() + i * kSums, x.data() + i * kSums, kSums) /
                                     static_cast<Real>(kSums) +
                                 static_cast<Real>(1e-6F)));
  std::vector<double> sums;
  for (std::int64_t j = 0; j < kSums; ++j)
    sums.push_back(static_cast<double>(sum_of<Real>(0, rows, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i * kSums + j);
      return static_cast<Real>(dy[at]) * (static_cast<Real>(x[at]) * rstd[static_cast<std::size_t>(i)]);
    })));
  return sums;
}

TEST_P(LongRowSums, OfTheGradientOfAHeadNormsWeight) {
  constexpr std::int64_t kHeads = 4;
  const std::int64_t tokens = n() / kHeads;
  const Sums s(terms(), kSums, tokens * kHeads, dtype());
  const auto dy_values = s.columns(s.terms), x_values = s.columns(s.factors);
  Values dy(tokens, kHeads * kSums, dtype(), dy_values), x(tokens, kHeads * kSums, dtype(), x_values);
  Values weight(1, kSums, dtype(), std::vector<float>(kSums, 1.0F));
  const std::vector<std::int32_t> positions(static_cast<std::size_t>(tokens), 0);
  check("head_norm_rope_grad", head_weight_gradient<float>(dy_values, x_values, tokens * kHeads),
        head_weight_gradient<double>(dy_values, x_values, tokens * kHeads),
        [&](const KernelTable& table, Stream& stream) {
          Values dweight(1, kSums, DType::kF32);
          kernels::HeadNormRopeGradArgs a;
          a.dy = dy.matrix();
          a.x = x.matrix();
          a.weight = weight.data();
          a.has_weight = true;
          a.weight_dtype = dtype();
          a.eps = 1e-6F;
          a.positions = positions.data();
          a.heads = kHeads;
          a.head_dim = kSums;
          a.rotary_dim = 0;
          a.dweight = dweight.data();
          a.wants_dweight = true;
          table.head_norm_rope_grad(a, stream);
          return dweight.floats();
        });
}

TEST_P(LongRowSums, OfTheRoutersProbabilities) {
  if (dtype() != DType::kF32) return;
  Sums s(terms(), kSums, n(), dtype());
  auto logits = s.columns(s.terms);
  for (float& x : logits) x = std::log(std::fabs(x) + 1e-30F);  // so that probabilities are like the terms
  std::vector<double> pairwise(kSums), exact(kSums);
  const auto run = [&](const KernelTable& table, Stream& stream) {
    Values probabilities(n(), kSums, DType::kF32), weights(n(), 2, DType::kF32), sums(1, kSums, DType::kF32);
    std::vector<std::int32_t> experts(static_cast<std::size_t>(2 * n()));
    kernels::RouterArgs a;
    a.logits = logits.data();
    a.tokens = n();
    a.experts = kSums;
    a.top_k = 2;
    a.probabilities = static_cast<float*>(probabilities.data());
    a.weights = static_cast<float*>(weights.data());
    a.experts_of = experts.data();
    a.probability_sums = static_cast<float*>(sums.data());
    table.router(a, stream);
    const auto p = probabilities.floats();
    for (std::int64_t e = 0; e < kSums; ++e) {
      const auto term = [&](std::int64_t i) { return p[static_cast<std::size_t>(i * kSums + e)]; };
      pairwise[static_cast<std::size_t>(e)] = static_cast<double>(sum_of<float>(0, n(), term));
      exact[static_cast<std::size_t>(e)] =
          sum_of<double>(0, n(), [&](std::int64_t i) { return static_cast<double>(term(i)); });
    }
    return sums.floats();
  };
  for (const CpuIsa isa : kernels::available_cpu_isas()) {
    // The probabilities differ from table to table in their last bits: each has its own sums.
    const auto values = run(kernels::cpu_kernels(isa), stream_);
    const double got = relative_distance(std::vector<double>(values.begin(), values.end()), exact);
    EXPECT_LE(got, relative_distance(pairwise, exact) + 1e-12) << kernels::name_of(isa);
  }
}

/// Rows of which the squares are like the terms.
Sums squares_like(Terms kind, std::int64_t n, DType dtype) {
  Sums s(kind, kSums, n, DType::kF32);
  for (float& x : s.terms) x = std::sqrt(std::fabs(x));
  s.terms = Values(kSums, n, dtype, s.terms).floats();
  s.factors = s.terms;
  return s;
}

TEST_P(LongRowSums, OfANormsSquares) {
  const Sums s = squares_like(terms(), n(), dtype());
  Values x(kSums, n(), dtype(), s.terms);
  Values weight(1, n(), dtype(), std::vector<float>(static_cast<std::size_t>(n()), 1.0F));
  auto pairwise = s.products<float>(), exact = s.products<double>();
  for (double& v : pairwise)
    v = static_cast<double>(1 / std::sqrt(static_cast<float>(v) / static_cast<float>(n())));
  for (double& v : exact) v = 1 / std::sqrt(v / static_cast<double>(n()));
  check("rms_norm", pairwise, exact, [&](const KernelTable& table, Stream& stream) {
    Values y(kSums, n(), dtype()), rstd(1, kSums, DType::kF32);
    kernels::RmsNormArgs a;
    a.x = x.matrix();
    a.weight = weight.data();
    a.weight_dtype = dtype();
    a.eps = 0;
    a.y = y.matrix();
    a.rstd = static_cast<float*>(rstd.data());
    a.wants_rstd = true;
    table.rms_norm(a, stream);
    return rstd.floats();
  });
}

TEST_P(LongRowSums, OfAGatesGradient) {
  Sums s(terms(), kSums, n(), dtype());
  Values dy(kSums, n(), dtype(), s.terms), x(kSums, n(), dtype(), s.factors);
  Values gate(kSums, 1, DType::kF32, std::vector<float>(kSums, 0.0F));
  auto pairwise = s.products<float>(), exact = s.products<double>();
  for (double& v : pairwise) v /= 4;  // the sigmoid of 0 times one less it
  for (double& v : exact) v /= 4;
  check("row_gate_grad", pairwise, exact, [&](const KernelTable& table, Stream& stream) {
    Values dgate(kSums, 1, DType::kF32);
    kernels::RowGateGradArgs a;
    a.dy = dy.matrix();
    a.x = x.matrix();
    a.gate = gate.matrix();
    a.dgate = dgate.matrix();
    table.row_gate_grad(a, stream);
    return dgate.floats();
  });
}

TEST_P(LongRowSums, OfTheSquaresOfAGradient) {
  const Sums s = squares_like(terms(), n(), dtype());
  Values x(kSums, n(), dtype(), s.terms);
  check("sum_of_squares", s.products<float>(), s.products<double>(),
        [&](const KernelTable& table, Stream& stream) {
          std::vector<float> sums;
          for (std::int64_t i = 0; i < kSums; ++i) {
            kernels::StepScalars scalars;
            const auto bytes = i * n() * static_cast<std::int64_t>(size_of(dtype()));
            table.sum_of_squares({.x = static_cast<const char*>(x.data()) + bytes,
                                  .n = n(),
                                  .dtype = dtype(),
                                  .scalars = &scalars},
                                 stream);
            sums.push_back(static_cast<float>(scalars.sum_of_squares));
          }
          return sums;
        });
}

INSTANTIATE_TEST_SUITE_P(EveryKind, LongRowSums,
                         testing::Combine(testing::Values(700, 5003), testing::ValuesIn(kAllTerms),
                                          testing::Values(DType::kF32, DType::kBF16)));
INSTANTIATE_TEST_SUITE_P(Longest, LongRowSums,  // a second each
                         testing::Combine(testing::Values(200003),
                                          testing::Values(Terms::kPeaked, Terms::kOutliers),
                                          testing::Values(DType::kF32)));

}  // namespace
}  // namespace hone::test
