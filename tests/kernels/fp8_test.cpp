// Operands in FP8: what they are rounded to, number for number, against the definition (fp8_oracle.h), and
// what the products of a layer of experts make of them. (fp8_cases.cpp compares tables.)
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/kernels/cases.h"
#include "tests/kernels/expert_forms.h"
#include "tests/kernels/fast_tables.h"
#include "tests/kernels/filled.h"
#include "tests/kernels/fp8_oracle.h"
#include "tests/tolerance.h"

namespace hone::test {
namespace {

using kernels::MatmulArgs;

/// The reference and all that are compared with it.
std::vector<std::pair<std::string, KernelTable>> every_table() {
  auto tables = fast_tables();
  tables.emplace_back("reference", kernels::cpu_kernels(kernels::CpuIsa::kReference));
  return tables;
}

Fp8Oracle oracle_of(const Matrix& m) {
  return {m.rows, m.cols, values_of(m)};
}

/// How a product takes x: as its left operand, in blocks along rows, or as its right one, in squares.
enum class Taken { kLeft, kRight, kRightTransposed };

/// x times the identity, or the identity times x, of which nothing is lost but what rounding takes.
std::vector<double> taken(const KernelTable& table, const Matrix& x, Taken how) {
  Arena arena;
  const bool left = how == Taken::kLeft, turned = how == Taken::kRightTransposed;
  const std::int64_t k = left || turned ? x.cols : x.rows, other = left || turned ? x.rows : x.cols;
  const Matrix one = arena.output("", k, k, x.dtype, false, 0);
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t j = 0; j < k; ++j) set(one, i, j, i == j ? 1 : 0);
  MatmulArgs a;
  a.a = left ? x : one;
  a.b = left ? one : x;
  a.fp8 = true;
  a.transpose_b = turned;
  a.c = left ? arena.output("c", other, k, DType::kF32, false, 0)
             : arena.output("c", k, other, DType::kF32, false, 0);
  device::CpuStream stream = make_stream(2);
  table.matmul(a, stream);
  Fp8Oracle result{x.rows, x.cols, std::vector<double>(static_cast<std::size_t>(x.rows * x.cols))};
  for (std::int64_t i = 0; i < x.rows; ++i)
    for (std::int64_t j = 0; j < x.cols; ++j) result.at(i, j) = turned ? get(a.c, j, i) : get(a.c, i, j);
  return result.values;
}
constexpr Taken kEachWay[] = {Taken::kLeft, Taken::kRight, Taken::kRightTransposed};

void round_as(Taken how, Fp8Oracle& x) {
  x.round(how == Taken::kLeft ? 1 : 128, 128);
}

void expect_rounded(const Matrix& x, const std::string& what) {
  for (const Taken how : kEachWay) {
    Fp8Oracle want = oracle_of(x);
    round_as(how, want);
    for (const auto& [name, table] : every_table())
      ASSERT_EQ(taken(table, x, how), want.values)
          << name << ", " << what << ", " << name_of(x.dtype) << ", taken " << static_cast<int>(how);
  }
}

TEST(Fp8, IsTheNearestNumberOfItsBlock) {
  const std::int64_t shapes[][2] = {{1, 1}, {3, 130}, {129, 2}, {40, 300}, {257, 65}, {128, 128}, {0, 5}};
  for (const DType dtype : kBothDtypes)
    for (const auto& [rows, cols] : shapes) {
      Arena arena;
      expect_rounded(arena.input(rows, cols, dtype, 3), fmt::format("{} x {}", rows, cols));
      if (HasFatalFailure()) return;
    }
}

TEST(Fp8, KeepsItsPromiseOnHardNumbers) {
  for (const DType dtype : kBothDtypes) {
    Arena arena;
    auto& random = arena.random();
    // magnitudes of all kinds, so that many fall under the least digit of their block
    expect_rounded(filled(arena, 140, 150, dtype, 0,
                          [&](auto, auto) {
                            const int exponent = static_cast<int>(random() % 40) - 20;
                            return std::ldexp(static_cast<double>(random() % 512) - 256, exponent);
                          }),
                   "magnitudes");
    expect_rounded(
        filled(arena, 130, 140, dtype, 0,
               [&](auto i, auto j) { return i == 3 && j == 70 ? 1e4 : std::ldexp(random() % 300, -8); }),
        "an outlier");
    // halfway between two numbers; the largest of a row, 448, says what the step is
    expect_rounded(filled(arena, 3, 128, dtype, 0,
                          [&](auto i, auto j) {
                            const auto at = static_cast<std::size_t>(j) % 126;
                            const auto& all = e4m3_magnitudes();
                            const double middle = (all[at] + all[at + 1]) / 2;
                            return j == 127 ? 448 : i == 1 ? -middle : middle;
                          }),
                   "halves");
    // on both sides of where the scale doubles
    for (const double largest : {447.0, 448.0, 450.0, 896.0, 898.0, 1.75, 1.7578125, 0x1p-109 * 448, 3.2e38})
      expect_rounded(filled(arena, 2, 5, dtype, 0,
                            [&](auto i, auto j) { return (i == 0 ? 1 : -1) * largest / (1 << j); }),
                     fmt::format("largest {}", largest));
    // blocks of nothing, and of less than the least scale times the least number
    expect_rounded(filled(arena, 129, 129, dtype, 0,
                          [&](auto i, auto j) { return i == 128 && j == 128 ? -0x1p-133 : 0.0; }),
                   "zeros");
    expect_rounded(filled(arena, 4, 130, dtype, 0,
                          [&](auto, auto j) { return std::ldexp(1.25, -133 + static_cast<int>(j % 24)); }),
                   "tiny");
  }
}

// What is not finite is NaN and does not count for the scale of the others.
TEST(Fp8, PassesOnWhatIsNotFinite) {
  for (const DType dtype : kBothDtypes) {
    Arena arena;
    const Matrix x = arena.input(150, 20, dtype);
    Fp8Oracle want = oracle_of(x);
    set(x, 2, 3, INFINITY);
    set(x, 5, 7, -INFINITY);
    set(x, 140, 19, NAN);
    want.at(2, 3) = want.at(5, 7) = want.at(140, 19) = 0;
    for (const Taken how : kEachWay) {
      Fp8Oracle rounded = want;
      round_as(how, rounded);
      for (const auto& [name, table] : every_table()) {
        const auto got = taken(table, x, how);
        for (std::int64_t i = 0; i < 150; ++i)
          for (std::int64_t j = 0; j < 20; ++j) {
            const double value = got[static_cast<std::size_t>(i * 20 + j)];
            // what a product sums up has all of its sum: a row of x, or on its right, not transposed, a
            // column
            const bool broken =
                how == Taken::kRight ? j == 3 || j == 7 || j == 19 : i == 2 || i == 5 || i == 140;
            if (broken)
              ASSERT_TRUE(std::isnan(value)) << name << " " << i << " " << j;
            else
              ASSERT_EQ(value, rounded.at(i, j)) << name << " " << i << " " << j;
          }
      }
    }
  }
}

/// The gradients of a layer of one expert by loops over the definition, of a gate, an up and a down matrix of
/// whole numbers and activation gate * up.
struct OneExpert {
  static constexpr std::int64_t kTokens = 140, kHidden = 20, kFfn = 136;
  Fp8Oracle x, gate_up, down, dy;
  Fp8Oracle y, dx, dgate_up, ddown;
  Fp8Oracle pre{kTokens, 2 * kFfn, {}}, act{kTokens, kFfn, {}};
  double weight = 0.5;

  static Fp8Oracle rounded(Fp8Oracle m, std::int64_t block_rows, std::int64_t block_cols) {
    m.round(block_rows, block_cols);
    return m;
  }
  static Fp8Oracle transposed(Fp8Oracle m) {
    Fp8Oracle t = zeros(m.cols, m.rows);
    for (std::int64_t i = 0; i < m.rows; ++i)
      for (std::int64_t j = 0; j < m.cols; ++j) t.at(j, i) = m.at(i, j);
    return t;
  }
  static Fp8Oracle zeros(std::int64_t rows, std::int64_t cols) {
    return {rows, cols, std::vector<double>(static_cast<std::size_t>(rows * cols))};
  }
  static Fp8Oracle product(Fp8Oracle a, Fp8Oracle b) {
    Fp8Oracle c = zeros(a.rows, b.cols);
    for (std::int64_t i = 0; i < a.rows; ++i)
      for (std::int64_t p = 0; p < a.cols; ++p)
        for (std::int64_t j = 0; j < b.cols; ++j) c.at(i, j) += a.at(i, p) * b.at(p, j);
    return c;
  }
  /// Rows begin … end-1 of m, or columns.
  static Fp8Oracle rows(Fp8Oracle m, std::int64_t begin, std::int64_t end) {
    return {end - begin, m.cols, {m.values.begin() + begin * m.cols, m.values.begin() + end * m.cols}};
  }
  static Fp8Oracle columns(const Fp8Oracle& m, std::int64_t begin, std::int64_t end) {
    return transposed(rows(transposed(m), begin, end));
  }
  void compute() {
    const auto gate = rounded(rows(gate_up, 0, kFfn), 128, 128),
               up = rounded(rows(gate_up, kFfn, 2 * kFfn), 128, 128);
    const auto weights_of_down = rounded(down, 128, 128);
    const auto left = rounded(x, 1, 128);
    auto of_gate = product(left, transposed(gate)), of_up = product(left, transposed(up));
    act = zeros(kTokens, kFfn);
    const auto each = [](const auto& f) {
      for (std::int64_t i = 0; i < kTokens; ++i)
        for (std::int64_t j = 0; j < kFfn; ++j) f(i, j);
    };
    each([&](auto i, auto j) { act.at(i, j) = of_gate.at(i, j) * of_up.at(i, j); });
    y = product(rounded(act, 1, 128), transposed(weights_of_down));
    for (double& v : y.values) v *= weight;
    auto dact = product(rounded(dy, 1, 128), weights_of_down), dgate = zeros(kTokens, kFfn), dup = dgate;
    each([&](auto i, auto j) {
      dgate.at(i, j) = weight * dact.at(i, j) * of_up.at(i, j);
      dup.at(i, j) = weight * dact.at(i, j) * of_gate.at(i, j);
      act.at(i, j) *= weight;
    });
    ddown = product(transposed(dy), act);  // of what they are
    dgate_up = product(transposed(dgate), x);
    const auto second = product(transposed(dup), x);
    dgate_up.rows *= 2;
    dgate_up.values.insert(dgate_up.values.end(), second.values.begin(), second.values.end());
    dx = product(rounded(dgate, 1, 128), gate);
    const auto more = product(rounded(dup, 1, 128), up);
    for (std::size_t i = 0; i < dx.values.size(); ++i) dx.values[i] += more.values[i];
  }
};

// Whole numbers so small that f32 holds every sum: the gradients are the same to the last bit.
TEST(Fp8, ExpertsAreProductsOfRoundedOperands) {
  constexpr std::int64_t kTokens = OneExpert::kTokens, kHidden = OneExpert::kHidden, kFfn = OneExpert::kFfn;
  Arena arena;
  auto& random = arena.random();
  const auto whole = [&](std::int64_t rows, std::int64_t cols, int limit, unsigned one_in) {
    return filled(arena, rows, cols, DType::kF32, 0, [&](auto, auto) {
      return random() % one_in != 0
                 ? 0.0
                 : static_cast<double>(static_cast<int>(random() % (2U * static_cast<unsigned>(limit) + 1)) -
                                       limit);
    });
  };
  kernels::ExpertsGradArgs g;
  kernels::ExpertsArgs& a = g.forward;
  a.x = whole(kTokens, kHidden, 19, 4);
  const Matrix gate_up = whole(2 * kFfn, kHidden, 19, 4), down = whole(kHidden, kFfn, 19, 8);
  a.gate_up.data = gate_up.data;
  a.down.data = down.data;
  a.activation = kernels::Activation::kIdentity;
  a.experts = a.top_k = 1;
  a.ffn = kFfn;
  a.fp8 = true;
  std::vector<std::int32_t> in_order;
  for (std::int32_t i = 0; i < kTokens; ++i) in_order.push_back(i);
  a.weights = arena.floats(std::vector<double>(kTokens, 0.5));
  a.offsets = arena.integers({0, kTokens});
  a.permutation = a.inverse = arena.integers(in_order);
  a.wants_pre_activation = true;
  a.pre_activation = arena.output("", kTokens, 2 * kFfn, DType::kF32, false, 0).data;
  a.y = arena.output("", kTokens, kHidden, DType::kF32, false, 0);
  g.dy = whole(kTokens, kHidden, 19, 8);
  g.dx = arena.output("", kTokens, kHidden, DType::kF32, false, 0);
  const Matrix dgate_up = arena.output("", 2 * kFfn, kHidden, DType::kF32, false, 0);
  const Matrix ddown = arena.output("", kHidden, kFfn, DType::kF32, false, 0);
  g.wants_dgate_up = g.wants_ddown = true;
  g.dgate_up = dgate_up.data;
  g.ddown = ddown.data;
  OneExpert want{.x = oracle_of(a.x),
                 .gate_up = oracle_of(gate_up),
                 .down = oracle_of(down),
                 .dy = oracle_of(g.dy),
                 .y = {},
                 .dx = {},
                 .dgate_up = {},
                 .ddown = {}};
  want.compute();
  device::CpuStream stream = make_stream(2);
  for (const auto& [name, table] : every_table()) {
    table.experts(a, stream);
    EXPECT_EQ(values_of(a.y), want.y.values) << name;
    table.experts_grad(g, stream);
    EXPECT_EQ(values_of(g.dx), want.dx.values) << name;
    EXPECT_EQ(values_of(dgate_up), want.dgate_up.values) << name;
    EXPECT_EQ(values_of(ddown), want.ddown.values) << name;
  }
}

}  // namespace
}  // namespace hone::test
