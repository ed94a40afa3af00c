// linear_cross_entropy makes its gradients in the forward pass: tied heads, hooks, recompute, frozen parts.
#include "ops/cross_entropy.h"

#include "ops/embedding.h"
#include "ops/rms_norm.h"
#include "tests/ops/autograd_fixture.h"

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
                testing::HasSubstr("[ops.linear_cross_entropy] the loss reaches backward with gradient 2"));
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
