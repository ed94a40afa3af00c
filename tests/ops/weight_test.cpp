// Weights that are acquired on use: what an operation sees, when, and that nothing holds on to a value.
#include "ops/weight.h"

#include <algorithm>
#include <limits>

#include "ops/autograd.h"
#include "ops/linear.h"
#include "ops/rows.h"
#include "tests/ops/autograd_fixture.h"

namespace hone::ops {
namespace {

/// Keeps a value on the side; what it gives out is gone, and NaN for whoever still has it, after release.
class Leaving final : public Residency {
 public:
  explicit Leaving(const Tensor& value)
      : shape_(value.shape()), kept_(value.span<float>().begin(), value.span<float>().end()) {}
  Tensor acquire(Context& context) override {
    if (uses_++ == 0) lent_ = context.upload(kept_, shape_, device::Purpose::kWeights);
    ++acquired_;
    return lent_;
  }
  void release(Context& /*context*/) override {
    ASSERT_GT(uses_, 0);
    if (--uses_ > 0) return;
    std::fill_n(lent_.as<float>(), lent_.numel(), std::numeric_limits<float>::quiet_NaN());
    EXPECT_TRUE(lent_.owns_buffer_alone()) << "an operation kept the value";
    lent_ = Tensor();
  }
  int uses() const { return uses_; }
  int acquired() const { return acquired_; }

 private:
  Shape shape_;
  std::vector<float> kept_;
  Tensor lent_;
  int uses_ = 0, acquired_ = 0;
};

TEST_F(Autograd, AWeightThatLeavesGivesTheSameBits) {
  const std::vector<std::int32_t> token{1, 0, 1};
  const Tensor ids = context_.upload(token);
  const auto run = [&](bool leaves) {
    Tensor table = constant({1, 2, 3, -4}).reshape({2, 2});
    Tensor weight = constant({0.5F, -1, 2, 3, 1, 1}).reshape({3, 2});
    Tensor bias = constant({1, 2, 3});
    std::vector<std::shared_ptr<GradSlot>> slots;
    std::vector<Weight> handles;
    std::vector<std::shared_ptr<Leaving>> residencies;
    for (Tensor* t : {&table, &weight, &bias}) {
      slots.push_back(require_grad(*t, DType::kF32));
      residencies.push_back(std::make_shared<Leaving>(*t));
      handles.push_back(leaves ? Weight(residencies.back(), slots.back()) : Weight(*t));
    }
    Tape tape;
    const TapeScope recording(context_, &tape);
    const Tensor h = embedding(context_, handles[0], ids);
    const Tensor y = linear(context_, h, handles[1], handles[2]);
    const auto out = std::vector<float>(y.span<float>().begin(), y.span<float>().end());
    std::vector<std::pair<Tensor, Tensor>> seeds;
    seeds.emplace_back(y, constant({1, 2, 3, 4, 5, 6, 7, 8, 9}).reshape({3, 3}));
    tape.backward(context_, std::move(seeds));
    for (const auto& r : residencies) EXPECT_EQ(r->uses(), 0);
    if (leaves) {
      EXPECT_EQ(residencies[1]->acquired(), 2) << "forward, and the gradient of its input";
      EXPECT_EQ(residencies[2]->acquired(), 1);
    }
    std::vector<std::vector<float>> result{out};
    for (const auto& slot : slots)
      result.emplace_back(slot->grad().span<float>().begin(), slot->grad().span<float>().end());
    return result;
  };
  EXPECT_EQ(run(true), run(false));
}

TEST_F(Autograd, UsesOfAWeightNest) {
  const auto residency = std::make_shared<Leaving>(constant({1, 2}));
  const Weight weight(residency);
  {
    const HeldWeight outer(context_, weight);
    {
      const HeldWeight inner(context_, weight);
      EXPECT_EQ(inner.value().data(), outer.value().data());
    }
    EXPECT_EQ(outer.value().as<float>()[1], 2);
  }
  EXPECT_EQ(residency->uses(), 0);
  EXPECT_FALSE(Weight().defined());
  EXPECT_FALSE(HeldWeight(context_, Weight()).value().defined());
}

TEST_F(Autograd, ATakenGradientLeavesItsSlot) {
  Tensor weight = constant({1, 2, 3, 4}).reshape({2, 2});
  const auto slot = require_grad(weight, DType::kF32);
  std::vector<float> taken;
  slot->set_hook([&] {
    const Tensor grad = slot->take_grad();
    taken.assign(grad.span<float>().begin(), grad.span<float>().end());
  });
  const auto gradients = [&] { return context_.ledger().current(device::Purpose::kGradients); };
  for (int pass = 0; pass < 2; ++pass) {
    Tape tape;
    const TapeScope recording(context_, &tape);
    const Tensor y = linear(context_, constant({1, 1}).reshape({1, 2}), weight);
    std::vector<std::pair<Tensor, Tensor>> seeds;
    seeds.emplace_back(y, constant({1, 10}).reshape({1, 2}));
    tape.backward(context_, std::move(seeds));
    EXPECT_EQ(taken, (std::vector<float>{1, 1, 10, 10}));
    EXPECT_FALSE(slot->grad().defined());
    EXPECT_FALSE(slot->take_grad().defined());
    EXPECT_EQ(gradients(), 0) << "none is resident";
  }
}

}  // namespace
}  // namespace hone::ops
