// What operations say of arguments that do not fit, and of devices that lack a kernel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/rows.h"
#include "tests/ops/finite_difference.h"

namespace hone::ops {
namespace {

using test::ints;
using testing::StartsWith;

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

class Arguments : public testing::Test {
 protected:
  Tensor f32(Shape shape) { return Tensor::zeros(context_.stream(), std::move(shape), DType::kF32); }
  Tensor bf16(Shape shape) { return Tensor::zeros(context_.stream(), std::move(shape), DType::kBF16); }
  Context context_{{}, 1};
};

TEST_F(Arguments, SizesThatDoNotFitAreNamed) {
  EXPECT_THAT(message_of([&] {
                rms_norm(context_, f32({2, 4096}), f32({2048}), 0);
              }),
              StartsWith("[ops.rms_norm] weight has 2048 elements, last dim of x is 4096"));
  EXPECT_THAT(message_of([&] {
                linear(context_, f32({2, 4}), f32({3, 5}));
              }),
              StartsWith("[ops.linear] weight (3, 5) takes 5 features, x (2, 4) has 4"));
  EXPECT_THAT(message_of([&] {
                linear(context_, f32({2, 4}), f32({3, 4}), f32({4}));
              }),
              StartsWith("[ops.linear] bias has 4 elements, weight (3, 4) gives 3"));
  EXPECT_THAT(message_of([&] {
                linear(context_, f32({2, 4}), f32({3, 4}), {}, f32({3, 2}), DType::kF32);
              }),
              StartsWith("[ops.linear] residual is (3, 2), the result (2, 3)"));
  EXPECT_THAT(message_of([&] {
                gated(context_, f32({2, 4}), f32({4, 2}), Activation::kSilu);
              }),
              StartsWith("[ops.gated] gate is (2, 4), up (4, 2)"));
  EXPECT_THAT(message_of([&] {
                row_gate(context_, f32({2, 4}), f32({2, 4}), {});
              }),
              StartsWith("[ops.row_gate] gate is (2, 4), x (2, 4)"));
  EXPECT_THAT(message_of([&] {
                add(context_, f32({2, 4}), f32({2, 3}));
              }),
              StartsWith("[ops.add] a is (2, 4), b (2, 3)"));
  EXPECT_THAT(message_of([&] {
                take_rows(context_, f32({2, 4}), ints(context_, {0, 1, 1}));
              }),
              StartsWith("[ops.take_rows] 3 different rows of x (2, 4)"));
  EXPECT_THAT(message_of([&] {
                embedding(context_, f32({2, 4}), ints(context_, {0}), 2);
              }),
              StartsWith("[ops.embedding] padding id 2, table (2, 4)"));
  EXPECT_THAT(message_of([&] {
                linear_cross_entropy(context_, f32({2, 4}), f32({9, 4}), ints(context_, {0}), 1);
              }),
              StartsWith("[ops.linear_cross_entropy] 1 targets, hidden (2, 4)"));
  EXPECT_THAT(message_of([&] {
                linear_cross_entropy(context_, f32({2, 4}), f32({9, 4}), ints(context_, {0, 1}), 1, f32({3}));
              }),
              StartsWith("[ops.linear_cross_entropy] 3 weights, hidden (2, 4)"));
  EXPECT_THAT(message_of([&] { clamp(context_, f32({2, 4}), 0); }), StartsWith("[ops.clamp] limit is 0"));
}

TEST_F(Arguments, RotaryArgumentsAreChecked) {
  const RotaryTable table{f32({8, 2}), f32({8, 2})};
  const Tensor positions = ints(context_, {0, 1});
  EXPECT_THAT(message_of([&] {
                head_norm_rope(context_, f32({2, 10}), {}, table, positions, 4, 0);
              }),
              StartsWith("[ops.head_norm_rope] last dim of x is 10, not a multiple of head_dim 4"));
  EXPECT_THAT(message_of([&] {
                head_norm_rope(context_, f32({2, 12}), f32({3}), table, positions, 4, 0);
              }),
              StartsWith("[ops.head_norm_rope] weight has 3 elements, head_dim is 4"));
  EXPECT_THAT(message_of([&] {
                head_norm_rope(context_, f32({2, 9}), {}, table, positions, 3, 0);
              }),
              StartsWith("[ops.head_norm_rope] cos is (8, 2), sin (8, 2), from element 0 on, head_dim 3"));
  EXPECT_THAT(message_of([&] {
                head_norm_rope(context_, f32({3, 8}), {}, table, positions, 4, 0);
              }),
              StartsWith("[ops.head_norm_rope] 2 positions, x (3, 8)"));
}

TEST_F(Arguments, SequencesAreSquareWhereEachHasQueriesAndAsManyKeys) {
  const SequenceLayout whole = SequenceLayout::make(context_, {2, 3, 1});
  EXPECT_TRUE(whole.is_square());
  EXPECT_EQ(whole.max_queries(), 3);
  EXPECT_FALSE(SequenceLayout::make(context_, {2, 0, 1}).is_square());
  const SequenceLayout cached = SequenceLayout::make(context_, {2, 1}, {0, 2}, {2, 4});
  EXPECT_FALSE(cached.is_square());
  EXPECT_EQ(cached.max_queries(), 2);
  const SequenceLayout none = SequenceLayout::make(context_, std::vector<std::int32_t>{});
  EXPECT_FALSE(none.is_square());
  EXPECT_EQ(none.max_queries(), 0);
}

TEST_F(Arguments, AttentionArgumentsAreChecked) {
  const auto layout = SequenceLayout::make(context_, {2});
  const auto attend = [&](const Tensor& q, const Tensor& k, const Tensor& v, const SequenceLayout& l) {
    return message_of([&] { attention(context_, q, k, v, l, 4, 0, 1); });
  };
  EXPECT_THAT(attend(f32({2, 8}), f32({2, 8}), f32({2, 4}), layout),
              StartsWith("[ops.attention] k is (2, 8), v (2, 4), heads of v are 4"));
  EXPECT_THAT(attend(f32({2, 12}), f32({2, 8}), f32({2, 8}), layout),
              StartsWith("[ops.attention] q (2, 12) and k (2, 8) do not make heads of 4 in whole groups"));
  EXPECT_THAT(
      attend(f32({2, 8}), f32({2, 8}), f32({2, 8}), {layout.q_offsets, layout.q_offsets, layout.key_length}),
      StartsWith("[ops.attention] 2 q_offsets, 2 key_begin, 1 key_length"));
  EXPECT_THAT(
      attend(f32({2, 8}), f32({2, 8}), f32({2, 8}), {layout.q_offsets, layout.key_begin, layout.key_length}),
      StartsWith("[ops.attention] 1 sequences, 0 known on the host"));
  Tensor k = f32({3, 8});
  require_grad(k, DType::kF32);
  Tape tape;
  const TapeScope scope(context_, &tape);
  EXPECT_THAT(attend(f32({2, 8}), k, f32({3, 8}), layout),
              StartsWith("[ops.attention] 3 rows of keys, 2 keys of sequences: no gradient through a cache"));
}

TEST_F(Arguments, TypesThatDoNotFitAreNamed) {
  EXPECT_THAT(message_of([&] {
                linear(context_, f32({2, 4}), bf16({3, 4}));
              }),
              StartsWith("[ops.linear] weight is bf16 (3, 4), wanted rank 2, f32"));
  EXPECT_THAT(message_of([&] {
                rms_norm(context_, bf16({2, 4}), f32({4}), 0);
              }),
              StartsWith("[ops.rms_norm] x is bf16, weight f32"));
  EXPECT_THAT(message_of([&] { rms_norm(context_, ints(context_, {1}), f32({4}), 0); }),
              StartsWith("[ops.rms_norm] x is i32 (1), wanted rank 2, f32 or bf16"));
  EXPECT_THAT(message_of([&] { add(context_, {}, f32({4})); }), StartsWith("[ops.add] a is undefined"));
  EXPECT_THAT(message_of([&] {
                linear(context_, f32({2, 4}), f32({3, 4}), {}, {}, DType::kBF16);
              }),
              StartsWith("[ops.linear] result bf16 for weight f32"));
  EXPECT_THAT(message_of([&] { cast(context_, f32({2}), DType::kF16); }), StartsWith("[ops.cast] to f16"));
}

TEST_F(Arguments, TensorsOfAnotherDeviceAreNamed) {
  Context meta(device::Device{device::DeviceType::kMeta, 0});
  EXPECT_THAT(message_of([&] { add(meta, f32({2}), f32({2})); }),
              StartsWith("[ops.add] a is on cpu, the context on meta"));
}

TEST_F(Arguments, WhatKernelsReadAsDenseMemoryMustBeDense) {
  EXPECT_THAT(message_of([&] {
                embedding(context_, f32({4, 8}).columns(0, 4), ints(context_, {0}));
              }),
              StartsWith("[ops.embedding] table (4, 4) has rows 8 elements apart, wanted dense"));
}

TEST_F(Arguments, MatricesMayBeColumnsOfAnother) {
  const Tensor wide = test::random_tensor(context_, {3, 10}, 1);
  const Tensor part = wide.columns(2, 8);
  const Tensor dense = Tensor::empty(context_.allocator(), {3, 6}, DType::kF32);
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 6; ++j) dense.as<float>()[i * 6 + j] = wide.as<float>()[i * 10 + 2 + j];
  const Tensor w = test::random_tensor(context_, {6}, 2);
  const Tensor m = test::random_tensor(context_, {5, 6}, 3);
  EXPECT_EQ(test::values_of(rms_norm(context_, part, w, 0)),
            test::values_of(rms_norm(context_, dense, w, 0)));
  EXPECT_EQ(test::values_of(linear(context_, part, m)), test::values_of(linear(context_, dense, m)));
  EXPECT_EQ(test::values_of(gated(context_, part, dense, Activation::kSilu)),
            test::values_of(gated(context_, dense, dense, Activation::kSilu)));
}

TEST_F(Arguments, AMissingKernelIsNamedWithItsDevice) {
  kernels::KernelTable table = context_.kernels();
  table.rms_norm = nullptr;
  table.activation_grad = nullptr;
  context_.set_kernels(table);
  try {
    rms_norm(context_, f32({2, 4}), f32({4}), 0);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "[ops.rms_norm] not supported on cpu");
    EXPECT_EQ(e.kind(), ErrorKind::kUser);
  }
  Tensor x = f32({2, 4});
  require_grad(x, DType::kF32);
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor y = gated(context_, x, x, Activation::kSilu);
  EXPECT_THAT(message_of([&] {
                tape.backward(context_, {{y, f32({2, 4})}});
              }),
              StartsWith("[ops.gated gradient] not supported on cpu"));
}

}  // namespace
}  // namespace hone::ops
