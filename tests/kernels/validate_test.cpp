// The checks of kernel arguments: what a kernel would misread is refused. (slots_test.cpp: every case of the
// sweeps passes them.)
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <deque>

#include "base/error.h"
#include "kernels/kernels.h"

namespace hone::test {
namespace {

using namespace kernels;  // the Args

/// Of memory that no other has.
Matrix matrix(DType dtype, std::int64_t rows, std::int64_t cols) {
  static std::deque<std::array<float, 64>> memory;
  return {memory.emplace_back().data(), dtype, rows, cols, cols};
}
constexpr DType kF = DType::kF32, kB = DType::kBF16;

TEST(KernelArguments, OfAProductAreOneType) {
  MatmulArgs a{.a = matrix(kF, 2, 3), .b = matrix(kF, 3, 4), .c = matrix(kF, 2, 4), .residual = {}};
  EXPECT_NO_THROW(validate(a));
  a.c.dtype = kB;  // half the memory that the kernel would write
  EXPECT_THROW(validate(a), Error);
  a.a.dtype = a.b.dtype = kB;
  EXPECT_NO_THROW(validate(a));
  a.b.dtype = kF;
  EXPECT_THROW(validate(a), Error);
  a.b = matrix(kB, 2, 4);
  EXPECT_THROW(validate(a), Error) << "k";
  a.b = matrix(kB, 3, 4);
  a.c.stride = 3;
  EXPECT_THROW(validate(a), Error) << "rows that overlap";
  a.c.stride = 4;
  a.fp8 = true;
  EXPECT_NO_THROW(validate(a));
  a.a = matrix(kB, 3, 2);
  a.transpose_a = true;
  EXPECT_THROW(validate(a), Error) << "a gradient of weights is not of FP8";
}

TEST(KernelArguments, MayBeAbsentButNotOfAnotherShape) {
  RmsNormGradArgs a{.dy = matrix(kB, 3, 4), .x = matrix(kF, 3, 4), .dx = {}, .weight_dtype = kB};
  EXPECT_NO_THROW(validate(a));
  a.dx = matrix(kF, 3, 5);
  EXPECT_THROW(validate(a), Error);
  a.dx = matrix(kF, 3, 4);
  EXPECT_NO_THROW(validate(a));
  a.weight_dtype = kF;  // dy is bf16
  EXPECT_THROW(validate(a), Error);
}

TEST(KernelArguments, OfSequencesAreWhatTheHostSaysOfThem) {
  AttentionArgs a{
      .q = matrix(kF, 5, 8), .k = matrix(kF, 5, 4), .v = matrix(kF, 5, 4), .out = matrix(kF, 5, 8)};
  a.heads = 2;
  a.kv_heads = 1;
  a.head_dim = 4;
  a.sequences = 2;
  a.pairs = 9;
  EXPECT_NO_THROW(validate(a)) << "nothing is known";
  a.max_queries = 3;
  a.are_square = true;
  EXPECT_NO_THROW(validate(a));
  a.max_queries = 2;
  EXPECT_THROW(validate(a), Error) << "two of them have four";
  a.max_queries = 6;
  EXPECT_THROW(validate(a), Error) << "there are five";
  a.max_queries = 3;
  a.k.rows = a.v.rows = 4;
  EXPECT_THROW(validate(a), Error) << "fewer keys than queries";
}

TEST(KernelArguments, OfARotationWithoutANormAreWhatTheyAre) {
  HeadNormRopeGradArgs a{.dy = matrix(kF, 2, 8), .x = {}, .dx = matrix(kB, 2, 8)};
  a.heads = 2;
  a.head_dim = 4;
  a.rotary_dim = 4;
  EXPECT_NO_THROW(validate(a));
  a.rotary_dim = 6;
  EXPECT_THROW(validate(a), Error);
}

TEST(KernelArguments, ShareNoMemoryWithAResult) {
  MatmulArgs a{.a = matrix(kF, 3, 3), .b = matrix(kF, 3, 3), .c = matrix(kF, 3, 3), .residual = {}};
  EXPECT_NO_THROW(validate(a));
  a.c.data = a.b.data;
  EXPECT_THROW(validate(a), Error);
  // Columns of one matrix side by side, and such that overlap by one.
  auto* memory = static_cast<float*>(matrix(kF, 3, 12).data);
  a.a = {memory, kF, 3, 3, 12};
  a.c = {memory + 3, kF, 3, 3, 12};
  EXPECT_NO_THROW(validate(a));
  a.c.data = memory + 9;
  EXPECT_NO_THROW(validate(a));
  a.c.data = memory + 2;
  EXPECT_THROW(validate(a), Error);
  a.c.data = memory + 10;  // its last column is the next row's first
  EXPECT_THROW(validate(a), Error);
}

TEST(KernelArguments, AreOnesOwnResultOnlyWhereTheKernelWorksInPlace) {
  const Matrix x = matrix(kF, 2, 8), y = matrix(kF, 2, 8);
  EXPECT_NO_THROW(validate(ActivationArgs{.gate = x, .up = y, .y = x}));
  EXPECT_NO_THROW(validate(CopyArgs{.x = x, .y = x, .alpha = 2}));
  Matrix narrow = x;
  narrow.dtype = kB;
  EXPECT_THROW(validate(CopyArgs{.x = x, .y = narrow}), Error);
  HeadNormRopeArgs rope{.x = x, .y = x, .heads = 2, .head_dim = 4, .rotary_dim = 4};
  EXPECT_NO_THROW(validate(rope));
  rope.weight = y.data;
  rope.has_weight = true;
  EXPECT_THROW(validate(rope), Error) << "a norm";
}

TEST(KernelArguments, AgreeWithTheirFlags) {
  RmsNormArgs a{.x = matrix(kF, 2, 4), .y = matrix(kF, 2, 4)};
  float rstd[2];
  a.rstd = rstd;
  EXPECT_THROW(validate(a), Error) << "given, but not wanted";
  a.wants_rstd = true;
  EXPECT_NO_THROW(validate(a));
  a.rstd = nullptr;
  EXPECT_THROW(validate(a), Error) << "wanted, but nowhere to go";
  a.x.data = a.y.data = nullptr;
  EXPECT_NO_THROW(validate(a)) << "on the meta device";
}

TEST(KernelArguments, OfAttentionHaveHeadsOfTheSizesTold) {
  AttentionGradArgs g;
  AttentionArgs& a = g.forward;
  a.q = matrix(kF, 2, 8);
  a.k = matrix(kF, 2, 4);
  a.v = matrix(kF, 2, 3);
  a.out = matrix(kF, 2, 6);
  g.dq = matrix(kF, 2, 8);
  g.dk = matrix(kF, 2, 4);
  g.dv = matrix(kF, 2, 3);
  g.dout = matrix(kF, 2, 6);
  a.heads = 2;
  a.kv_heads = a.sequences = 1;
  a.head_dim = 4;
  a.pairs = 3;
  float lse[4];
  a.lse = lse;
  a.wants_lse = true;
  EXPECT_THROW(validate(g), Error) << "v's are as k's";
  a.v_head_dim = 3;
  EXPECT_NO_THROW(validate(g));
  g.dout = matrix(kF, 2, 8);
  EXPECT_THROW(validate(g), Error) << "dout is as q";
  g.dout = matrix(kF, 2, 6);
  for (const float cap : {-1.0F, INFINITY, NAN}) {
    a.softcap = cap;
    EXPECT_THROW(validate(g), Error) << cap;
  }
  a.softcap = 2;
  float sinks[2], dsinks[2];
  g.dsinks = dsinks;
  g.wants_dsinks = true;
  EXPECT_THROW(validate(g), Error) << "of no sinks";
  a.sinks = sinks;
  a.has_sinks = true;
  EXPECT_NO_THROW(validate(g));
  g.dsinks_dtype = DType::kI32;
  EXPECT_THROW(validate(g), Error);
}

TEST(KernelArguments, OfExpertsFitTheirForm) {
  ExpertsGradArgs g;
  ExpertsArgs& a = g.forward;
  a.x = matrix(kF, 2, 4);
  a.y = matrix(kF, 2, 4);
  g.dy = matrix(kF, 2, 4);
  float numbers[64];
  a.gate_up.data = a.down.data = numbers;
  a.experts = a.ffn = 2;
  a.top_k = 1;
  a.wants_pre_activation = true;
  a.pre_activation = numbers;
  EXPECT_NO_THROW(validate(a));
  EXPECT_NO_THROW(validate(g));
  a.activation = Activation::kClampedSilu;
  EXPECT_THROW(validate(a), Error) << "of no limit";
  a.limit = 7;
  EXPECT_NO_THROW(validate(a));
  a.gated = false;
  EXPECT_THROW(validate(a), Error) << "clamped without a gate";
  a.activation = Activation::kRelu2;
  EXPECT_NO_THROW(validate(a));
  a.has_down_bias = true;
  EXPECT_THROW(validate(a), Error);
  a.down_bias = numbers;
  EXPECT_NO_THROW(validate(a));
  g.wants_dgate_up_bias = true;
  g.dgate_up_bias = numbers;
  EXPECT_THROW(validate(g), Error) << "of no bias";
  a.has_gate_up_bias = true;
  a.gate_up_bias = numbers;
  EXPECT_NO_THROW(validate(g));
  double squares[2];
  g.wants_ddown_squares = true;
  g.ddown_squares = squares;
  EXPECT_THROW(validate(g), Error) << "of no gradient";
  g.wants_ddown = true;
  g.ddown = numbers;
  EXPECT_NO_THROW(validate(g));
  a.y = matrix(kB, 2, 4);
  EXPECT_THROW(validate(a), Error) << "T is f32";
  a.x = matrix(kB, 2, 4);
  EXPECT_NO_THROW(validate(a));
  a.gate_up.kind = WeightKind::kFp8Block;
  EXPECT_THROW(validate(a), Error) << "no scales";
  a.gate_up.scales = numbers;
  EXPECT_NO_THROW(validate(a));
  a.fp8 = true;
  EXPECT_THROW(validate(a), Error) << "quantised already";
  a.fp8 = false;
  EXPECT_NO_THROW(validate(g));
  g.wants_dgate_up = true;
  g.dgate_up = numbers;
  EXPECT_THROW(validate(g), Error) << "quantised weights have no gradient";
  a.gate_up.kind = WeightKind::kMxfp4;
  EXPECT_THROW(validate(a), Error) << "k is 4";
  a.x = matrix(kB, 1, 32);
  a.y = matrix(kB, 1, 32);
  EXPECT_NO_THROW(validate(a));
}

TEST(KernelArguments, OfARouterChooseAmongItsExperts) {
  EXPECT_THROW(validate(RouterArgs{.tokens = 1, .experts = 2, .top_k = 3, .rule = {}}), Error);
  EXPECT_NO_THROW(validate(RouterArgs{.tokens = 1, .experts = 2, .top_k = 2, .rule = {}}));
  RouterArgs a{.tokens = 1, .experts = 12, .top_k = 3, .rule = {}};
  const auto accepts = [&a](auto change) {
    RouterArgs changed = a;
    change(changed.rule);
    try {
      validate(changed);
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  using Rule = RouterRule;
  a.rule = {.groups = 4, .top_groups = 1};
  EXPECT_TRUE(accepts([](Rule&) {}));
  EXPECT_FALSE(accepts([](Rule& r) { r.groups = 5; }));
  EXPECT_FALSE(accepts([](Rule& r) { r.groups = 6; })) << "two experts to choose three from";
  EXPECT_TRUE(accepts([](Rule& r) { r.groups = 6, r.top_groups = 2; }));
  EXPECT_FALSE(accepts([](Rule& r) { r.top_groups = 5; }));
  a.rule = {.group_score = Rule::GroupScore::kTopTwoSum, .groups = 12, .top_groups = 3};
  EXPECT_FALSE(accepts([](Rule&) {})) << "groups of one have no best two";
  EXPECT_TRUE(accepts([](Rule& r) { r.group_score = Rule::GroupScore::kMax; }));
  a.rule = {.normalize = true};
  EXPECT_FALSE(accepts([](Rule& r) { r.score = Rule::Score::kSoftmaxOfChosen; }));
  EXPECT_FALSE(accepts([](Rule& r) { r.normalize_eps = -1; }));
  for (const float scaling : {0.0F, -1.0F, INFINITY, NAN})
    EXPECT_FALSE(accepts([&](Rule& r) { r.scaling = scaling; })) << scaling;
  float bias[12] = {}, logits[12] = {};
  a.correction_bias = bias;
  EXPECT_FALSE(accepts([](Rule&) {})) << "its flag is not set";
  a.has_correction_bias = true;
  EXPECT_TRUE(accepts([](Rule&) {}));
  a.logits = logits;
  a.correction_bias = nullptr;
  EXPECT_FALSE(accepts([](Rule&) {}));
}

TEST(KernelArguments, OfALatentAreItsHeads) {
  MlaKeysValuesArgs a{.kv = matrix(kF, 2, 10),
                      .k_pe = matrix(kF, 2, 2),
                      .k = matrix(kF, 2, 8),
                      .v = matrix(kF, 2, 6),
                      .heads = 2,
                      .nope_dim = 2,
                      .rope_dim = 2,
                      .v_dim = 3};
  EXPECT_NO_THROW(validate(a));
  a.v_dim = 4;
  EXPECT_THROW(validate(a), Error);
  a.v_dim = 3;
  a.k_pe.data = static_cast<float*>(a.k.data) + 2;
  EXPECT_THROW(validate(a), Error) << "k over what it is made of";
  MlaKeysValuesGradArgs g{.dk = {}, .dv = matrix(kF, 2, 6), .dkv = {}, .dk_pe = {}};
  g.heads = g.nope_dim = g.rope_dim = 2;
  g.v_dim = 3;
  EXPECT_THROW(validate(g), Error) << "nothing is wanted";
  g.dkv = matrix(kB, 2, 10);
  EXPECT_NO_THROW(validate(g));
  g.dv = matrix(kF, 3, 6);
  EXPECT_THROW(validate(g), Error);
}

}  // namespace
}  // namespace hone::test
