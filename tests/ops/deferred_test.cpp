// Gradients of weights that are put off, or made beside the others: the same bits, made when they are asked
// for, hooks after the last one.
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "tests/ops/autograd_fixture.h"

namespace hone::ops {
namespace {

/// Three products of one weight and another after them, all behind a norm.
class Deferred : public Autograd {
 protected:
  Deferred() {
    for (const Tensor* t : {&norm_, &shared_, &last_})
      t->grad_slot()->set_hook([this, t] { fired_.push_back(t); });
  }

  Tensor forward(bool recompute) {
    const auto block = [this](const Tensors& in) -> Tensors {
      return {linear(context_, rms_norm(context_, in[0], norm_, 1e-5F), shared_)};
    };
    Tensor y = x_;
    for (int i = 0; i < 3; ++i) y = recompute ? checkpoint(context_, {y}, block)[0] : block({y})[0];
    return linear(context_, y, last_, bias_);
  }
  void backward(bool recompute, DeferredGradients* deferred, SideStream* beside = nullptr) {
    for (const Tensor* t : {&x_, &norm_, &shared_, &last_, &bias_}) t->grad_slot()->reset();
    fired_.clear();
    Tape tape;
    const TapeScope recording(context_, &tape);
    std::vector<std::pair<Tensor, Tensor>> seeds;
    const Tensor y = forward(recompute);
    seeds.emplace_back(y, seed_);
    tape.backward(context_, std::move(seeds), deferred, beside);
  }
  std::vector<std::vector<double>> gradients() const {
    return {grad_of(x_), grad_of(norm_), grad_of(shared_), grad_of(last_), grad_of(bias_)};
  }

  Tensor x_ = random_leaf({5, 6}, 1), norm_ = random_leaf({6}, 2), shared_ = random_leaf({6, 6}, 3),
         last_ = random_leaf({4, 6}, 4), bias_ = random_leaf({4}, 5);
  Tensor seed_ = random_tensor(context_, {5, 4}, 9);
  std::vector<const Tensor*> fired_;
};

TEST_F(Deferred, WeightGradientsHaveTheSameBitsLater) {
  for (const bool recompute : {false, true}) {
    backward(recompute, nullptr);
    const auto at_once = gradients();
    const std::int64_t resting = activations();
    DeferredGradients deferred;
    backward(recompute, &deferred);
    EXPECT_EQ(grad_of(x_), at_once[0]) << "the input's gradient does not wait";
    EXPECT_EQ(grad_of(norm_), at_once[1]);
    EXPECT_EQ(grad_of(bias_), at_once[4]);
    EXPECT_FALSE(shared_.grad_slot()->grad().defined());
    EXPECT_FALSE(last_.grad_slot()->grad().defined());
    EXPECT_EQ(deferred.size(), 4U);
    EXPECT_GT(activations(), resting) << "what they are made of is kept";
    deferred.run(context_);
    EXPECT_EQ(deferred.size(), 0U);
    EXPECT_EQ(gradients(), at_once);
    EXPECT_EQ(activations(), resting);
  }
}

TEST_F(Deferred, HooksFireAfterTheLastContribution) {
  DeferredGradients deferred;
  backward(false, &deferred);
  EXPECT_THAT(fired_, ElementsAre(&norm_));
  deferred.run(context_, 1);
  EXPECT_THAT(fired_, ElementsAre(&norm_, &last_));
  deferred.run(context_, 2);
  EXPECT_EQ(fired_.size(), 2U) << "one use of the shared weight is left";
  deferred.run(context_, 1);
  EXPECT_THAT(fired_, ElementsAre(&norm_, &last_, &shared_));
  deferred.run(context_, 1);
  EXPECT_EQ(fired_.size(), 3U) << "nothing is left";
}

TEST_F(Deferred, WeightGradientsHaveTheSameBitsBeside) {
  for (const bool recompute : {false, true}) {
    backward(recompute, nullptr);
    const auto in_order = gradients();
    const auto fired = fired_;
    const std::int64_t resting = activations();
    for (const std::size_t most : {std::size_t{0}, std::size_t{1} << 30}) {
      SideStream side(context_, most);
      backward(recompute, nullptr, &side);
      EXPECT_EQ(gradients(), in_order) << most;
      EXPECT_EQ(fired_, fired);
      EXPECT_EQ(activations(), resting) << "joined: nothing is kept";
      EXPECT_EQ(context_.side_stream(), nullptr) << "of this backward alone";
    }
  }
}

TEST_F(Deferred, WhatIsPutOffIsNotMadeBeside) {
  SideStream side(context_, 0);
  DeferredGradients deferred;
  backward(true, &deferred, &side);
  EXPECT_EQ(deferred.size(), 4U);
  const auto later = [&] {
    deferred.run(context_);
    return gradients();
  }();
  backward(true, nullptr);
  EXPECT_EQ(gradients(), later);
}

TEST_F(Deferred, WhatBesideReadsIsKeptUpToABound) {
  const auto most_held = [&](SideStream* side) {
    context_.ledger().reset_peak();
    backward(false, nullptr, side);
    return context_.ledger().peak(Purpose::kActivations);
  };
  const std::int64_t in_order = most_held(nullptr);
  SideStream one(context_, 0), all(context_, std::size_t{1} << 30);
  // Of the shared weight's products: dy and x, (5, 6) f32 each.
  constexpr std::int64_t kOperands = 2 * 5 * 6 * 4;
  EXPECT_GE(most_held(&one), in_order);
  EXPECT_LE(most_held(&one), in_order + 2 * kOperands);
  EXPECT_GT(most_held(&all), most_held(&one));
}

TEST_F(Deferred, TwoPassesWaitInOneQueue) {
  const auto run = [&](DeferredGradients* deferred) {
    for (const Tensor* t : {&norm_, &shared_, &last_, &bias_}) t->grad_slot()->reset();
    for (int pass = 0; pass < 2; ++pass) {
      Tape tape;
      const TapeScope recording(context_, &tape);
      std::vector<std::pair<Tensor, Tensor>> seeds;
      seeds.emplace_back(forward(pass == 1), seed_);
      tape.backward(context_, std::move(seeds), deferred);
    }
    if (deferred != nullptr) deferred->run(context_);
    return std::pair{grad_of(shared_), grad_of(last_)};
  };
  DeferredGradients deferred;
  const auto later = run(&deferred);
  EXPECT_EQ(later, run(nullptr));
}

TEST_F(Deferred, WhatIsDroppedLeavesNoUses) {
  {
    DeferredGradients dropped;
    backward(false, &dropped);
  }
  EXPECT_FALSE(shared_.grad_slot()->grad().defined());
  backward(false, nullptr);
  EXPECT_EQ(fired_.size(), 3U) << "the next pass is whole";
}

}  // namespace
}  // namespace hone::ops
