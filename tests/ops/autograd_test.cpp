// The tape: counting of uses, hooks, aliasing of gradients that are handed on, what is free when.
#include "ops/autograd.h"

#include <stdexcept>

#include "ops/elementwise.h"
#include "ops/rms_norm.h"
#include "ops/rows.h"
#include "ops/slices.h"
#include "tests/ops/autograd_fixture.h"

namespace hone::ops {
namespace {

TEST_F(Autograd, NothingIsRecordedWithoutATape) {
  const Tensor a = leaf({1, 2});
  const Tensor b = add(context_, a, a);
  EXPECT_EQ(b.grad_slot(), nullptr);
  EXPECT_FALSE(needs_grad(context_, {&a}));
}

TEST_F(Autograd, NothingIsRecordedForConstants) {
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor a = constant({1, 2});
  EXPECT_EQ(add(context_, a, a).grad_slot(), nullptr);
  EXPECT_EQ(tape.num_nodes(), 0U);
}

TEST_F(Autograd, AViewThatWouldLoseAGradientIsRefused) {
  Tensor x = Tensor::zeros(context_.stream(), {4, 6}, DType::kF32);
  require_grad(x, DType::kF32);
  EXPECT_THROW(x.rows(0, 2), Error);
  EXPECT_THROW(x.columns(0, 2), Error);
  EXPECT_THROW(x.reshape({6, 4}), Error);
  EXPECT_EQ(x.detach().columns(0, 2).grad_slot(), nullptr);
  EXPECT_EQ(columns(context_, x, 0, 2).grad_slot(), nullptr) << "no tape records";
  Tape tape;
  const TapeScope recording(context_, &tape);
  EXPECT_NE(columns(context_, x, 0, 2).grad_slot(), nullptr);
}

TEST_F(Autograd, TapeScopeRestoresTheTapeThatWasThere) {
  Tape outer;
  const TapeScope a(context_, &outer);
  {
    const TapeScope b(context_, nullptr);
    EXPECT_EQ(context_.tape(), nullptr);
  }
  EXPECT_EQ(context_.tape(), &outer);
}

TEST_F(Autograd, ALossThatDependsOnNothingIsRefused) {
  Tape tape;
  const TapeScope scope(context_, &tape);
  EXPECT_THROW(tape.backward(context_, constant({1})), Error);
  EXPECT_THROW(tape.backward(context_, leaf({1, 2})), Error) << "two elements";
}

TEST_F(Autograd, GradientsOfAGivenGradientDoNotOverwriteIt) {
  const Tensor x = leaf({1, 2});
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = add(context_, x, x);
  const Tensor z = add(context_, y, y);
  const Tensor dy = constant({10, 20});
  const Tensor dz = constant({1, 3});
  tape.backward(context_, {{y, dy}, {z, dz}, {y, Tensor()}});
  EXPECT_THAT(grad_of(x), ElementsAre(2 * (10 + 2 * 1), 2 * (20 + 2 * 3)));
  EXPECT_THAT(values_of(dy), ElementsAre(10, 20));
  EXPECT_THAT(values_of(dz), ElementsAre(1, 3));
  EXPECT_EQ(tape.num_nodes(), 0U);
}

TEST_F(Autograd, TheSameOutputMayBeGivenTwice) {
  const Tensor x = leaf({1});
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = add(context_, x, constant({5}));
  const Tensor dy = constant({3});
  tape.backward(context_, {{y, dy}, {y, dy}});
  EXPECT_THAT(grad_of(x), ElementsAre(6));
  EXPECT_THAT(values_of(dy), ElementsAre(3));
}

TEST_F(Autograd, ALeafMayItselfBeGivenAGradient) {
  const Tensor x = leaf({1, 1});
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = add(context_, x, constant({0, 0}));
  const Tensor dx = constant({7, 8});
  tape.backward(context_, {{x, dx}, {y, constant({1, 2})}});
  EXPECT_THAT(grad_of(x), ElementsAre(8, 10));
  EXPECT_THAT(values_of(dx), ElementsAre(7, 8));
  EXPECT_GT(context_.ledger().current(Purpose::kGradients), 0) << "a leaf keeps a storage of its own";
}

// add() gives one tensor to both of its inputs: whoever adds to one of them must not change the other.
TEST_F(Autograd, AGradientGivenToTwoIsNotChangedForOneByTheOther) {
  const Tensor x = leaf({1});
  const Tensor w = leaf({1});
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor a = add(context_, x, constant({0}));
  const Tensor b = add(context_, w, constant({0}));
  const Tensor again = add(context_, a, a);  // adds to a's gradient before x sees it, not to b's
  const Tensor sum = add(context_, a, b);
  tape.backward(context_, {{sum, constant({1})}, {again, constant({10})}});
  EXPECT_THAT(grad_of(x), ElementsAre(21));
  EXPECT_THAT(grad_of(w), ElementsAre(1));
}

TEST_F(Autograd, AResidualStreamGathersWithoutCopies) {
  Tensor stream = random_leaf({4, 6}, 1);
  const Tensor weight = random_leaf({6}, 2, 0.1);
  Tape tape;
  const TapeScope scope(context_, &tape);
  Tensor x = add(context_, stream, random_tensor(context_, {4, 6}, 3));
  for (int layer = 0; layer < 3; ++layer) {
    const Tensor h = rms_norm(context_, x, weight, 1e-5F);
    x = add(context_, x, h);
  }
  Tensor seed = random_tensor(context_, {4, 6}, 4);
  // Peak of backward: the stream's gradient, the branch's, and nothing that was copied. add() gives the
  // stream's gradient to both, so the norm adds to a copy: three at most.
  std::vector<std::pair<Tensor, Tensor>> seeds;
  seeds.emplace_back(std::move(x), std::move(seed));
  const std::int64_t before = activations();
  context_.ledger().reset_peak();
  tape.backward(context_, std::move(seeds));
  EXPECT_LE(context_.ledger().peak(Purpose::kActivations) - before, 4 * 6 * 4);
}

TEST_F(Autograd, UnreachedNodesAreSkippedAndFreed) {
  const Tensor x = leaf({2});
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = add(context_, x, x);
  int unreached = 0;
  Tensor aside = context_.empty({1}, DType::kF32);
  const Tensor kept = context_.empty({100}, DType::kF32);
  const std::weak_ptr<GradSlot> slot = x.grad_slot();
  record(context_, "test.aside", {&x}, {&aside}, [&unreached, kept](Backward&) { ++unreached; });
  int fired = 0;
  x.grad_slot()->set_hook([&fired] { ++fired; });
  tape.backward(context_, {{y, constant({1})}});
  EXPECT_EQ(unreached, 0);
  EXPECT_EQ(fired, 1) << "the unreached use counts as passed";
  EXPECT_TRUE(kept.owns_buffer_alone());
  EXPECT_THAT(grad_of(x), ElementsAre(2));
}

TEST_F(Autograd, SeveralUsesOfAValueAreSummedInF32) {
  Tensor x = random_tensor(context_, {1, 1}, 1, 0, 1, DType::kBF16);
  require_grad(x, DType::kF32);
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = take_rows(context_, x, ints(context_, {0}));
  Tensors uses;
  std::vector<std::pair<Tensor, Tensor>> seeds;
  const std::vector<float> terms{1, 0x1p-8F, 0x1p-8F, 0x1p-8F};  // each is lost against 1 in bf16
  for (const float term : terms) {
    uses.push_back(take_rows(context_, y, ints(context_, {0})));
    seeds.emplace_back(uses.back(), random_tensor(context_, {1, 1}, 0, 0, term, DType::kBF16));
  }
  tape.backward(context_, seeds);
  EXPECT_THAT(values_of(x.grad_slot()->grad()), ElementsAre(1 + 3 * 0x1p-8));
  // The same where gradients are handed over instead of written.
  x.grad_slot()->reset();
  const Tensor z = take_rows(context_, x, ints(context_, {0}));
  const Tensor none = random_tensor(context_, {1, 1}, 0, 0, 0, DType::kBF16);
  seeds.clear();
  for (const float term : terms)
    seeds.emplace_back(add(context_, z, none), random_tensor(context_, {1, 1}, 0, 0, term, DType::kBF16));
  tape.backward(context_, seeds);
  EXPECT_THAT(values_of(x.grad_slot()->grad()), ElementsAre(1 + 3 * 0x1p-8));
}

TEST_F(Autograd, LeavesAccumulateUntilResetAndKeepTheirStorage) {
  Tensor x = random_tensor(context_, {2}, 1, 0, 1, DType::kBF16);
  require_grad(x, DType::kBF16);
  const auto& slot = x.grad_slot();
  EXPECT_FALSE(slot->grad().defined());
  EXPECT_EQ(context_.ledger().current(Purpose::kGradients), 0) << "allocated by the first gradient";
  const auto step = [&] {
    Tape tape;
    const TapeScope scope(context_, &tape);
    const Tensor none = random_tensor(context_, {2}, 1, 0, 0, DType::kBF16);
    tape.backward(context_, {{add(context_, x, none), constant({1, 3})}});
  };
  step();
  step();
  EXPECT_EQ(slot->grad().dtype(), DType::kBF16);
  EXPECT_THAT(grad_of(x), ElementsAre(2, 6));
  const void* storage = slot->grad().data();
  slot->reset();
  EXPECT_FALSE(slot->grad().defined());
  step();
  EXPECT_THAT(grad_of(x), ElementsAre(1, 3));
  EXPECT_EQ(slot->grad().data(), storage);
}

TEST_F(Autograd, GradDtypeOfALeafIsF32OrBf16) {
  EXPECT_THROW(GradSlot::leaf({1}, DType::kF16), Error);
}

TEST_F(Autograd, AGradientIsNotNarrowerThanItsValue) {
  Tensor x = constant({1});
  EXPECT_THROW(require_grad(x, DType::kBF16), Error);  // kernels would write f32 into it
}

TEST_F(Autograd, HookFiresOnceAfterTheLastUseOfATiedLeaf) {
  const Tensor x = leaf({1});
  const Tensor w = leaf({1});
  std::vector<std::vector<double>> seen;
  w.grad_slot()->set_hook([&] { seen.push_back(grad_of(w)); });
  Tape tape;
  const TapeScope scope(context_, &tape);
  Tensor y = add(context_, w, w);  // the first use is the last that backward passes
  y = add(context_, y, x);
  y = add(context_, y, w);
  tape.backward(context_, {{y, constant({1})}});
  EXPECT_THAT(seen, ElementsAre(ElementsAre(3)));
}

TEST_F(Autograd, HookWaitsForEveryTapeThatUsesTheLeaf) {
  const Tensor w = leaf({1});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  Tape first;
  Tape second;
  Tensor y1;
  Tensor y2;
  {
    const TapeScope scope(context_, &first);
    y1 = add(context_, w, constant({0}));
  }
  {
    const TapeScope scope(context_, &second);
    y2 = add(context_, w, constant({0}));
  }
  first.backward(context_, {{y1, constant({1})}});
  EXPECT_EQ(fired, 0);
  second.backward(context_, {{y2, constant({1})}});
  EXPECT_EQ(fired, 1);
  EXPECT_THAT(grad_of(w), ElementsAre(2));
}

TEST_F(Autograd, OneTapeMayStartFromAnothersGradient) {
  const Tensor w = leaf({3});
  Tape first;
  Tape second;
  Tensor y;
  {
    const TapeScope scope(context_, &first);
    y = add(context_, w, w);
  }
  Tensor received = y.detach();  // a pipeline stage's input
  require_grad(received, DType::kF32);
  {
    const TapeScope scope(context_, &second);
    const Tensor z = add(context_, received, received);
    second.backward(context_, {{z, constant({1})}});
  }
  first.backward(context_, {{y, received.grad_slot()->grad()}});
  EXPECT_THAT(grad_of(w), ElementsAre(4));
  EXPECT_THAT(grad_of(received), ElementsAre(2)) << "not overwritten by what it seeded";
}

TEST_F(Autograd, UsesOfAnAbandonedTapeAreTakenBack) {
  const Tensor w = leaf({1});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  {
    Tape abandoned;
    const TapeScope scope(context_, &abandoned);
    add(context_, w, w);
  }
  Tape tape;
  const TapeScope scope(context_, &tape);
  tape.backward(context_, {{add(context_, w, w), constant({1})}});
  EXPECT_EQ(fired, 1);
}

TEST_F(Autograd, ResetBetweenForwardAndBackwardLosesNoUse) {
  const Tensor w = leaf({1});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  Tape tape;
  const TapeScope scope(context_, &tape);
  for (int step = 0; step < 2; ++step) {
    const Tensor y = add(context_, w, w);
    w.grad_slot()->reset();
    tape.backward(context_, {{y, constant({1})}});
    EXPECT_EQ(fired, step + 1);
    EXPECT_THAT(grad_of(w), ElementsAre(2));
  }
}

TEST_F(Autograd, AHookMayUseUpTheGradient) {
  const Tensor w = leaf({1});
  w.grad_slot()->set_hook([&] { w.grad_slot()->reset(); });
  Tape tape;
  const TapeScope scope(context_, &tape);
  tape.backward(context_, {{add(context_, w, w), constant({1})}});
  EXPECT_FALSE(w.grad_slot()->grad().defined());
}

TEST_F(Autograd, AnErrorInBackwardLeavesTheCountsRight) {
  const Tensor w = leaf({1});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  {
    Tape tape;
    const TapeScope scope(context_, &tape);
    Tensor y = add(context_, w, w);
    Tensor z = context_.empty({1}, DType::kF32);
    record(context_, "test.throws", {&y, &w}, {&z}, [](Backward&) { throw std::runtime_error("no"); });
    EXPECT_THROW(tape.backward(context_, {{z, constant({1})}}), std::runtime_error);
    EXPECT_EQ(context_.tape(), &tape);
  }
  Tape tape;
  const TapeScope scope(context_, &tape);
  tape.backward(context_, {{add(context_, w, w), constant({1})}});
  EXPECT_EQ(fired, 1);
  EXPECT_THAT(grad_of(w), ElementsAre(2));
}

// A chain of n values of 1000 floats; each node keeps 500 floats and gives a new gradient. When node i runs,
// the tape may hold: what nodes 0 … i keep, the gradient of its output, and the one it makes.
TEST_F(Autograd, BackwardFreesGradientsAndKeptTensorsAsItPasses) {
  constexpr int kLength = 6;
  constexpr std::int64_t kValue = 4000;
  constexpr std::int64_t kKept = 2000;
  const Tensor w = leaf({0});
  Tape tape;
  const TapeScope scope(context_, &tape);
  const std::int64_t before = activations();
  std::vector<std::int64_t> held(kLength);
  std::vector<std::int64_t> held_by_hook;
  Tensor x = context_.empty({1000}, DType::kF32, Purpose::kData);
  require_grad(x, DType::kF32);
  int fired = 0;
  w.grad_slot()->set_hook([&] {
    ++fired;
    held_by_hook.push_back(activations() - before);
  });
  for (int i = 0; i < kLength; ++i) {
    Tensor y = context_.empty({1000}, DType::kF32);
    const Tensor kept = context_.empty({500}, DType::kF32);
    record(context_, "test.chain", {&x, &w}, {&y}, [&, kept, i](Backward& b) {
      held[static_cast<std::size_t>(i)] = activations() - before;
      EXPECT_TRUE(b.grad().owns_buffer_alone());
      const GradTarget dx = b.target(0);
      const GradTarget dw = b.target(1);
      EXPECT_EQ(dx.accumulate, false);
      EXPECT_EQ(dw.accumulate, i != kLength - 1);
    });
    x = y;
  }
  EXPECT_EQ(activations() - before, kLength * kKept + kValue) << "values that nobody keeps are gone";
  std::vector<std::pair<Tensor, Tensor>> seeds;
  seeds.emplace_back(x, context_.empty({1000}, DType::kF32));
  x = Tensor();
  tape.backward(context_, std::move(seeds));
  for (int i = 0; i < kLength; ++i)
    EXPECT_EQ(held[static_cast<std::size_t>(i)], (i + 1) * kKept + kValue) << "at node " << i;
  EXPECT_EQ(fired, 1);
  EXPECT_THAT(held_by_hook, ElementsAre(0)) << "a hook finds the memory of its operation free";
  EXPECT_EQ(activations(), before);
}

}  // namespace
}  // namespace hone::ops
