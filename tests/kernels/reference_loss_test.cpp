// Reference products, losses and optimizers against formulas, finite differences and PyTorch's numbers.
#include <cmath>

#include "tests/kernels/finite_difference.h"

namespace hone::test {
namespace {

using namespace kernels;

TEST(MatmulReference, AddsBiasResidualAndWhatWasThere) {
  std::vector<float> a{1, 2, 3, 4, 5, 6}, b{1, 0, 2, 1, 1, 1}, bias{100, 200},
      residual{1000, 2000, 3000, 4000};
  std::vector<float> c(4, 0.5F);
  device::CpuStream stream = make_stream(2);
  reference::matmul({.a = as_matrix(a, 3),
                     .b = as_matrix(b, 3),
                     .c = as_matrix(c, 2),
                     .transpose_b = true,
                     .bias = bias.data(),
                     .has_bias = true,
                     .residual = as_matrix(residual, 2),
                     .accumulate = true},
                    stream);
  EXPECT_EQ(c, (std::vector<float>{1107.5F, 2206.5F, 3116.5F, 4215.5F}));
  std::vector<float> transposed(9);  // aT a
  reference::matmul({.a = as_matrix(a, 3),
                     .b = as_matrix(a, 3),
                     .c = as_matrix(transposed, 3),
                     .transpose_a = true,
                     .residual = {}},
                    stream);
  EXPECT_EQ(transposed, (std::vector<float>{17, 22, 27, 22, 29, 36, 27, 36, 45}));
}

constexpr std::size_t kRows = 4, kVocab = 5, kHidden = 3;
constexpr float kScale = 0.3F;

/// scale * the sum of -log softmax(hidden weightT)[target] times that of each row, one number.
Numbers cross_entropy(const Numbers& hidden, const Numbers& weight, const std::vector<std::int32_t>& targets,
                      const std::vector<float>& weights, double logit_scale, double softcap) {
  double loss = 0;
  for (std::size_t i = 0; i < kRows; ++i) {
    Numbers logits(kVocab);
    double sum = 0;
    for (std::size_t j = 0; j < kVocab; ++j) {
      for (std::size_t h = 0; h < kHidden; ++h)
        logits[j] += hidden[i * kHidden + h] * weight[j * kHidden + h];
      logits[j] *= logit_scale;
      if (softcap > 0) logits[j] = softcap * std::tanh(logits[j] / softcap);
      sum += std::exp(logits[j]);
    }
    loss += static_cast<double>(weights[i]) * (std::log(sum) - logits[static_cast<std::size_t>(targets[i])]);
  }
  return {loss * static_cast<double>(kScale)};
}

void check_cross_entropy(const std::vector<float>& weights, bool given, float logit_scale = 1,
                         float softcap = 0) {
  const Numbers hidden = random_numbers(kRows * kHidden, 1), weight = random_numbers(kVocab * kHidden, 2);
  const std::vector<std::int32_t> targets{0, 4, 2, 2};
  auto fh = to_floats(hidden), fw = to_floats(weight);
  std::vector<float> nll(kRows), loss(1), dhidden(hidden.size()), dweight(weight.size(), 1.0F);
  device::CpuStream stream = make_stream(2);
  reference::linear_cross_entropy({.head = {.hidden = as_matrix(fh, kHidden),
                                            .weight = as_matrix(fw, kHidden),
                                            .logit_scale = logit_scale,
                                            .softcap = softcap},
                                   .targets = targets.data(),
                                   .weights = given ? weights.data() : nullptr,
                                   .has_weights = given,
                                   .scale = kScale,
                                   .nll = nll.data(),
                                   .loss = loss.data(),
                                   .gradients = {.dhidden = as_matrix(dhidden, kHidden),
                                                 .dweight = dweight.data(),
                                                 .wants_dweight = true,
                                                 .accumulate_dweight = true}},
                                  stream);
  const auto f = [&](const Numbers& h, const Numbers& w) {
    return cross_entropy(h, w, targets, weights, static_cast<double>(logit_scale),
                         static_cast<double>(softcap));
  };
  expect_close(loss, f(hidden, weight), 16, "loss");
  double sum = 0;
  for (std::size_t i = 0; i < kRows; ++i) sum += static_cast<double>(weights[i] * nll[i]);
  EXPECT_NEAR(static_cast<double>(loss[0]), static_cast<double>(kScale) * sum, 1e-6);
  expect_close(dhidden, numeric_gradient([&](const Numbers& x) { return f(x, weight); }, hidden, {1}), 64,
               "dhidden");
  for (float& d : dweight) d -= 1;
  expect_close(dweight, numeric_gradient([&](const Numbers& x) { return f(hidden, x); }, weight, {1}), 256,
               "dweight");
}

TEST(LinearCrossEntropy, AndItsGradientsMatchTheFormulaAndFiniteDifferences) {
  check_cross_entropy({1, 1, 1, 1}, false);
  check_cross_entropy({0.5F, 2, 0, 1.25F}, true);
  check_cross_entropy({0.5F, 2, 0, 1.25F}, true, 0.7F, 1.3F);
}

/// <a, lse> + <b, target_logit> of the words from `begin` on, one number.
Numbers head_loss(const Numbers& hidden, const Numbers& weight, const std::vector<std::int32_t>& targets,
                  std::int32_t begin, const std::vector<float>& a, const std::vector<float>& b) {
  double loss = 0;
  for (std::size_t i = 0; i < kRows; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < kVocab; ++j) {
      double logit = 0;
      for (std::size_t h = 0; h < kHidden; ++h) logit += hidden[i * kHidden + h] * weight[j * kHidden + h];
      logit = 1.3F * std::tanh(logit * 0.7F / 1.3F);
      sum += std::exp(logit);
      if (targets[i] - begin == static_cast<std::int32_t>(j)) loss += static_cast<double>(b[i]) * logit;
    }
    loss += static_cast<double>(a[i]) * std::log(sum);
  }
  return {loss};
}

TEST(Head, StatisticsAndTheirGradientsMatchTheFormulaAndFiniteDifferences) {
  const Numbers hidden = random_numbers(kRows * kHidden, 1), weight = random_numbers(kVocab * kHidden, 2);
  const std::vector<std::int32_t> targets{9, 10, 14, -1};  // the words are 10 to 14
  const std::vector<float> dlse{1, -0.5F, 0.25F, 2}, dtarget{3, -1, 0.5F, 7};
  auto fh = to_floats(hidden), fw = to_floats(weight);
  std::vector<float> lse(kRows), target_logit(kRows, NAN), dhidden(hidden.size()), dweight(weight.size());
  device::CpuStream stream = make_stream(2);
  HeadGradArgs g;
  g.forward = {.head = {.hidden = as_matrix(fh, kHidden),
                        .weight = as_matrix(fw, kHidden),
                        .logit_scale = 0.7F,
                        .softcap = 1.3F},
               .targets = targets.data(),
               .vocab_begin = 10,
               .lse = lse.data(),
               .target_logit = target_logit.data()};
  reference::head_statistics(g.forward, stream);
  EXPECT_EQ(target_logit[0], 0);
  EXPECT_EQ(target_logit[3], 0);
  double loss = 0;
  for (std::size_t i = 0; i < kRows; ++i)
    loss += static_cast<double>(dlse[i] * lse[i] + dtarget[i] * target_logit[i]);
  EXPECT_NEAR(loss, head_loss(hidden, weight, targets, 10, dlse, dtarget)[0], 1e-5);
  g.dlse = dlse.data();
  g.dtarget_logit = dtarget.data();
  g.has_dlse = g.has_dtarget_logit = true;
  g.gradients = {.dhidden = as_matrix(dhidden, kHidden), .dweight = dweight.data(), .wants_dweight = true};
  reference::head_grad(g, stream);
  const auto of_hidden = [&](const Numbers& x) { return head_loss(x, weight, targets, 10, dlse, dtarget); };
  const auto of_weight = [&](const Numbers& x) { return head_loss(hidden, x, targets, 10, dlse, dtarget); };
  expect_close(dhidden, numeric_gradient(of_hidden, hidden, {1}), 64, "dhidden");
  expect_close(dweight, numeric_gradient(of_weight, weight, {1}), 64, "dweight");
}

TEST(LinearCrossEntropy, HoldsForLogitsFarFromZero) {
  std::vector<float> hidden{1000}, weight{1, -1, 0.999F}, nll(1), loss(1);
  const std::int32_t target = 2;
  device::CpuStream stream = make_stream(1);
  reference::linear_cross_entropy({.head = {.hidden = as_matrix(hidden, 1), .weight = as_matrix(weight, 1)},
                                   .targets = &target,
                                   .nll = nll.data(),
                                   .loss = loss.data(),
                                   .gradients = {}},
                                  stream);
  EXPECT_NEAR(nll[0], 1 + std::log1p(std::exp(-1.0)), 1e-4);
}

/// Four parameters over three steps with gradients (1, -2, 0.5, 0) * step.
template <typename Step>
void expect_weights_after_three_steps(const Step& step, const std::vector<double>& want) {
  std::vector<float> master{0.5F, -1.0F, 2.0F, 0.1F};
  std::vector<BFloat16> weight(4);
  for (int t = 1; t <= 3; ++t) {
    const auto f = static_cast<float>(t);
    const std::vector<float> grad{f, -2 * f, 0.5F * f, 0};
    StepScalars s;
    s.learning_rate = 0.1F;
    s.bias_correction1 = 1 - std::pow(0.9F, f);
    s.bias_correction2 = 1 - std::pow(0.99F, f);
    step(t, grad, s, master, weight);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(static_cast<double>(master[i]), want[i], 2e-6);
    EXPECT_EQ(weight[i].bits, BFloat16(master[i]).bits);
  }
}

// Generated by torch.optim (lr 0.1, three steps, gradients as above).
TEST(AdamW, FollowsPyTorch) {
  std::vector<float> avg(4), avg_sq(4);
  for (const KernelTable* table : {&cpu_kernels(CpuIsa::kReference), &cpu_kernels(choose_cpu_isa())}) {
    avg.assign(4, 0);
    avg_sq.assign(4, 0);
    device::CpuStream stream = make_stream(2);
    expect_weights_after_three_steps(
        [&](int, const std::vector<float>& grad, const StepScalars& s, std::vector<float>& master,
            std::vector<BFloat16>& weight) {
          table->adamw({.master = master.data(),
                        .weight = weight.data(),
                        .has_weight = true,
                        .grad = grad.data(),
                        .exp_avg = avg.data(),
                        .exp_avg_sq = avg_sq.data(),
                        .n = 4,
                        .beta2 = 0.99F,
                        .weight_decay = 0.2F,
                        .scalars = &s},
                       stream);
        },
        {0.18454292, -0.65513885, 1.59633088, 0.09411921});
  }
}

TEST(Sgd, FollowsPyTorch) {
  std::vector<float> buffer(4, NAN);  // the first step must not read it
  device::CpuStream stream = make_stream(2);
  expect_weights_after_three_steps(
      [&](int t, const std::vector<float>& grad, const StepScalars& s, std::vector<float>& master,
          std::vector<BFloat16>& weight) {
        reference::sgd({.master = master.data(),
                        .weight = weight.data(),
                        .has_weight = true,
                        .grad = grad.data(),
                        .momentum_buffer = buffer.data(),
                        .n = 4,
                        .momentum = 0.9F,
                        .weight_decay = 0.2F,
                        .first = t == 1,
                        .scalars = &s},
                       stream);
      },
      {-0.49458399, 0.98916799, 1.30970395, 0.08897121});
}

TEST(FinishNorm, ClipsAsPyTorchAndSkipsWhatIsNotFinite) {
  device::CpuStream stream = make_stream(1);
  StepScalars s;
  s.sum_of_squares = 16;
  reference::finish_norm({&s, 1.0F}, stream);
  EXPECT_FLOAT_EQ(s.grad_norm, 4);
  EXPECT_FLOAT_EQ(s.clip_factor, 1 / (4 + 1e-6F));
  EXPECT_EQ(s.skip, 0);
  for (const float max_norm : {5.0F, 0.0F}) {
    reference::finish_norm({&s, max_norm}, stream);
    EXPECT_FLOAT_EQ(s.clip_factor, 1);
  }
  for (const double sum : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    s.sum_of_squares = sum;
    reference::finish_norm({&s, 1.0F}, stream);
    EXPECT_EQ(s.skip, 1);
  }
}

TEST(SumOfSquares, DoesNotOverflowWhereTheNormIsFinite) {
  for (const KernelTable* table : {&cpu_kernels(CpuIsa::kReference), &cpu_kernels(choose_cpu_isa())}) {
    const std::vector<float> x(100, 1e25F);
    StepScalars s;
    device::CpuStream stream = make_stream(2);
    table->sum_of_squares({.x = x.data(), .n = 100, .scalars = &s}, stream);
    table->finish_norm({&s, 0}, stream);
    EXPECT_FLOAT_EQ(s.grad_norm, 1e26F);
    EXPECT_EQ(s.skip, 0);
  }
}

}  // namespace
}  // namespace hone::test
