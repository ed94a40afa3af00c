// Values that are made again for a gradient: their bytes are not kept, several keepers share one copy, and
// the gradients have the bits that kept values give.
#include "ops/saved.h"

#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "tests/ops/autograd_fixture.h"

namespace hone::ops {
namespace {

constexpr std::int64_t kRows = 64;
constexpr std::int64_t kHidden = 32;
constexpr std::int64_t kValueBytes = kRows * kHidden * 4;

class SavedValue : public Autograd {
 protected:
  /// rms_norm(x), counting how often it is made again.
  Tensor counted_norm(const Tensor& x, const Tensor& weight) {
    const Tensor y = rms_norm(context_, x, weight, 1e-5F);
    can_remake(y, [this, x = x.detach(), weight = weight.detach()](Context& again) {
      ++remade_;
      return rms_norm(again, x, weight, 1e-5F);
    });
    return y;
  }
  int remade_ = 0;
};

TEST_F(SavedValue, ANormsOutputIsNotKeptByTheLinearsThatReadIt) {
  const Tensor x = random_leaf({kRows, kHidden}, 1);
  const Tensor norm = random_leaf({kHidden}, 2);
  const Tensor first = random_leaf({kHidden, kHidden}, 3);
  const Tensor second = random_leaf({kHidden, kHidden}, 4);
  Tape tape;
  const TapeScope scope(context_, &tape);
  Tensor h = rms_norm(context_, x, norm, 1e-5F);
  const Tensor a = linear(context_, h, first);
  const Tensor b = linear(context_, h, second);
  const std::int64_t with_h = activations();
  h = Tensor();
  EXPECT_EQ(activations(), with_h - kValueBytes);
}

TEST_F(SavedValue, SeveralKeepersMakeItOnceAndTheLastFreesIt) {
  const Tensor x = random_leaf({kRows, kHidden}, 1);
  const Tensor norm = random_leaf({kHidden}, 2);
  const Tensor weight = random_leaf({kHidden, kHidden}, 3);
  Tape tape;
  const TapeScope scope(context_, &tape);
  Saved one, other;
  {
    const Tensor h = counted_norm(x, norm);
    one = Saved(h);
    other = Saved(h);
  }
  const std::int64_t before = activations();
  EXPECT_EQ(values_of(one.get(context_)), values_of(other.get(context_)));
  EXPECT_EQ(remade_, 1);
  EXPECT_EQ(activations(), before + kValueBytes);
  one = Saved();
  EXPECT_EQ(activations(), before + kValueBytes);
  other = Saved();
  EXPECT_EQ(activations(), before);
}

TEST_F(SavedValue, WhatCannotBeMadeAgainIsKept) {
  const Tensor x = random_leaf({kRows, kHidden}, 1);
  const Saved saved(x);
  EXPECT_EQ(saved.get(context_).data(), x.data());
  EXPECT_FALSE(Saved(Tensor()).defined());
  EXPECT_FALSE(Saved().get(context_).defined());
}

TEST_F(SavedValue, GradientsHaveTheBitsOfKeptValues) {
  const auto run = [&](bool keep) {
    const Tensor x = random_leaf({kRows, kHidden}, 1);
    const Tensor norm = random_leaf({kHidden}, 2);
    const Tensor gate = random_leaf({kHidden, kHidden}, 3);
    const Tensor up = random_leaf({kHidden, kHidden}, 4);
    const Tensor down = random_leaf({kHidden, kHidden}, 5);
    Tape tape;
    const TapeScope scope(context_, &tape);
    const auto kept = [keep](const Tensor& value) {  // its bytes, as if it could not be made again
      if (keep) can_remake(value, [bytes = value.detach()](Context&) { return bytes; });
      return value;
    };
    const Tensor h = kept(rms_norm(context_, x, norm, 1e-5F));
    const Tensor act =
        kept(gated(context_, linear(context_, h, gate), linear(context_, h, up), Activation::kSilu));
    const Tensor y = linear(context_, act, down);
    tape.backward(context_, {{y, random_tensor(context_, {kRows, kHidden}, 9)}});
    return std::vector{grad_of(x), grad_of(norm), grad_of(gate), grad_of(up), grad_of(down)};
  };
  EXPECT_EQ(run(true), run(false));
}

TEST_F(SavedValue, BackwardFreesWhatWasMadeAgain) {
  const Tensor x = random_leaf({kRows, kHidden}, 1);
  const Tensor norm = random_leaf({kHidden}, 2);
  const Tensor weight = random_leaf({kHidden, kHidden}, 3);
  const std::int64_t before = activations();
  Tape tape;
  const TapeScope scope(context_, &tape);
  {
    const Tensor y = linear(context_, counted_norm(x, norm), weight);
    tape.backward(context_, {{y, random_tensor(context_, {kRows, kHidden}, 9)}});
  }
  EXPECT_EQ(remade_, 1);
  EXPECT_EQ(activations(), before);
}

}  // namespace
}  // namespace hone::ops
