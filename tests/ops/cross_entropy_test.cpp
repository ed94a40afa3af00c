// linear_cross_entropy makes its gradients in the forward pass: tied heads, hooks, recompute, frozen parts.
#include "ops/cross_entropy.h"

#include "ops/rms_norm.h"
#include "ops/rows.h"
#include "tests/ops/autograd_fixture.h"
#include "tests/tolerance.h"

namespace hone::ops {
namespace {

class CrossEntropyTape : public Autograd {
 protected:
  /// A model of one embedding and a head, tied or not, with or without recompute of what lies between.
  struct Model {
    Tensor table, head, norm;
  };
  Tensor loss(const Model& m, bool recompute) {
    const Tensor x = embedding(context_, m.table, ints(context_, {4, 0, 1, 4}));
    const auto block = [&](const Tensors& in) -> Tensors {
      return {rms_norm(context_, in[0], m.norm, 1e-5F)};
    };
    const Tensor h = recompute ? checkpoint(context_, {x}, block)[0] : block({x})[0];
    return linear_cross_entropy(context_, h, m.head, ints(context_, {0, 1, 2, 3}), 0.5F).loss;
  }
};

TEST_F(CrossEntropyTape, ATiedHeadGathersBothGradientsAndFiresOnce) {
  const auto grads = [&](bool tied, bool recompute, int& fired) {
    Model m{.table = random_leaf({5, 6}, 1), .head = {}, .norm = random_leaf({6}, 2)};
    m.head = tied ? m.table : random_leaf({5, 6}, 1);
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
      m.table.grad_slot()->set_hook([&] { ++fired; });
      Tape tape;
      const TapeScope scope(context_, &tape);
      tape.backward(context_, loss(m, recompute));
    }
    auto sum = grad_of(m.table);
    if (!tied)
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += grad_of(m.head)[i];
    return sum;
  };
  int fired = 0;
  const auto apart = grads(false, false, fired);
  fired = 0;
  const auto tied = grads(true, false, fired);
  EXPECT_EQ(fired, 2);
  EXPECT_LT(test::relative_error(tied, apart), 1e-6);
  fired = 0;
  EXPECT_EQ(grads(true, true, fired), tied);
  EXPECT_EQ(fired, 2);
}

TEST_F(CrossEntropyTape, HookWaitsForBackwardAlthoughTheGradientIsThere) {
  Model m{.table = random_tensor(context_, {5, 6}, 1),
          .head = random_leaf({5, 6}, 3),
          .norm = random_leaf({6}, 2)};
  int fired = 0;
  m.head.grad_slot()->set_hook([&] { ++fired; });
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor l = loss(m, false);
  EXPECT_TRUE(m.head.grad_slot()->grad().defined());
  EXPECT_EQ(fired, 0);
  tape.backward(context_, l);
  EXPECT_EQ(fired, 1);
}

TEST_F(CrossEntropyTape, InsideARecomputedBlockTheHeadsGradientIsWrittenOnce) {
  const auto grads = [&](bool recompute) {
    const Tensor hidden = random_leaf({4, 6}, 1);
    const Tensor head = random_leaf({5, 6}, 3);
    Tape tape;
    const TapeScope scope(context_, &tape);
    const auto block = [&](const Tensors& in) -> Tensors {
      return {linear_cross_entropy(context_, in[0], head, ints(context_, {0, 1, 2, 3}), 0.5F).loss};
    };
    tape.backward(context_, recompute ? checkpoint(context_, {hidden}, block)[0] : block({hidden})[0]);
    return std::pair{grad_of(hidden), grad_of(head)};
  };
  EXPECT_EQ(grads(true), grads(false));
}

TEST_F(CrossEntropyTape, OnlyAGradientOfOneIsTaken) {
  const Tensor hidden = random_leaf({4, 6}, 1);
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor l = linear_cross_entropy(context_, hidden, random_tensor(context_, {5, 6}, 2),
                                        ints(context_, {0, 1, 2, 3}), 1)
                       .loss;
  try {
    tape.backward(context_, {{l, constant({2})}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(),
                testing::HasSubstr(
                    "[ops.linear_cross_entropy] the loss reaches backward with a gradient that is not 1"));
  }
}

TEST_F(CrossEntropyTape, NoRowsGiveALossOfZeroAndZeroGradients) {
  const Tensor hidden = random_leaf({0, 6}, 1);
  const Tensor head = random_leaf({5, 6}, 3);
  Tape tape;
  const TapeScope scope(context_, &tape);
  const auto ce = linear_cross_entropy(context_, hidden, head, ints(context_, {}), 1);
  EXPECT_THAT(values_of(ce.loss), ElementsAre(0));
  tape.backward(context_, ce.loss);
  EXPECT_THAT(grad_of(head), testing::Each(0.0));
}

// loss = sum over rows of weight * (log of the sum of exp(lse) over the parts - the sum of target logits).
TEST_F(CrossEntropyTape, IsWhatStatisticsOfThePartsOfAVocabularyAddUpTo) {
  constexpr std::int64_t kRows = 37, kHidden = 20;
  const std::vector<std::int64_t> parts{40, 1, 59};
  const std::vector<float> row_weights(kRows, 0.03F);
  std::vector<std::int32_t> targets;
  for (std::int32_t i = 0; i < kRows; ++i) targets.push_back(i * 29 % 100);
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const LogitOptions& options : {LogitOptions{}, LogitOptions{.scale = 0.7F, .softcap = 3}}) {
      const Tensor hidden = random_tensor(context_, {kRows, kHidden}, 1, 1, 0, dtype);
      const Tensor weight = random_tensor(context_, {100, kHidden}, 2, 0.4, 0, dtype);
      const Tensor index = ints(context_, targets);
      const auto leaf = [](const Tensor& t) {
        Tensor learns = t.detach();
        require_grad(learns, DType::kF32);
        return learns;
      };
      const Tensor h1 = leaf(hidden), w1 = leaf(weight);
      Tape whole;
      std::vector<double> nll;
      {
        const TapeScope scope(context_, &whole);
        const auto ce = linear_cross_entropy(context_, h1, w1, index, row_weights[0], {}, options);
        nll = values_of(ce.nll);
        whole.backward(context_, ce.loss);
      }
      const Tensor h2 = leaf(hidden);
      std::vector<Tensor> w2;
      Tape tape;
      const TapeScope scope(context_, &tape);
      std::vector<HeadStatistics> statistics;
      std::int64_t begin = 0;
      for (const std::int64_t words : parts) {
        w2.push_back(leaf(weight.rows(begin, begin + words)));
        statistics.push_back(head_statistics(context_, h2, w2.back(), index, begin, options));
        begin += words;
      }
      std::vector<std::pair<Tensor, Tensor>> grads;
      std::vector<double> lse(kRows), target(kRows);
      for (const auto& s : statistics)
        for (std::size_t i = 0; i < kRows; ++i) {
          lse[i] += std::exp(values_of(s.lse)[i]);
          target[i] += values_of(s.target_logit)[i];
        }
      for (std::size_t i = 0; i < kRows; ++i) EXPECT_NEAR(std::log(lse[i]) - target[i], nll[i], 4e-6);
      for (const auto& s : statistics) {
        std::vector<float> dlse, dtarget;
        for (std::size_t i = 0; i < kRows; ++i) {
          dlse.push_back(row_weights[i] * static_cast<float>(std::exp(values_of(s.lse)[i]) / lse[i]));
          dtarget.push_back(-row_weights[i]);
        }
        grads.emplace_back(s.lse, Tensor::from<float>(context_.stream(), dlse, {kRows}, Purpose::kData));
        grads.emplace_back(s.target_logit,
                           Tensor::from<float>(context_.stream(), dtarget, {kRows}, Purpose::kData));
      }
      tape.backward(context_, grads);
      std::vector<double> dweight;
      for (const Tensor& w : w2)
        for (const double x : grad_of(w)) dweight.push_back(x);
      // Three bf16 gradients of hidden are added up; the logits' gradients are bf16 in both.
      const double near = test::tolerance(dtype, 100) * (dtype == DType::kBF16 ? 2 : 4);
      EXPECT_LT(test::relative_error(grad_of(h2), grad_of(h1)), near) << name_of(dtype);
      EXPECT_LT(test::relative_error(dweight, grad_of(w1)), near) << name_of(dtype);
    }
}

TEST_F(CrossEntropyTape, WithoutATapeOnlyTheLossIsMade) {
  const Tensor hidden = random_leaf({4, 6}, 1);
  const Tensor head = random_leaf({5, 6}, 3);
  const auto ce = linear_cross_entropy(context_, hidden, head, ints(context_, {0, 1, 2, 3}), 0.5F);
  double sum = 0;
  for (const double nll : values_of(ce.nll)) sum += 0.5 * nll;
  EXPECT_NEAR(values_of(ce.loss)[0], sum, 1e-6);
  EXPECT_EQ(context_.ledger().current(Purpose::kGradients), 0);
}

}  // namespace
}  // namespace hone::ops
