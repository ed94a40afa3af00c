// Every operation of ops/, through all checks of finite_difference.h, at sizes that are no multiple of
// anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/rows.h"
#include "ops/slices.h"
#include "tests/ops/finite_difference.h"

namespace hone::ops {
namespace {

using test::check_op;
using test::Input;
using test::ints;

constexpr std::int64_t kFloat = sizeof(float);
using Tensors = std::vector<Tensor>;

Input activation(std::string name, Shape shape, double scale = 1, double offset = 0) {
  return {.name = std::move(name), .shape = std::move(shape), .scale = scale, .offset = offset};
}
Input f32_activation(std::string name, Shape shape, double scale = 1) {
  return {.name = std::move(name), .shape = std::move(shape), .scale = scale, .is_f32 = true};
}
Input weight(std::string name, Shape shape, double scale = 1, double offset = 0) {
  return {.name = std::move(name),
          .shape = std::move(shape),
          .scale = scale,
          .offset = offset,
          .is_weight = true};
}

TEST(Linear, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("x", {5, 7}), weight("weight", {9, 7}, 0.4)},
            .program = [](Context& c, const Tensors& in) -> Tensors { return {linear(c, in[0], in[1])}; },
            .kept_bytes = 5 * 7 * kFloat});
}

TEST(Linear, GradMatchesFiniteDifferenceWithBiasAndResidual) {
  check_op({.inputs = {activation("x", {6, 11}), weight("weight", {13, 11}, 0.3), weight("bias", {13}),
                       f32_activation("residual", {6, 13})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {linear(c, in[0], in[1], in[2], in[3], DType::kF32)};
            },
            .kept_bytes = 6 * 11 * kFloat});
}

TEST(Linear, GradMatchesFiniteDifferenceForAWideProductAndOneRow) {
  check_op({.inputs = {activation("x", {1, 70}), weight("weight", {3, 70}, 0.2), weight("bias", {3})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {linear(c, in[0], in[1], in[2], {}, DType::kF32)};
            },
            .reduction = 70,
            .kept_bytes = 70 * kFloat});
}

// Whatever x is: a router kept in f32. In scratch memory while it is multiplied, x is f32 too.
TEST(Linear, GradMatchesFiniteDifferenceOfAnF32Weight) {
  Input w = weight("weight", {9, 7}, 0.4), bias = weight("bias", {9});
  w.is_f32 = bias.is_f32 = true;
  check_op({.inputs = {activation("x", {5, 7}), w, bias},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {linear(c, in[0], in[1], in[2], {}, DType::kF32)};
            },
            .kept_bytes = 5 * 7 * kFloat});
}

TEST(RmsNorm, GradMatchesFiniteDifference) {
  check_op(
      {.inputs = {activation("x", {5, 13}, 0.8), weight("weight", {13}, 0.3, 1)},
       .program = [](Context& c, const Tensors& in) -> Tensors { return {rms_norm(c, in[0], in[1], 1e-5F)}; },
       .kept_bytes = (5 * 13 + 5) * kFloat});
}

TEST(RmsNorm, GradMatchesFiniteDifferenceForAnF32Stream) {
  check_op(
      {.inputs = {f32_activation("x", {3, 37}, 2), weight("weight", {37}, 0.3, 1)},
       .program = [](Context& c, const Tensors& in) -> Tensors { return {rms_norm(c, in[0], in[1], 1e-2F)}; },
       .reduction = 37,
       .kept_bytes = (3 * 37 + 3) * kFloat});
}

TEST(RmsNorm, GradMatchesFiniteDifferenceOfOnePlusTheWeightAndAResidual) {
  check_op({.inputs = {activation("x", {5, 13}, 0.8), weight("weight", {13}, 0.3),
                       f32_activation("residual", {5, 13})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {rms_norm(c, in[0], in[1], 1e-5F, true, in[2])};
            },
            .kept_bytes = (5 * 13 + 5) * kFloat});
}

RotaryTable rotary_table(Context& context, std::int64_t positions, std::int64_t half) {
  std::vector<float> cos;
  std::vector<float> sin;
  for (std::int64_t p = 0; p < positions; ++p) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * std::pow(100.0, -static_cast<double>(i) / 4);
      cos.push_back(static_cast<float>(1.25 * std::cos(angle)));
      sin.push_back(static_cast<float>(1.25 * std::sin(angle)));
    }
  }
  return {Tensor::from<float>(context.stream(), cos, {positions, half}, device::Purpose::kData),
          Tensor::from<float>(context.stream(), sin, {positions, half}, device::Purpose::kData)};
}

TEST(HeadNormRope, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("x", {5, 18})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {head_norm_rope(c, in[0], {}, rotary_table(c, 8, 3), ints(c, {0, 1, 2, 0, 7}), 6, 0)};
            }});
}

TEST(HeadNormRope, GradMatchesFiniteDifferenceWithNorm) {
  check_op(
      {.inputs = {activation("x", {4, 24}), weight("weight", {8}, 0.3, 1)},
       .program = [](Context& c, const Tensors& in) -> Tensors {
         return {head_norm_rope(c, in[0], in[1], rotary_table(c, 8, 4), ints(c, {3, 0, 1, 7}), 8, 1e-5F)};
       },
       .kept_bytes = 4 * 24 * kFloat});
}

TEST(HeadNormRope, GradMatchesFiniteDifferenceWherePartOfAHeadTurns) {
  for (const HeadNormRopeOptions options : {HeadNormRopeOptions{}, HeadNormRopeOptions{.rotary_begin = 6},
                                            HeadNormRopeOptions{.interleaved = true},
                                            HeadNormRopeOptions{.rotary_begin = 5, .interleaved = true}})
    check_op({.inputs = {activation("x", {3, 20}), weight("weight", {10}, 0.3, 1)},
              .program = [=](Context& c, const Tensors& in) -> Tensors {
                return {head_norm_rope(c, in[0], in[1], rotary_table(c, 4, 2), ints(c, {3, 0, 2}), 10, 1e-5F,
                                       options)};
              },
              .kept_bytes = 3 * 20 * kFloat});
}

void check_attention(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim, std::int64_t window) {
  const std::int64_t tokens = 9;
  check_op(
      {.inputs = {activation("q", {tokens, heads * head_dim}), activation("k", {tokens, kv_heads * head_dim}),
                  activation("v", {tokens, kv_heads * head_dim})},
       .program = [=](Context& c, const Tensors& in) -> Tensors {
         return {
             attention(c, in[0], in[1], in[2], SequenceLayout::make(c, {5, 1, 3}), head_dim, window, 0.7F)};
       },
       .kept_bytes = (2 * tokens * (heads + kv_heads) * head_dim + tokens * heads) * kFloat});
}

TEST(Attention, GradMatchesFiniteDifference) {
  check_attention(1, 1, 5, 0);
}
TEST(Attention, GradMatchesFiniteDifferenceWithGroupedHeads) {
  check_attention(4, 2, 3, 0);
}
TEST(Attention, GradMatchesFiniteDifferenceWithAWindow) {
  check_attention(2, 1, 4, 2);
}

TEST(Attention, GradMatchesFiniteDifferenceWithSinksASoftcapAndNarrowValues) {
  constexpr std::int64_t kTokens = 9;
  check_op({.inputs = {activation("q", {kTokens, 4 * 5}), activation("k", {kTokens, 2 * 5}),
                       activation("v", {kTokens, 2 * 3}), weight("sinks", {4})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {attention(c, in[0], in[1], in[2], SequenceLayout::make(c, {5, 1, 3}), 5, 3, 0.7F,
                                {.v_head_dim = 3, .softcap = 1.5F, .sinks = in[3]})};
            },
            .kept_bytes = kTokens * (4 * 5 + 2 * 5 + 2 * 3 + 4 * 3 + 4) * kFloat});
}
TEST(Attention, GradMatchesFiniteDifferenceWhereKeysAreOfNoQuery) {
  check_op({.inputs = {activation("q", {5, 8}), activation("k", {12, 4}), activation("v", {12, 4})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {attention(c, in[0], in[1], in[2],
                                SequenceLayout::make(c, {2, 3, 0}, {0, 6, 10}, {6, 4, 2}), 4, 3, 0.7F)};
            },
            .kept_bytes = (5 * 8 + 2 * 12 * 4 + 5 * 8 + 5 * 2) * kFloat});
}

// relu2's slope bends at 0, a clamped silu's breaks at its limit: tests/kernels has those.
TEST(Gated, GradMatchesFiniteDifference) {
  for (const Activation f :
       {Activation::kIdentity, Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
        Activation::kRelu2, Activation::kSigmoid, Activation::kTanh, Activation::kClampedSilu}) {
    const double offset = f == Activation::kRelu2 ? 3 : 0;
    check_op({.inputs = {activation("gate", {5, 7}, 0.7, offset), activation("up", {5, 7})},
              .program = [f](Context& c, const Tensors& in) -> Tensors {
                return {gated(c, in[0], in[1], f, 1.7F, 4)};
              },
              .kept_bytes = 2 * 5 * 7 * kFloat});
  }
}

TEST(Activate, GradMatchesFiniteDifference) {
  for (const Activation f : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu2,
                             Activation::kSigmoid, Activation::kTanh}) {
    const double offset = f == Activation::kRelu2 ? 3 : 0;
    check_op({.inputs = {activation("x", {5, 7}, 1, offset)},
              .program = [f](Context& c, const Tensors& in) -> Tensors { return {activate(c, in[0], f)}; },
              .kept_bytes = 5 * 7 * kFloat});
  }
}

TEST(Multiply, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("a", {5, 7}), activation("b", {5, 7})},
            .program = [](Context& c, const Tensors& in) -> Tensors { return {multiply(c, in[0], in[1])}; },
            .kept_bytes = 2 * 5 * 7 * kFloat});
}

TEST(RowGate, GradMatchesFiniteDifference) {
  check_op(
      {.inputs = {activation("x", {5, 7}), f32_activation("gate", {5, 1})},
       .program = [](Context& c, const Tensors& in) -> Tensors { return {row_gate(c, in[0], in[1], {})}; },
       .kept_bytes = (5 * 7 + 5) * kFloat});
}

TEST(RowGate, GradMatchesFiniteDifferenceWithResidual) {
  check_op(
      {.inputs = {activation("x", {3, 19}), f32_activation("gate", {3, 1}),
                  f32_activation("residual", {3, 19})},
       .program = [](Context& c, const Tensors& in) -> Tensors { return {row_gate(c, in[0], in[1], in[2])}; },
       .kept_bytes = (3 * 19 + 3) * kFloat});
}

TEST(Add, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("a", {3, 5}), activation("b", {3, 5})},
            .program = [](Context& c, const Tensors& in) -> Tensors { return {add(c, in[0], in[1])}; }});
}

TEST(Add, GradMatchesFiniteDifferenceOfAnF32AndAComputeValue) {
  check_op({.inputs = {f32_activation("a", {17}), activation("b", {17})},
            .program = [](Context& c, const Tensors& in) -> Tensors { return {add(c, in[0], in[1])}; }});
}

TEST(Add, GradMatchesFiniteDifferenceOfAValueWithItself) {
  check_op({.inputs = {activation("x", {3, 5})},
            .program = [](Context& c, const Tensors& in) -> Tensors { return {add(c, in[0], in[0])}; }});
}

TEST(Add, GradMatchesFiniteDifferenceOfAScaledValue) {
  check_op(
      {.inputs = {f32_activation("a", {3, 17}), activation("b", {3, 17})},
       .program = [](Context& c, const Tensors& in) -> Tensors { return {add(c, in[0], in[1], -0.3F)}; }});
}

TEST(Add, GradMatchesFiniteDifferenceOfAValueWithItselfScaled) {
  check_op({.inputs = {activation("x", {3, 5})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {add(c, in[0], in[0], 0.5F)};
            }});
}

TEST(Scale, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("x", {3, 5})},
            .program = [](Context& c, const Tensors& in) -> Tensors { return {scale(c, in[0], 1.7F)}; }});
}

TEST(Scale, ByOneIsTheValueItself) {
  Context context({}, 1);
  const Tensor x = test::random_tensor(context, {3, 5}, 1);
  EXPECT_EQ(scale(context, x, 1).data(), x.data());
}

TEST(Cast, PassesTheGradientOn) {
  check_op({.inputs = {activation("x", {3, 5})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {cast(c, in[0], DType::kF32)};
            }});
}

TEST(Cast, GradHasThePrecisionOfTheNarrowerType) {
  Context context({}, 1);
  Tensor x = test::random_tensor(context, {3, 5}, 1);
  require_grad(x, DType::kF32);
  Tape tape;
  const TapeScope scope(context, &tape);
  const Tensor y = cast(context, x, DType::kBF16);
  EXPECT_EQ(y.dtype(), DType::kBF16);
  const Tensor dy = test::random_tensor(context, {3, 5}, 2, 1, 0, DType::kBF16);
  tape.backward(context, {{y, dy}});
  EXPECT_EQ(x.grad_slot()->grad().dtype(), DType::kF32);
  EXPECT_EQ(test::values_of(x.grad_slot()->grad()), test::values_of(dy));
  EXPECT_LT(test::relative_error(test::values_of(y), test::values_of(x)), 0x1p-9);
}

// On the kink itself there is no finite difference: the convention is torch's.
TEST(Clamp, TheEndsPassTheGradientOn) {
  Context context({}, 1);
  Tensor x =
      Tensor::from<float>(context.stream(), std::vector<float>{-3, -1.5F, -0.5F, 0, 1, 1.5F, 2, 9}, {2, 4});
  require_grad(x, DType::kF32);
  Tape tape;
  const TapeScope scope(context, &tape);
  const Tensor y = clamp(context, x, 1.5F);
  EXPECT_THAT(test::values_of(y), testing::ElementsAre(-1.5, -1.5, -0.5, 0, 1, 1.5, 1.5, 1.5));
  const Tensor dy = test::random_tensor(context, {2, 4}, 3);
  tape.backward(context, {{y, dy}});
  const auto d = test::values_of(dy);
  EXPECT_THAT(test::values_of(x.grad_slot()->grad()),
              testing::ElementsAre(0, d[1], d[2], d[3], d[4], d[5], 0, 0))
      << "as torch.clamp: the ends still pass the gradient";
}

TEST(Clamp, GradMatchesFiniteDifferenceAwayFromTheEnds) {
  check_op({.inputs = {activation("x", {4, 6}, 0.05, 0.7)},
            .program = [](Context& c, const Tensors& in) -> Tensors { return {clamp(c, in[0], 1.5F)}; },
            .kept_bytes = 4 * 6 * kFloat});
}

TEST(Embedding, GradMatchesFiniteDifference) {
  check_op({.inputs = {weight("table", {7, 5})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {embedding(c, in[0], ints(c, {6, 0, 3, 3, 6, 3}))};
            }});
}

TEST(Embedding, PaddingRowGetsNoGradient) {
  for (const auto isa : kernels::available_cpu_isas()) {
    Context context({}, 1);
    context.set_kernels(kernels::cpu_kernels(isa));
    Tensor table = test::random_tensor(context, {4, 3}, 5);
    require_grad(table, DType::kF32);
    for (int step = 0; step < 2; ++step) {  // the second one accumulates
      Tape tape;
      const TapeScope scope(context, &tape);
      const Tensor y = embedding(context, table, ints(context, {1, 2, 1}), 1);
      EXPECT_EQ(test::values_of(y)[0], test::values_of(table)[3]) << "it is still looked up";
      const Tensor dy = Tensor::from<float>(context.stream(), std::vector<float>(9, 1.0F), {3, 3});
      tape.backward(context, {{y, dy}});
    }
    EXPECT_THAT(test::values_of(table.grad_slot()->grad()),
                testing::ElementsAre(0, 0, 0, 0, 0, 0, 2, 2, 2, 0, 0, 0));
  }
}

TEST(TakeRows, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("x", {7, 5})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {take_rows(c, in[0], ints(c, {6, 0, 3}))};
            }});
}

TEST(Gather, GradMatchesFiniteDifferenceOfRowsThatComeOftenOrNever) {
  check_op({.inputs = {activation("x", {7, 5})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {gather(c, in[0], ints(c, {6, 0, 6, 3, 6, 0})), gather(c, in[0], ints(c, {}))};
            }});
}

TEST(TakeRows, GradMatchesFiniteDifferenceOfSeveralChoices) {
  check_op({.inputs = {activation("x", {7, 5})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {take_rows(c, in[0], ints(c, {6, 0, 3})), take_rows(c, in[0], ints(c, {1, 3})),
                      take_rows(c, in[0], ints(c, {}))};
            }});
}

TEST(LinearCrossEntropy, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("hidden", {5, 7}), weight("weight", {11, 7}, 0.5)},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {linear_cross_entropy(c, in[0], in[1], ints(c, {10, 0, 3, 3, 5}), 0.8F).loss};
            },
            .is_loss = true,
            .kept_bytes = 5 * 7 * kFloat});
}

TEST(LinearCrossEntropy, GradMatchesFiniteDifferenceWithALogitScale) {
  check_op({.inputs = {activation("hidden", {5, 7}), weight("weight", {11, 7})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {
                  linear_cross_entropy(c, in[0], in[1], ints(c, {10, 0, 3, 3, 5}), 0.8F, {}, {.scale = 0.4F})
                      .loss};
            },
            .is_loss = true,
            .kept_bytes = 5 * 7 * kFloat});
}

TEST(LinearCrossEntropy, GradMatchesFiniteDifferenceWithASoftcap) {
  check_op({.inputs = {activation("hidden", {5, 7}), weight("weight", {11, 7})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              return {linear_cross_entropy(c, in[0], in[1], ints(c, {10, 0, 3, 3, 5}), 0.8F, {},
                                           {.scale = 0.7F, .softcap = 1.5F})
                          .loss};
            },
            .is_loss = true,
            .kept_bytes = 5 * 7 * kFloat});
}

// Of words 3 … 13: the second and the last target are none of them.
TEST(HeadStatistics, GradMatchesFiniteDifference) {
  for (const float softcap : {0.0F, 1.5F})
    check_op({.inputs = {activation("hidden", {5, 7}), weight("weight", {11, 7})},
              .program = [softcap](Context& c, const Tensors& in) -> Tensors {
                const auto s = head_statistics(c, in[0], in[1], ints(c, {13, 2, 3, 3, -1}), 3,
                                               {.scale = 0.7F, .softcap = softcap});
                return {s.lse, s.target_logit};
              },
              .kept_bytes = (5 * 7 + 5) * kFloat});
}

TEST(HeadLogits, GradMatchesFiniteDifference) {
  for (const float softcap : {0.0F, 1.5F})
    check_op({.inputs = {activation("hidden", {5, 7}), weight("weight", {11, 7})},
              .program = [softcap](Context& c, const Tensors& in) -> Tensors {
                return {head_logits(c, in[0], in[1], {.scale = 0.7F, .softcap = softcap})};
              },
              .kept_bytes = (5 * 7 + (softcap > 0 ? 5 * 11 : 0)) * kFloat});
}

TEST(LinearCrossEntropy, GradMatchesFiniteDifferenceWithWeights) {
  check_op({.inputs = {activation("hidden", {4, 7}), weight("weight", {11, 7}, 0.5)},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              const Tensor weights = Tensor::from<float>(c.stream(), std::vector<float>{0.5F, 2, 0, 1.25F},
                                                         {4}, device::Purpose::kData);
              return {linear_cross_entropy(c, in[0], in[1], ints(c, {10, 0, 3, 5}), 0.8F, weights).loss};
            },
            .is_loss = true,
            .kept_bytes = 4 * 7 * kFloat});
}

TEST(SplitColumns, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("x", {5, 12})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              const auto parts = split_columns(c, in[0], {4, 0, 4, 4});
              return {add(c, add(c, parts[3], parts[0]), parts[2])};
            }});
}

TEST(SplitColumns, GradMatchesFiniteDifferenceWhereAPartIsNotUsed) {
  check_op({.inputs = {activation("x", {3, 9})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              const auto parts = split_columns(c, in[0], {4, 1, 4});
              return {add(c, parts[0], parts[2])};
            }});
}

TEST(SplitColumns, GradMatchesFiniteDifferenceOfAWeight) {
  check_op({.inputs = {activation("x", {3, 5}), weight("weight", {8, 5}, 0.4)},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              const auto parts = split_rows(c, in[1], {6, 2});
              return {linear(c, in[0], parts[0]), linear(c, in[0], parts[1])};
            },
            .kept_bytes = 3 * 5 * kFloat});
}

TEST(SplitRows, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("x", {7, 5})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              const auto parts = split_rows(c, in[0], {3, 1, 3});
              return {add(c, parts[0], parts[2]), add(c, parts[1], parts[1])};
            }});
}

TEST(Columns, GradMatchesFiniteDifferenceOfPartsThatOverlap) {
  check_op({.inputs = {activation("x", {4, 10})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {add(c, columns(c, in[0], 0, 6), columns(c, in[0], 3, 9))};
            }});
}

TEST(Rows, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("x", {6, 3})}, .program = [](Context& c, const Tensors& in) -> Tensors {
              return {add(c, rows(c, in[0], 1, 5), rows(c, in[0], 2, 6))};
            }});
}

TEST(ConcatColumns, GradMatchesFiniteDifference) {
  check_op({.inputs = {activation("a", {4, 3}), activation("b", {4, 6})},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              const Tensor y = concat_columns(c, {in[0], in[1], in[0]});
              return {add(c, columns(c, y, 0, 6), columns(c, y, 6, 12))};
            }});
}

}  // namespace
}  // namespace hone::ops
