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

void check_rms_norm(bool unit_offset, bool residual) {
  const Numbers x = random_numbers(kRows * kCols, 1), w = random_numbers(kCols, 2),
                dy = random_numbers(x.size(), 3), added = random_numbers(x.size(), 4);
  const auto f = [&](const Numbers& of, Numbers weight) {
    for (double& v : weight) v += unit_offset ? 1 : 0;
    Numbers y = rms_norm_of(of, weight);
    for (std::size_t i = 0; i < y.size() && residual; ++i) y[i] += added[i];
    return y;
  };
  device::CpuStream stream = make_stream(2);
  auto fx = to_floats(x), fw = to_floats(w), fdy = to_floats(dy), fa = to_floats(added);
  std::vector<float> y(x.size()), rstd(kRows), dx(x.size()), dw(kCols, 2.0F);
  reference::rms_norm({.x = as_matrix(fx, kCols),
                       .weight = fw.data(),
                       .unit_offset = unit_offset,
                       .residual = residual ? as_matrix(fa, kCols) : Matrix{},
                       .y = as_matrix(y, kCols),
                       .rstd = rstd.data(),
                       .wants_rstd = true,
                       .eps = kEps},
                      stream);
  expect_close(y, f(x, w), kCols, "y");
  reference::rms_norm_grad({.dy = as_matrix(fdy, kCols),
                            .x = as_matrix(fx, kCols),
                            .weight = fw.data(),
                            .unit_offset = unit_offset,
                            .rstd = rstd.data(),
                            .dx = as_matrix(dx, kCols),
                            .dweight = dw.data(),
                            .wants_dweight = true,
                            .accumulate_dweight = true},
                           stream);
  expect_close(dx, numeric_gradient([&](const Numbers& v) { return f(v, w); }, x, dy), kCols, "dx");
  for (float& d : dw) d -= 2;  // it was added to what was there
  expect_close(dw, numeric_gradient([&](const Numbers& v) { return f(x, v); }, w, dy), 16 * kRows, "dweight");
}

TEST(RmsNorm, AndItsGradientMatchTheFormulaAndFiniteDifferences) {
  check_rms_norm(false, false);
  check_rms_norm(true, false);
  check_rms_norm(true, true);
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
  device::CpuStream stream = make_stream(2);
  for (unsigned way = 0; way < 12; ++way) {  // without a norm, with one, with one of 1 + weight
    const bool norm = way % 3 > 0, unit_offset = way % 3 == 2;
    const Rope rope((way / 3 & 1U) != 0 ? 2 : 0, (way / 3 & 2U) != 0);
    const Numbers w = norm ? random_numbers(Rope::kDim, 2) : Numbers();
    const auto of = [&](const Numbers& v, Numbers weight) {
      for (double& n : weight) n += unit_offset ? 1 : 0;
      return rope(v, weight);
    };
    auto fx = to_floats(x), fw = to_floats(w), fdy = to_floats(dy);
    std::vector<float> y(x.size()), dx(x.size()), dw(Rope::kDim);
    reference::head_norm_rope({.x = as_matrix(fx, kWidth),
                               .y = as_matrix(y, kWidth),
                               .weight = norm ? fw.data() : nullptr,
                               .has_weight = norm,
                               .unit_offset = unit_offset,
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
    expect_close(y, of(x, w), 8, "y");
    reference::head_norm_rope_grad({.dy = as_matrix(fdy, kWidth),
                                    .x = as_matrix(fx, kWidth),
                                    .dx = as_matrix(dx, kWidth),
                                    .weight = norm ? fw.data() : nullptr,
                                    .has_weight = norm,
                                    .unit_offset = unit_offset,
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
    expect_close(dx, numeric_gradient([&](const Numbers& v) { return of(v, w); }, x, dy), 8, "dx");
    if (norm)
      expect_close(dw, numeric_gradient([&](const Numbers& v) { return of(x, v); }, w, dy), 64, "dweight");
  }
}

/// The activations as PyTorch's and Transformers' formulas have them.
double formula(Activation activation, double x) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kSilu:
    case Activation::kClampedSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu2:
      return std::pow(std::max(x, 0.0), 2);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
  }
  return 0;
}
/// gpt-oss: alpha 1.7, limit 2.
double clamped(double gate, double up) {
  const double g = std::min(gate, 2.0), u = std::min(std::max(up, -2.0), 2.0);
  return g / (1 + std::exp(-1.7F * g)) * (u + 1);
}

TEST(Activation, AndItsGradientMatchTheFormulasAndFiniteDifferences) {
  const Numbers gate = random_numbers(20, 1, 3), up = random_numbers(20, 2, 2), dy = random_numbers(20, 3);
  for (const Activation activation :
       {Activation::kIdentity, Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
        Activation::kRelu2, Activation::kSigmoid, Activation::kTanh, Activation::kClampedSilu}) {
    SCOPED_TRACE(static_cast<int>(activation));
    const bool is_clamped = activation == Activation::kClampedSilu;
    const auto f = [&](const Numbers& g, const Numbers& u) {
      Numbers y(g.size());
      for (std::size_t i = 0; i < y.size(); ++i)
        y[i] = is_clamped ? clamped(g[i], u[i]) : formula(activation, g[i]) * (u.empty() ? 1 : u[i]);
      return y;
    };
    auto fg = to_floats(gate), fu = to_floats(up), fdy = to_floats(dy);
    std::vector<float> y(20), dgate(20), dup(20);
    device::CpuStream stream = make_stream(2);
    for (const bool gated : {true, false}) {
      if (is_clamped && !gated) continue;
      const Numbers u = gated ? up : Numbers();
      const Matrix of_up = gated ? as_matrix(fu, 4) : Matrix{};
      reference::activation({.gate = as_matrix(fg, 4),
                             .up = of_up,
                             .y = as_matrix(y, 4),
                             .activation = activation,
                             .alpha = 1.7F,
                             .limit = 2},
                            stream);
      expect_close(y, f(gate, u), 1, "y");
      reference::activation_grad({.gate = as_matrix(fg, 4),
                                  .up = of_up,
                                  .dy = as_matrix(fdy, 4),
                                  .dgate = as_matrix(dgate, 4),
                                  .dup = gated ? as_matrix(dup, 4) : Matrix{},
                                  .activation = activation,
                                  .alpha = 1.7F,
                                  .limit = 2},
                                 stream);
      expect_close(dgate, numeric_gradient([&](const Numbers& v) { return f(v, u); }, gate, dy), 1, "dgate");
      if (gated)
        expect_close(dup, numeric_gradient([&](const Numbers& v) { return f(gate, v); }, up, dy), 1, "dup");
    }
  }
}

// Far out a value is nearly nothing or nearly x: there every element is held to its own size.
TEST(Activation, HoldsFarFromZeroAndKeepsWhatIsNoNumber) {
  const std::vector<float> points{-200, -13, -9, -5, -1e-4F, 0, 1e-4F, 5, 9, 200, 1e15F, NAN};
  const KernelTable& table = cpu_kernels(choose_cpu_isa());
  device::CpuStream stream = make_stream(1);
  for (const Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
                                      Activation::kSigmoid, Activation::kTanh}) {
    std::vector<float> x = points, y(x.size()), want(x.size()), one(x.size(), 1), slope(x.size()),
                       want_slope(x.size());
    const auto run = [&](const KernelTable& t, std::vector<float>& value, std::vector<float>& d) {
      const Matrix gate = as_matrix(x, 1);
      t.activation({.gate = gate, .y = as_matrix(value, 1), .activation = activation}, stream);
      t.activation_grad(
          {.gate = gate, .dy = as_matrix(one, 1), .dgate = as_matrix(d, 1), .activation = activation},
          stream);
    };
    run(table, y, slope);
    run(cpu_kernels(CpuIsa::kReference), want, want_slope);
    for (std::size_t i = 0; i + 1 < x.size(); ++i) {
      EXPECT_NEAR(y[i], want[i], 1e-5F * std::fabs(want[i]) + 1e-37F)
          << static_cast<int>(activation) << " of " << x[i];
      EXPECT_NEAR(slope[i], want_slope[i], 1e-5F * std::fabs(want_slope[i]) + 1e-34F)
          << static_cast<int>(activation) << "' of " << x[i];
    }
    EXPECT_TRUE(std::isnan(y.back()) && std::isnan(slope.back())) << "a NaN must reach the loss";
  }
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
  device::CpuStream stream = make_stream(2);
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

// Where a gate is open, 1 - sigmoid is what the sigmoid's last bits leave of it: at 8 a part in 5,000.
TEST(RowGate, OfAnOpenGateHasItsSmallGradient) {
  std::vector<float> gate{4, 8, 12, 20, 40, 80, -8, -40}, dgate(gate.size());
  std::vector<float> x(gate.size(), 3), dy(gate.size(), 0.5F);
  device::CpuStream stream = make_stream(1);
  for (const CpuIsa isa : available_cpu_isas()) {
    cpu_kernels(isa).row_gate_grad({.dy = as_matrix(dy, 1),
                                    .x = as_matrix(x, 1),
                                    .gate = as_matrix(gate, 1),
                                    .dx = {},
                                    .dgate = as_matrix(dgate, 1)},
                                   stream);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double e = std::exp(-std::fabs(static_cast<double>(gate[i]))),
                   want = 1.5 * e / ((1 + e) * (1 + e));
      EXPECT_NEAR(dgate[i], want, 1e-6 * want) << name_of(isa) << " " << gate[i];
    }
  }
}

TEST(Copy, ScalesAndAdds) {
  std::vector<float> x{1, -2, 3, -4, 0, 0.5F}, y(6, 10.0F);
  device::CpuStream stream = make_stream(1);
  reference::copy({.x = as_matrix(x, 3), .y = as_matrix(y, 3), .alpha = 2, .accumulate = true}, stream);
  EXPECT_EQ(y[1], 6);
  EXPECT_EQ(y[5], 11);
}

TEST(Clamp, KeepsWhatIsWithinTheLimitAndNaN) {
  std::vector<float> x{1, -2, 3, -4, NAN, 0.5F}, y(6, 10.0F);
  device::CpuStream stream = make_stream(1);
  reference::clamp({.x = as_matrix(x, 3), .y = as_matrix(y, 3), .limit = 2.5F}, stream);
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[2], 2.5F);
  EXPECT_EQ(y[3], -2.5F);
  EXPECT_TRUE(std::isnan(y[4])) << "a NaN must reach the loss";
  reference::clamp({.x = as_matrix(x, 3), .y = as_matrix(y, 3), .limit = 2.5F, .accumulate = true}, stream);
  EXPECT_EQ(y[0], 2);
  EXPECT_EQ(y[2], 5);
  std::vector<float> dx(6), dy(6, 1.0F);
  reference::clamp_grad({.dy = as_matrix(dy, 3), .x = as_matrix(x, 3), .dx = as_matrix(dx, 3), .limit = 2.5F},
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
  device::CpuStream stream = make_stream(2);
  reference::embedding_grad(a, stream);
  EXPECT_EQ(dtable, (std::vector<float>{2, 20, 0, 0, 5, 50, 0, 0}));
  a.accumulate = true;
  reference::embedding_grad(a, stream);
  EXPECT_EQ(dtable, (std::vector<float>{4, 40, 0, 0, 10, 100, 0, 0}));
}

TEST(PutRows, IsTheTransposeOfTakeRows) {
  std::vector<float> x{1, 2, 3, 4, 5, 6}, y(4), dx(6, 9.0F);
  const std::int32_t index[] = {2, 0};
  device::CpuStream stream = make_stream(2);
  reference::take_rows({as_matrix(x, 2), as_matrix(y, 2), index}, stream);
  EXPECT_EQ(y, (std::vector<float>{5, 6, 1, 2}));
  reference::put_rows({as_matrix(y, 2), as_matrix(dx, 2), index, false}, stream);
  EXPECT_EQ(dx, (std::vector<float>{1, 2, 0, 0, 5, 6}));
  reference::put_rows({as_matrix(y, 2), as_matrix(dx, 2), index, true}, stream);
  EXPECT_EQ(dx, (std::vector<float>{2, 4, 0, 0, 10, 12}));
}

}  // namespace
}  // namespace hone::test
