// The reference kernels of rows against formulas and finite differences in double.
#include <cmath>

#include "tests/kernels/finite_difference.h"

namespace hone::test {
namespace {

using namespace kernels;

constexpr std::size_t kRows = 5, kCols = 6;
constexpr float kEps = 1e-3F;

Numbers rms_norm_of(const Numbers& x, const Numbers& weight) {
  const std::size_t cols = weight.size();
  Numbers y(x.size());
  for (std::size_t i = 0; i < x.size(); i += cols) {
    double squares = 0;
    for (std::size_t j = 0; j < cols; ++j) squares += x[i + j] * x[i + j];
    for (std::size_t j = 0; j < cols; ++j)
      y[i + j] =
          x[i + j] / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(kEps)) * weight[j];
  }
  return y;
}

TEST(RmsNorm, AndItsGradientMatchTheFormulaAndFiniteDifferences) {
  const Numbers x = random_numbers(kRows * kCols, 1), w = random_numbers(kCols, 2),
                dy = random_numbers(x.size(), 3);
  Stream stream = make_stream(2);
  auto fx = to_floats(x), fw = to_floats(w), fdy = to_floats(dy);
  std::vector<float> y(x.size()), rstd(kRows), dx(x.size()), dw(kCols, 2.0F);
  reference::rms_norm({.x = as_matrix(fx, kCols),
                       .weight = fw.data(),
                       .y = as_matrix(y, kCols),
                       .rstd = rstd.data(),
                       .wants_rstd = true,
                       .eps = kEps},
                      stream);
  expect_close(y, rms_norm_of(x, w), kCols, "y");
  reference::rms_norm_grad({.dy = as_matrix(fdy, kCols),
                            .x = as_matrix(fx, kCols),
                            .weight = fw.data(),
                            .rstd = rstd.data(),
                            .dx = as_matrix(dx, kCols),
                            .dweight = dw.data(),
                            .wants_dweight = true,
                            .accumulate_dweight = true},
                           stream);
  expect_close(dx, numeric_gradient([&](const Numbers& v) { return rms_norm_of(v, w); }, x, dy), kCols, "dx");
  for (float& d : dw) d -= 2;  // it was added to what was there
  expect_close(dw, numeric_gradient([&](const Numbers& v) { return rms_norm_of(x, v); }, w, dy), 16 * kRows,
               "dweight");
}

/// Heads of 8, of which 6 are rotated, from `begin` on; positions 3, 0, 7.
struct Rope {
  static constexpr std::size_t kTokens = 3, kHeads = 2, kDim = 8, kRotary = 6;
  std::vector<std::int32_t> positions{3, 0, 7};
  std::vector<float> cos, sin;
  std::size_t rotary_begin;
  bool interleaved;
  Rope(std::size_t first, bool pairs) : rotary_begin(first), interleaved(pairs) {
    for (int p = 0; p < 8; ++p)
      for (int i = 0; i < 3; ++i) {
        cos.push_back(std::cos(static_cast<float>(p) * std::pow(10.0F, static_cast<float>(-i))));
        sin.push_back(std::sin(static_cast<float>(p) * std::pow(10.0F, static_cast<float>(-i))));
      }
  }
  Numbers operator()(const Numbers& x, const Numbers& weight) const {
    Numbers y = weight.empty() ? x : Numbers();
    for (std::size_t head = 0; head < x.size() && !weight.empty(); head += kDim) {
      const auto begin = x.begin() + static_cast<std::ptrdiff_t>(head);
      const Numbers normed = rms_norm_of({begin, begin + kDim}, weight);
      y.insert(y.end(), normed.begin(), normed.end());
    }
    const Numbers n = y;
    for (std::size_t head = 0; head < x.size(); head += kDim)
      for (std::size_t i = 0; i < kRotary / 2; ++i) {
        const auto at = static_cast<std::size_t>(positions[head / (kHeads * kDim)]) * 3 + i;
        const double c = static_cast<double>(cos[at]), s = static_cast<double>(sin[at]);
        const std::size_t a = head + rotary_begin + (interleaved ? 2 * i : i), b = a + (interleaved ? 1 : 3);
        y[a] = n[a] * c - n[b] * s;
        y[b] = n[a] * s + n[b] * c;
      }
    return y;
  }
};

TEST(HeadNormRope, AndItsGradientMatchTheFormulaAndFiniteDifferences) {
  constexpr std::int64_t kWidth = Rope::kHeads * Rope::kDim;
  const Numbers x = random_numbers(Rope::kTokens * kWidth, 1), dy = random_numbers(x.size(), 3);
  Stream stream = make_stream(2);
  for (const unsigned way : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U}) {
    const bool norm = (way & 1U) != 0;
    const Rope rope((way & 2U) != 0 ? 2 : 0, (way & 4U) != 0);
    const Numbers w = norm ? random_numbers(Rope::kDim, 2) : Numbers();
    auto fx = to_floats(x), fw = to_floats(w), fdy = to_floats(dy);
    std::vector<float> y(x.size()), dx(x.size()), dw(Rope::kDim);
    reference::head_norm_rope({.x = as_matrix(fx, kWidth),
                               .y = as_matrix(y, kWidth),
                               .weight = norm ? fw.data() : nullptr,
                               .has_weight = norm,
                               .cos = rope.cos.data(),
                               .sin = rope.sin.data(),
                               .positions = rope.positions.data(),
                               .heads = Rope::kHeads,
                               .head_dim = Rope::kDim,
                               .rotary_dim = Rope::kRotary,
                               .rotary_begin = static_cast<std::int64_t>(rope.rotary_begin),
                               .interleaved = rope.interleaved,
                               .eps = kEps},
                              stream);
    expect_close(y, rope(x, w), 8, "y");
    reference::head_norm_rope_grad({.dy = as_matrix(fdy, kWidth),
                                    .x = as_matrix(fx, kWidth),
                                    .dx = as_matrix(dx, kWidth),
                                    .weight = norm ? fw.data() : nullptr,
                                    .has_weight = norm,
                                    .dweight = norm ? dw.data() : nullptr,
                                    .wants_dweight = norm,
                                    .cos = rope.cos.data(),
                                    .sin = rope.sin.data(),
                                    .positions = rope.positions.data(),
                                    .heads = Rope::kHeads,
                                    .head_dim = Rope::kDim,
                                    .rotary_dim = Rope::kRotary,
                                    .rotary_begin = static_cast<std::int64_t>(rope.rotary_begin),
                                    .interleaved = rope.interleaved,
                                    .eps = kEps},
                                   stream);
    expect_close(dx, numeric_gradient([&](const Numbers& v) { return rope(v, w); }, x, dy), 8, "dx");
    if (norm)
      expect_close(dw, numeric_gradient([&](const Numbers& v) { return rope(x, v); }, w, dy), 64, "dweight");
  }
}

double silu(double x) {
  return x / (1 + std::exp(-x));
}

TEST(SiluMul, AndItsGradientMatchTheFormulaAndFiniteDifferences) {
  const Numbers gate = random_numbers(12, 1, 3), up = random_numbers(12, 2), dy = random_numbers(12, 3);
  const auto f = [](const Numbers& g, const Numbers& u) {
    Numbers y(g.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = silu(g[i]) * u[i];
    return y;
  };
  auto fg = to_floats(gate), fu = to_floats(up), fdy = to_floats(dy);
  std::vector<float> y(12), dgate(12), dup(12);
  Stream stream = make_stream(2);
  reference::silu_mul({as_matrix(fg, 4), as_matrix(fu, 4), as_matrix(y, 4)}, stream);
  expect_close(y, f(gate, up), 1, "y");
  reference::silu_mul_grad(
      {as_matrix(fg, 4), as_matrix(fu, 4), as_matrix(fdy, 4), as_matrix(dgate, 4), as_matrix(dup, 4)},
      stream);
  expect_close(dgate, numeric_gradient([&](const Numbers& v) { return f(v, up); }, gate, dy), 1, "dgate");
  expect_close(dup, numeric_gradient([&](const Numbers& v) { return f(gate, v); }, up, dy), 1, "dup");
}

TEST(RowGate, AndItsGradientMatchTheFormulaAndFiniteDifferences) {
  const Numbers x = random_numbers(12, 1), gate = random_numbers(3, 2), residual = random_numbers(12, 3);
  const Numbers dy = random_numbers(12, 4);
  const auto f = [&](const Numbers& v, const Numbers& g) {
    Numbers y = residual;
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += v[i] / (1 + std::exp(-g[i / 4]));
    return y;
  };
  auto fx = to_floats(x), fg = to_floats(gate), fr = to_floats(residual), fdy = to_floats(dy);
  std::vector<float> y(12), dx(12), dgate(3);
  Stream stream = make_stream(2);
  reference::row_gate({as_matrix(fx, 4), as_matrix(fg, 1), as_matrix(fr, 4), as_matrix(y, 4)}, stream);
  expect_close(y, f(x, gate), 2, "y");
  reference::row_gate_grad({.dy = as_matrix(fdy, 4),
                            .x = as_matrix(fx, 4),
                            .gate = as_matrix(fg, 1),
                            .dx = as_matrix(dx, 4),
                            .dgate = as_matrix(dgate, 1)},
                           stream);
  expect_close(dx, numeric_gradient([&](const Numbers& v) { return f(v, gate); }, x, dy), 2, "dx");
  expect_close(dgate, numeric_gradient([&](const Numbers& v) { return f(x, v); }, gate, dy), 8, "dgate");
}

TEST(Copy, ScalesAddsClampsAndConverts) {
  std::vector<float> x{1, -2, 3, -4, NAN, 0.5F}, y(6, 10.0F);
  Stream stream = make_stream(1);
  reference::copy({.x = as_matrix(x, 3), .y = as_matrix(y, 3), .alpha = 2, .accumulate = true}, stream);
  EXPECT_EQ(y[1], 6);
  EXPECT_EQ(y[5], 11);
  reference::copy({.x = as_matrix(x, 3), .y = as_matrix(y, 3), .clamp = 2.5F}, stream);
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[2], 2.5F);
  EXPECT_EQ(y[3], -2.5F);
  EXPECT_TRUE(std::isnan(y[4])) << "a NaN must reach the loss";
  std::vector<float> dx(6), dy(6, 1.0F);
  reference::clamp_grad({.dy = as_matrix(dy, 3), .x = as_matrix(x, 3), .dx = as_matrix(dx, 3), .clamp = 2.5F},
                        stream);
  EXPECT_EQ(dx, (std::vector<float>{1, 1, 0, 0, 0, 1}));
}

TEST(EmbeddingGrad, SumsRepeatedIdsAndLeavesThePaddingOut) {
  std::vector<float> dout{1, 10, 2, 20, 4, 40, 8, 80}, dtable(8, 5.0F);
  const std::int32_t ids[] = {2, 0, 2, 1};
  EmbeddingGradArgs a{.dout = dout.data(),
                      .ids = ids,
                      .dtable = dtable.data(),
                      .rows = 4,
                      .hidden = 2,
                      .vocab = 4,
                      .padding_id = 1};
  Stream stream = make_stream(2);
  reference::embedding_grad(a, stream);
  EXPECT_EQ(dtable, (std::vector<float>{2, 20, 0, 0, 5, 50, 0, 0}));
  a.accumulate = true;
  reference::embedding_grad(a, stream);
  EXPECT_EQ(dtable, (std::vector<float>{4, 40, 0, 0, 10, 100, 0, 0}));
}

TEST(PutRows, IsTheTransposeOfTakeRows) {
  std::vector<float> x{1, 2, 3, 4, 5, 6}, y(4), dx(6, 9.0F);
  const std::int32_t index[] = {2, 0};
  Stream stream = make_stream(2);
  reference::take_rows({as_matrix(x, 2), as_matrix(y, 2), index}, stream);
  EXPECT_EQ(y, (std::vector<float>{5, 6, 1, 2}));
  reference::put_rows({as_matrix(y, 2), as_matrix(dx, 2), index, false}, stream);
  EXPECT_EQ(dx, (std::vector<float>{1, 2, 0, 0, 5, 6}));
  reference::put_rows({as_matrix(y, 2), as_matrix(dx, 2), index, true}, stream);
  EXPECT_EQ(dx, (std::vector<float>{2, 4, 0, 0, 10, 12}));
}

}  // namespace
}  // namespace hone::test
