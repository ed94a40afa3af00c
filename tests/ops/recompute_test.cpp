// Recomputed blocks: the same bits, only inputs kept, uses of leaves counted once however blocks nest.
#include "ops/elementwise.h"
#include "ops/rms_norm.h"
#include "ops/rows.h"
#include "tests/ops/autograd_fixture.h"

namespace hone::ops {
namespace {

TEST_F(Autograd, CheckpointKeepsOnlyInputsAndCountsATiedWeightOnce) {
  const Tensor w = random_leaf({6}, 2, 0.3);
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  const Tensor seed = random_tensor(context_, {4, 6}, 9);
  const auto block = [&](const Tensors& in) -> Tensors {
    const Tensor h = rms_norm(context_, in[0], w, 1e-5F);
    return {add(context_, in[0], gated(context_, h, rms_norm(context_, h, w, 1e-5F), Activation::kSilu))};
  };
  const auto run = [&](bool recompute) {
    w.grad_slot()->reset();
    Tensor x = random_tensor(context_, {4, 6}, 1);
    require_grad(x, DType::kF32);
    const auto x_slot = x.grad_slot();
    Tape tape;
    const TapeScope scope(context_, &tape);
    Tensor y = rms_norm(context_, x, w, 1e-5F);
    for (int i = 0; i < 3; ++i) y = recompute ? checkpoint(context_, {y}, block)[0] : block({y})[0];
    y = rms_norm(context_, y, w, 1e-5F);
    tape.backward(context_, {{y, seed}});
    return std::pair{values_of(x_slot->grad()), grad_of(w)};
  };
  const auto plain = run(false);
  EXPECT_EQ(fired, 1);
  const std::int64_t before = activations();
  const auto recomputed = run(true);
  EXPECT_EQ(fired, 2);
  EXPECT_EQ(activations(), before);
  EXPECT_EQ(plain, recomputed);
}

TEST_F(Autograd, AHookInsideACheckpointDoesNotWaitForTheBlocksEnd) {
  const Tensor first = random_leaf({6}, 2);
  const Tensor second = random_leaf({6}, 3);
  int fired = 0;
  second.grad_slot()->set_hook([&] {
    ++fired;
    EXPECT_FALSE(first.grad_slot()->grad().defined());
  });
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y =
      checkpoint(context_, {random_tensor(context_, {4, 6}, 1)}, [&](const Tensors& in) -> Tensors {
        return {rms_norm(context_, rms_norm(context_, in[0], first, 1e-5F), second, 1e-5F)};
      })[0];
  tape.backward(context_, {{y, random_tensor(context_, {4, 6}, 9)}});
  EXPECT_EQ(fired, 1);
  EXPECT_TRUE(first.grad_slot()->grad().defined());
}

TEST_F(Autograd, NestedCheckpointsCountLeavesOnce) {
  const Tensor w = random_leaf({6}, 2, 0.3);
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  const Tensor seed = random_tensor(context_, {4, 6}, 9);
  const auto norm = [&](const Tensors& in) -> Tensors { return {rms_norm(context_, in[0], w, 1e-5F)}; };
  const auto run = [&](int depth) {
    std::function<Tensors(const Tensors&, int)> nest = [&](const Tensors& in, int level) -> Tensors {
      const Tensors h = norm(in);
      if (level == 0) return norm(h);
      const auto inner = [&, level](const Tensors& deeper) { return nest(deeper, level - 1); };
      const Tensors a = checkpoint(context_, h, inner);
      const Tensors b = checkpoint(context_, a, inner);
      return {add(context_, norm(b)[0], in[0])};
    };
    w.grad_slot()->reset();
    Tensor x = random_tensor(context_, {4, 6}, 1);
    require_grad(x, DType::kF32);
    Tape tape;
    const TapeScope scope(context_, &tape);
    const Tensor y = nest({x}, depth)[0];
    tape.backward(context_, {{norm({y})[0], seed}});
    return std::pair{grad_of(x), grad_of(w)};
  };
  for (int depth = 0; depth < 4; ++depth) {
    run(depth);
    EXPECT_EQ(fired, depth + 1);
  }
}

TEST_F(Autograd, NestedCheckpointsHaveTheSameBits) {
  const Tensor w = random_leaf({6}, 2, 0.3);
  const Tensor seed = random_tensor(context_, {4, 6}, 9);
  const auto inner = [&](const Tensors& in) -> Tensors {
    const Tensor h = rms_norm(context_, in[0], w, 1e-5F);
    return {add(context_, gated(context_, h, in[0], Activation::kSilu), in[0])};
  };
  const auto run = [&](bool recompute) {
    const auto maybe = [&](const Tensors& in, const std::function<Tensors(const Tensors&)>& f) {
      return recompute ? checkpoint(context_, in, f) : f(in);
    };
    w.grad_slot()->reset();
    Tensor x = random_tensor(context_, {4, 6}, 1);
    require_grad(x, DType::kF32);
    Tape tape;
    const TapeScope scope(context_, &tape);
    const Tensors y =
        maybe({x}, [&](const Tensors& in) -> Tensors { return maybe(maybe(inner(in), inner), inner); });
    tape.backward(context_, {{y[0], seed}});
    return std::pair{grad_of(x), grad_of(w)};
  };
  EXPECT_EQ(run(false), run(true));
}

TEST_F(Autograd, AnAbandonedCheckpointTakesItsUsesBack) {
  const Tensor w = leaf({1});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  const auto block = [&](const Tensors& in) -> Tensors { return {add(context_, in[0], w)}; };
  for (int i = 0; i < 2; ++i) {
    Tape abandoned;
    const TapeScope scope(context_, &abandoned);
    checkpoint(context_, {constant({1})}, block);
  }
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = checkpoint(context_, {constant({1})}, block)[0];
  tape.backward(context_, {{y, constant({1})}});
  EXPECT_EQ(fired, 1);
}

TEST_F(Autograd, CheckpointPassesOnWhatWantsNoGradient) {
  Tensor x = random_leaf({3, 2}, 1);
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor index = ints(context_, {2, 0});
  const auto outputs = checkpoint(context_, {x, index, Tensor()}, [&](const Tensors& in) -> Tensors {
    EXPECT_FALSE(in[2].defined());
    return {in[1], take_rows(context_, in[0], in[1]), in[0], Tensor()};
  });
  EXPECT_EQ(outputs[0].grad_slot(), nullptr);
  EXPECT_EQ(outputs[0].data(), index.data());
  EXPECT_FALSE(outputs[3].defined());
  const Tensor ones = random_tensor(context_, {2, 2}, 0, 0, 1);
  const Tensor tens = random_tensor(context_, {3, 2}, 0, 0, 10);
  tape.backward(context_, {{outputs[1], ones}, {outputs[2], tens}});
  EXPECT_THAT(grad_of(x), ElementsAre(11, 11, 10, 10, 11, 11)) << "an input handed through has a gradient";
}

TEST_F(Autograd, CheckpointOfFrozenThingsRecordsNothing) {
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor w = constant({1});
  const auto y = checkpoint(context_, {constant({1})},
                            [&](const Tensors& in) -> Tensors { return {add(context_, in[0], w)}; });
  EXPECT_EQ(y[0].grad_slot(), nullptr);
  EXPECT_EQ(tape.num_nodes(), 0U);
}

TEST_F(Autograd, CheckpointMayBeReachedByOnlySomeOfItsOutputs) {
  const Tensor w = leaf({2});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  Tape tape;
  const TapeScope scope(context_, &tape);
  const auto y = checkpoint(context_, {leaf({1})}, [&](const Tensors& in) -> Tensors {
    return {add(context_, in[0], w), add(context_, w, w)};
  });
  tape.backward(context_, {{y[1], constant({5})}});
  EXPECT_THAT(grad_of(w), ElementsAre(10));
  EXPECT_EQ(fired, 1);
}

TEST_F(Autograd, ACheckpointThatNothingReachesStillPassesItsUses) {
  const Tensor w = leaf({2});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = add(context_, w, w);
  checkpoint(context_, {leaf({1})}, [&](const Tensors& in) -> Tensors { return {add(context_, in[0], w)}; });
  tape.backward(context_, {{y, constant({5})}});
  EXPECT_EQ(fired, 1);
}

TEST_F(Autograd, AnUnreachedCheckpointMayHoldTheLastUse) {
  const Tensor w = leaf({2});
  int fired = 0;
  w.grad_slot()->set_hook([&] { ++fired; });
  Tape tape;
  const TapeScope scope(context_, &tape);
  checkpoint(context_, {leaf({1})}, [&](const Tensors& in) -> Tensors { return {add(context_, in[0], w)}; });
  tape.backward(context_, {{add(context_, w, w), constant({5})}});
  EXPECT_EQ(fired, 1);
}

TEST_F(Autograd, ABlockThatUsesOtherParametersTheSecondTimeIsAnError) {
  const Tensor w = leaf({2});
  bool again = false;
  Tape tape;
  const TapeScope scope(context_, &tape);
  const auto y = checkpoint(context_, {leaf({1})}, [&](const Tensors& in) -> Tensors {
    return {std::exchange(again, true) ? add(context_, in[0], in[0]) : add(context_, in[0], w)};
  });
  EXPECT_THROW(tape.backward(context_, {{y[0], constant({5})}}), Error);
}

// Peak of a recomputed chain: the inputs of the blocks and one block's inside, not two, and no second copy
// of the stream's gradient.
TEST_F(Autograd, CheckpointHoldsOneBlockAtATime) {
  constexpr std::int64_t kValue = 4 * 1000;
  constexpr std::int64_t kKept = 4 * 500;
  const Tensor w = leaf({0});
  std::int64_t inside = 0;
  const std::int64_t before = activations();
  std::int64_t most = 0;
  const auto op = [&](const Tensor& x) {
    Tensor y = context_.empty({1000}, DType::kF32);
    const Tensor kept = context_.empty({500}, DType::kF32);
    record(context_, "test.op", {&x, &w}, {&y}, [&, kept](Backward& b) {
      b.target(1);
      if (b.wants(0)) b.target(0);
      most = std::max(most, activations() - before);
    });
    return y;
  };
  Tape tape;
  const TapeScope scope(context_, &tape);
  Tensor x = op(context_.empty({1000}, DType::kF32));
  for (int block = 0; block < 4; ++block) {
    x = checkpoint(context_, {x}, [&](const Tensors& in) -> Tensors { return {op(op(op(in[0])))}; })[0];
  }
  inside = activations() - before;
  EXPECT_EQ(inside, kKept + (4 + 1) * kValue) << "kept by the first op, four inputs, and the result";
  std::vector<std::pair<Tensor, Tensor>> seeds;
  seeds.emplace_back(std::move(x), context_.empty({1000}, DType::kF32));
  x = Tensor();
  tape.backward(context_, std::move(seeds));
  // Kept by the first op, four inputs, three kept inside the last block, a gradient and the one it makes.
  EXPECT_EQ(most, (1 + 3) * kKept + (4 + 2) * kValue);
  EXPECT_EQ(activations(), before);
}

TEST_F(Autograd, ABlockRunsAgainInTheContextOfBackward) {
  std::vector<Context*> seen;
  const Tensor x = leaf({2});
  Tape tape;
  Tensor y;
  {
    const TapeScope scope(context_, &tape);
    y = checkpoint(context_, {x}, [&](Context& context, const Tensors& in) -> Tensors {
      seen.push_back(&context);
      return {add(context, in[0], in[0])};
    })[0];
  }
  Context other({}, 1);
  tape.backward(other, y);
  EXPECT_THAT(seen, ElementsAre(&context_, &other));
  EXPECT_THAT(grad_of(x), ElementsAre(2));
}

}  // namespace
}  // namespace hone::ops
