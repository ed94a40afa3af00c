// Attention's softcap and sinks beyond agreement with the reference: how exact they are, and what the largest
// numbers do.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/against_reference.h"
#include "tests/kernels/attention_operands.h"

namespace hone::test {
namespace {

/// As many queries as keys, in f32.
struct Attention : AttentionOperands {
  Values sinks, dsinks;

  Attention(std::int32_t tokens, std::int64_t heads, std::int64_t dim)
      : AttentionOperands(tokens, tokens, heads, dim, DType::kF32, random(tokens, heads * dim, 1),
                          random(tokens, dim, 2), random(tokens, dim, 3), random(tokens, heads * dim, 4)),
        sinks(1, heads, DType::kF32),
        dsinks(1, heads, DType::kF32) {}
  void set_sinks(float sink) {
    kernels::AttentionArgs& a = g.forward;
    for (std::int64_t h = 0; h < a.heads; h++) static_cast<float*>(sinks.data())[h] = sink;
    a.sinks = sinks.data();
    a.has_sinks = g.wants_dsinks = true;
    g.dsinks = dsinks.data();
  }
  void run(const KernelTable& table) {
    device::CpuStream stream = make_stream(2);
    table.attention(g.forward, stream);
    table.attention_grad(g, stream);
  }

  static std::vector<float> random(std::int64_t rows, std::int64_t cols, unsigned seed) {
    std::mt19937 numbers(seed);
    return make_factors(rows, cols, numbers, 0);
  }
};

/// Where a query sees its own key only, its log-sum-exp is the capped score.
TEST(Softcap, IsTheHyperbolicTangentWithinThreeHalvesOfAUnit) {
  for (const std::int32_t tokens : {3, 20000})  // few queries have code of their own
    for (const auto& [isa, table] : fast_tables()) {
      double most = 0;
      for (std::int32_t at = 0; at < 20001; at += tokens) {
        Attention a(tokens, 1, 1);
        a.g.forward.window = 1;
        a.g.forward.softcap = 1;
        for (std::int32_t i = 0; i < tokens; i++) {
          const double size = std::exp2(-20 + 25 * static_cast<double>(at + i) / 20003);
          static_cast<float*>(a.q.data())[i] = static_cast<float>(i % 2 == 0 ? size : -size);
          static_cast<float*>(a.k.data())[i] = 1;
        }
        device::CpuStream stream = make_stream(1);
        table.attention(a.g.forward, stream);
        for (std::int32_t i = 0; i < tokens; i++) {
          const double want = std::tanh(static_cast<double>(static_cast<const float*>(a.q.data())[i]));
          const double unit = std::exp2(std::floor(std::log2(std::abs(want))) - 23);
          most = std::max(most, std::abs(static_cast<double>(a.g.forward.lse[i]) - want) / unit);
        }
        if (tokens == 3 && at > 3000) at += 300;
      }
      EXPECT_LE(most, 1.5) << isa << " " << tokens;
    }
}

TEST(Softcap, TakesScoresOfAnySize) {
  for (const auto& [isa, table] : fast_tables())
    for (const float size : {1e4F, 1e18F})
      for (const std::int32_t tokens : {3, 70}) {
        Attention a(tokens, 2, 16);
        for (std::int64_t i = 0; i < tokens * 16; i++) static_cast<float*>(a.k.data())[i] = size;
        for (std::int64_t i = 0; i < tokens * 32; i++) static_cast<float*>(a.q.data())[i] = size;
        a.g.forward.softcap = 50;
        a.run(table);
        // All scores are 50: every query takes the mean of what it sees, and no score moves.
        const std::vector<float> v = a.v.floats(), out = a.out.floats(), lse = a.lse.floats();
        for (std::int64_t d = 0; d < 16; d++) {
          double sum = 0;
          for (std::int64_t i = 0; i < tokens; i++) {
            sum += static_cast<double>(v[static_cast<std::size_t>(i * 16 + d)]);
            EXPECT_NEAR(static_cast<double>(out[static_cast<std::size_t>(i * 32 + d)]),
                        sum / static_cast<double>(i + 1), 1e-5)
                << isa << " " << size;
            EXPECT_NEAR(static_cast<double>(lse[static_cast<std::size_t>(2 * i)]),
                        50 + std::log(static_cast<double>(i + 1)), 1e-5);
          }
        }
        for (const float x : a.dq.floats()) ASSERT_EQ(x, 0) << isa << " " << size;
        for (const float x : a.dk.floats()) ASSERT_EQ(x, 0) << isa << " " << size;
        for (const float x : a.dv.floats()) ASSERT_TRUE(std::isfinite(x)) << isa << " " << size;
      }
}

TEST(Sinks, ThatAreFarBelowChangeNothing) {
  for (const auto& [isa, table] : fast_tables())
    for (const float sink : {-1e4F, -std::numeric_limits<float>::infinity()})
      for (const std::int32_t tokens : {3, 70}) {
        Attention without(tokens, 3, 16), with(tokens, 3, 16);
        with.set_sinks(sink);
        without.run(table);
        with.run(table);
        EXPECT_EQ(with.out.floats(), without.out.floats()) << isa << " " << sink;
        EXPECT_EQ(with.lse.floats(), without.lse.floats()) << isa << " " << sink;
        EXPECT_EQ(with.dq.floats(), without.dq.floats()) << isa << " " << sink;
        EXPECT_EQ(with.dk.floats(), without.dk.floats()) << isa << " " << sink;
        EXPECT_EQ(with.dv.floats(), without.dv.floats()) << isa << " " << sink;
        for (const float x : with.dsinks.floats()) EXPECT_EQ(x, 0) << isa << " " << sink;
      }
}

TEST(Sinks, ThatAreFarAboveTakeAll) {
  for (const auto& [isa, table] : fast_tables())
    for (const std::int32_t tokens : {3, 70}) {
      Attention a(tokens, 3, 16);
      a.set_sinks(1e4F);
      a.run(table);
      for (const float x : a.lse.floats()) EXPECT_EQ(x, 1e4F) << isa;
      for (const Values* zeros : {&a.out, &a.dq, &a.dk, &a.dv, &a.dsinks})
        for (const float x : zeros->floats()) ASSERT_EQ(x, 0) << isa;
    }
}

TEST(LongSums, OfSinksGradient) {
  constexpr std::int64_t kDim = 16, kHeads = 3;
  for (const std::int32_t tokens : {700, 40011})
    for (const auto& [isa, table] : fast_tables()) {
      Draws draws;
      for (unsigned seed = 0; seed < 4; seed++) {
        Attention a(tokens, kHeads, kDim);
        std::mt19937 random(seed);
        a.dout = Values(tokens, kHeads * kDim, DType::kF32,
                        make_terms(Terms::kPeaked, tokens, kHeads * kDim, random));
        a.g.dout = a.dout.matrix();
        a.g.forward.window = 2;
        a.set_sinks(0.7F);
        a.run(table);
        const std::vector<float> out = a.out.floats(), dout = a.dout.floats(), lse = a.lse.floats();
        const auto gradient = [&]<typename Real>(Real, std::int64_t h) {
          return -sum_of<Real>(0, tokens, [&](std::int64_t i) {
            const std::int64_t at = (i * kHeads + h) * kDim;
            return std::exp(Real{0.7F} - static_cast<Real>(lse[static_cast<std::size_t>(i * kHeads + h)])) *
                   dot_of<Real>(out.data() + at, dout.data() + at, kDim);
          });
        };
        std::vector<double> pairwise, exact;
        for (std::int64_t h = 0; h < kHeads; h++) {
          pairwise.push_back(static_cast<double>(gradient(0.0F, h)));
          exact.push_back(gradient(0.0, h));
        }
        draws.add({fmt::format("{} dsinks {} queries", isa, tokens), a.dsinks.floats(), pairwise, exact});
      }
      draws.expect_as_exact_as_pairwise();
    }
}

}  // namespace
}  // namespace hone::test
