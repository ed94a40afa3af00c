// What the operations compute, against their definitions in double; and what they keep where parts are
// frozen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/rows.h"
#include "tests/ops/finite_difference.h"
#include "tests/tolerance.h"

namespace hone::ops {
namespace {

using test::ints;
using test::random_tensor;
using test::values_of;
using Values = std::vector<double>;

/// Runs `f` for each instruction set and compute dtype.
void for_each(const std::function<void(Context&, DType)>& f) {
  for (const auto isa : kernels::available_cpu_isas()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(fmt::format("{} {}", kernels::name_of(isa), name_of(dtype)));
      Context context({}, 2);
      context.set_kernels(kernels::cpu_kernels(isa));
      f(context, dtype);
    }
  }
}

Tensor input(Context& context, const Shape& shape, std::uint64_t seed, DType dtype) {
  return random_tensor(context, shape, seed, 1, 0, dtype);
}

// The weight's low bits count: a bf16 x beside an f32 weight is multiplied as the f32 x that it is. Only its
// own gradient is rounded, once a step.
TEST(Values, LinearOfAnF32WeightHasTheBitsOfF32WhateverXIs) {
  for (const auto isa : kernels::available_cpu_isas()) {
    SCOPED_TRACE(kernels::name_of(isa));
    Context c({}, 2);
    c.set_kernels(kernels::cpu_kernels(isa));
    const Tensor dy = input(c, {21, 11}, 4, DType::kF32);
    const auto run = [&](DType dtype) {
      Tensor x = cast(c, input(c, {21, 37}, 1, DType::kBF16), dtype);
      Tensor w = input(c, {11, 37}, 2, DType::kF32), bias = input(c, {11}, 3, DType::kF32);
      require_grad(x, dtype);
      require_grad(w, DType::kF32);
      require_grad(bias, DType::kF32);
      std::vector<Values> all;
      for (int step = 0; step < 2; ++step) {  // the second adds to the gradients
        Tape tape;
        const TapeScope scope(c, &tape);
        const Tensor y = linear(c, x, w, bias, {}, DType::kF32);
        all = {values_of(y)};
        tape.backward(c, {{y, dy}});
      }
      for (const Tensor* t : {&bias, &w, &x}) all.push_back(values_of(t->grad_slot()->grad()));
      return all;
    };
    const auto narrow = run(DType::kBF16), wide = run(DType::kF32);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(narrow[i], wide[i]) << i;
    EXPECT_LT(test::relative_distance(narrow[3], wide[3]), test::tolerance(DType::kBF16, 2));
  }
}

TEST(Values, LinearIsAProductWithBiasAndResidual) {
  for_each([](Context& c, DType dtype) {
    const Tensor x = input(c, {5, 37}, 1, dtype);
    const Tensor w = input(c, {11, 37}, 2, dtype);
    const Tensor bias = input(c, {11}, 3, dtype);
    const Tensor residual = input(c, {5, 11}, 4, DType::kF32);
    const Values xs = values_of(x);
    const Values ws = values_of(w);
    Values y;
    for (std::size_t i = 0; i < 5; ++i) {
      for (std::size_t o = 0; o < 11; ++o) {
        double sum = values_of(bias)[o] + values_of(residual)[i * 11 + o];
        for (std::size_t k = 0; k < 37; ++k) sum += xs[i * 37 + k] * ws[o * 37 + k];
        y.push_back(sum);
      }
    }
    const Tensor wide = linear(c, x, w, bias, residual, DType::kF32);
    EXPECT_LT(test::relative_distance(values_of(wide), y), test::tolerance(DType::kF32, 37));
    const Tensor narrow = linear(c, x, w, bias, residual, dtype);
    EXPECT_EQ(narrow.dtype(), dtype);
    EXPECT_LT(test::relative_distance(values_of(narrow), y), test::tolerance(dtype, 37));
  });
}

TEST(Values, RmsNormDividesByTheRootMeanSquare) {
  for_each([](Context& c, DType dtype) {
    const Tensor x = input(c, {3, 21}, 1, DType::kF32);
    const Tensor w = input(c, {21}, 2, dtype);
    Values y = values_of(x);
    for (std::size_t i = 0; i < 3; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < 21; ++j) sum += y[i * 21 + j] * y[i * 21 + j];
      for (std::size_t j = 0; j < 21; ++j) y[i * 21 + j] *= values_of(w)[j] / std::sqrt(sum / 21 + 0.01);
    }
    const Tensor result = rms_norm(c, x, w, 0.01F);
    EXPECT_EQ(result.dtype(), dtype);
    EXPECT_LT(test::relative_distance(values_of(result), y), test::tolerance(dtype, 21));
  });
}

TEST(Values, HeadNormRopeNormsEveryHeadAndTurnsItsHalves) {
  for_each([](Context& c, DType dtype) {
    constexpr std::size_t kTokens = 3, kHeads = 2, kDim = 10, kHalf = 4;  // 8 of 10 elements turn
    const Tensor x = input(c, {kTokens, kHeads * kDim}, 1, dtype);
    const Tensor w = input(c, {kDim}, 2, dtype);
    const RotaryTable table{input(c, {6, kHalf}, 3, DType::kF32), input(c, {6, kHalf}, 4, DType::kF32)};
    const std::vector<std::int32_t> positions{5, 0, 2};
    for (const bool norm : {false, true}) {
      Values y;
      for (std::size_t t = 0; t < kTokens; ++t) {
        for (std::size_t h = 0; h < kHeads; ++h) {
          Values v(kDim);
          double sum = 0;
          for (std::size_t d = 0; d < kDim; ++d) {
            v[d] = values_of(x)[(t * kHeads + h) * kDim + d];
            sum += v[d] * v[d];
          }
          for (std::size_t d = 0; d < kDim && norm; ++d)
            v[d] *= values_of(w)[d] / std::sqrt(sum / kDim + 0.01);
          Values turned = v;
          for (std::size_t i = 0; i < kHalf; ++i) {
            const auto at = static_cast<std::size_t>(positions[t]) * kHalf + i;
            const double cos = values_of(table.cos)[at];
            const double sin = values_of(table.sin)[at];
            turned[i] = v[i] * cos - v[i + kHalf] * sin;
            turned[i + kHalf] = v[i + kHalf] * cos + v[i] * sin;
          }
          y.insert(y.end(), turned.begin(), turned.end());
        }
      }
      const Tensor result = head_norm_rope(c, x, norm ? w : Tensor(), table, ints(c, positions), kDim, 0.01F);
      EXPECT_LT(test::relative_distance(values_of(result), y), test::tolerance(dtype, kDim)) << norm;
    }
  });
}

/// Causal attention as its definition reads. Sequence s has queries q_offsets[s] … and ends where its keys
/// do.
Values naive_attention(const Values& q, const Values& k, const Values& v, std::size_t heads,
                       std::size_t kv_heads, std::size_t dim, const std::vector<std::int32_t>& q_offsets,
                       const std::vector<std::int32_t>& key_begin,
                       const std::vector<std::int32_t>& key_length, std::size_t window, double scale) {
  Values out(q.size());
  for (std::size_t s = 0; s < key_begin.size(); ++s) {
    const auto queries = static_cast<std::size_t>(q_offsets[s + 1] - q_offsets[s]);
    const auto keys = static_cast<std::size_t>(key_length[s]);
    for (std::size_t i = 0; i < queries; ++i) {
      const std::size_t position = keys - queries + i;
      const std::size_t first = window > 0 && position + 1 > window ? position + 1 - window : 0;
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t at = ((static_cast<std::size_t>(q_offsets[s]) + i) * heads + h) * dim;
        double total = 0;
        Values sum(dim);
        for (std::size_t p = first; p <= position; ++p) {
          const std::size_t key =
              ((static_cast<std::size_t>(key_begin[s]) + p) * kv_heads + h / (heads / kv_heads)) * dim;
          double score = 0;
          for (std::size_t d = 0; d < dim; ++d) score += q[at + d] * k[key + d];
          const double weight = std::exp(scale * score);
          total += weight;
          for (std::size_t d = 0; d < dim; ++d) sum[d] += weight * v[key + d];
        }
        for (std::size_t d = 0; d < dim; ++d) out[at + d] = sum[d] / total;
      }
    }
  }
  return out;
}

TEST(Values, AttentionIsCausalGroupedAndKeepsSequencesApart) {
  for_each([](Context& c, DType dtype) {
    const std::vector<std::int32_t> offsets{0, 5, 6, 13};
    const std::vector<std::int32_t> begin{0, 5, 6};
    const std::vector<std::int32_t> length{5, 1, 7};
    for (const std::size_t window : {0U, 1U, 3U, 100U}) {
      const Tensor q = input(c, {13, 6 * 5}, 1, dtype);
      const Tensor k = input(c, {13, 2 * 5}, 2, dtype);
      const Tensor v = input(c, {13, 2 * 5}, 3, dtype);
      const Tensor out = attention(c, q, k, v, SequenceLayout::make(c, {5, 1, 7}), 5,
                                   static_cast<std::int64_t>(window), 0.4F);
      const Values wanted = naive_attention(values_of(q), values_of(k), values_of(v), 6, 2, 5, offsets, begin,
                                            length, window, 0.4);
      EXPECT_LT(test::relative_distance(values_of(out), wanted), test::tolerance(dtype, 13)) << window;
    }
  });
}

TEST(Values, AttentionReadsKeysFromACache) {
  for_each([](Context& c, DType dtype) {
    const std::vector<std::int32_t> offsets{0, 1, 4};  // one new token, and three
    const std::vector<std::int32_t> begin{10, 0};
    const std::vector<std::int32_t> length{9, 5};
    const Tensor q = input(c, {4, 8}, 1, dtype);
    const Tensor k = input(c, {20, 4}, 2, dtype);
    const Tensor v = input(c, {20, 4}, 3, dtype);
    const Tensor out = attention(c, q, k, v, SequenceLayout::make(c, {1, 3}, begin, length), 4, 6, 0.4F);
    const Values wanted =
        naive_attention(values_of(q), values_of(k), values_of(v), 2, 1, 4, offsets, begin, length, 6, 0.4);
    EXPECT_LT(test::relative_distance(values_of(out), wanted), test::tolerance(dtype, 9));
  });
}

TEST(Values, AttentionTellsTheLogOfItsSumsWhereAsked) {
  for_each([](Context& c, DType dtype) {
    const Tensor q = input(c, {7, 2 * 4}, 1, dtype), k = input(c, {7, 4}, 2, dtype);
    const Tensor v = input(c, {7, 4}, 3, dtype), sinks = input(c, {2}, 4, dtype);
    Tensor lse;
    attention(c, q, k, v, SequenceLayout::make(c, {7}), 4, 0, 0.4F,
              {.softcap = 0.8F, .sinks = sinks, .lse = &lse});
    ASSERT_EQ(lse.shape(), (Shape{7, 2}));
    const Values qs = values_of(q), ks = values_of(k), sink = values_of(sinks);
    Values wanted;
    for (std::size_t i = 0; i < 7; ++i)
      for (std::size_t h = 0; h < 2; ++h) {
        double sum = std::exp(sink[h]);
        for (std::size_t j = 0; j <= i; ++j) {
          double score = 0;
          for (std::size_t d = 0; d < 4; ++d) score += qs[(i * 2 + h) * 4 + d] * ks[j * 4 + d];
          sum += std::exp(0.8 * std::tanh(score * 0.4 / 0.8));
        }
        wanted.push_back(std::log(sum));
      }
    EXPECT_LT(test::relative_distance(values_of(lse), wanted), test::tolerance(DType::kF32, 8));
  });
}

TEST(Values, ElementwiseOperationsAreTheirFormulas) {
  for_each([](Context& c, DType dtype) {
    const Tensor a = input(c, {3, 19}, 1, dtype);
    const Tensor b = input(c, {3, 19}, 2, dtype);
    const Tensor gate = input(c, {3, 1}, 3, DType::kF32);
    const Tensor residual = input(c, {3, 19}, 4, DType::kF32);
    const Values as = values_of(a);
    const Values bs = values_of(b);
    Values silu, sum, gated, clamped;
    for (std::size_t i = 0; i < as.size(); ++i) {
      silu.push_back(as[i] / (1 + std::exp(-as[i])) * bs[i]);
      sum.push_back(as[i] + bs[i]);
      gated.push_back(values_of(residual)[i] + as[i] / (1 + std::exp(-values_of(gate)[i / 19])));
      clamped.push_back(std::clamp(as[i], -0.5, 0.5));
    }
    const double near = test::tolerance(dtype, 1);
    EXPECT_LT(test::relative_distance(values_of(ops::gated(c, a, b, Activation::kSilu)), silu), near);
    EXPECT_LT(test::relative_distance(values_of(add(c, a, b)), sum), near);
    const Tensor g = row_gate(c, a, gate, residual);
    EXPECT_EQ(g.dtype(), DType::kF32);
    EXPECT_LT(test::relative_distance(values_of(g), gated), test::tolerance(DType::kF32, 1));
    EXPECT_EQ(row_gate(c, a, gate, {}).dtype(), dtype);
    EXPECT_EQ(values_of(clamp(c, a, 0.5F)), clamped);
    EXPECT_EQ(cast(c, a, dtype).data(), a.data()) << "nothing to do";
    EXPECT_EQ(values_of(cast(c, a, DType::kF32)), as);
  });
}

// What is fused could be written from small operations: the same numbers but for what those round between.
TEST(Values, FusedOperationsAreTheirPartsOneAfterAnother) {
  for_each([](Context& c, DType dtype) {
    const double near = 2 * test::tolerance(dtype, 1);
    const auto expect_same = [&](const Tensor& fused, const Tensor& parts) {
      EXPECT_LT(test::relative_distance(values_of(fused), values_of(parts)), near);
    };
    const Tensor a = input(c, {7, 19}, 1, dtype), b = input(c, {7, 19}, 2, dtype);
    const Tensor residual = input(c, {7, 19}, 4, DType::kF32), w = input(c, {19}, 5, dtype);
    for (const Activation f : {Activation::kIdentity, Activation::kSilu, Activation::kGelu,
                               Activation::kGeluTanh, Activation::kRelu2, Activation::kSigmoid})
      expect_same(gated(c, a, b, f), multiply(c, activate(c, a, f), b));
    expect_same(activate(c, a, Activation::kSilu), multiply(c, a, activate(c, a, Activation::kSigmoid)));
    const Tensor sigmoid = activate(c, scale(c, a, 1.7F), Activation::kSigmoid);
    const Tensor silu = multiply(c, a, sigmoid);
    expect_same(gated(c, a, b, Activation::kClampedSilu, 1.7F, 9), add(c, multiply(c, silu, b), silu));
    const Tensor normed = rms_norm(c, a, w, 1e-5F);
    const Tensor added = rms_norm(c, a, w, 1e-5F, false, residual);
    EXPECT_EQ(added.dtype(), DType::kF32);
    expect_same(added, add(c, residual, normed));
    const Tensor ones = random_tensor(c, {19}, 6, 0, 1, dtype);
    expect_same(rms_norm(c, a, w, 1e-5F, true), add(c, normed, rms_norm(c, a, ones, 1e-5F)));
  });
}

TEST(Values, LookUpsCopyRows) {
  for_each([](Context& c, DType dtype) {
    const Tensor table = input(c, {5, 3}, 1, dtype);
    Values wanted;
    for (const std::size_t row : {4U, 0U})
      for (std::size_t j = 0; j < 3; ++j) wanted.push_back(values_of(table)[row * 3 + j]);
    EXPECT_EQ(values_of(embedding(c, table, ints(c, {4, 0}))), wanted);
    EXPECT_EQ(embedding(c, table, ints(c, {4, 0})).dtype(), DType::kF32);
    EXPECT_EQ(values_of(take_rows(c, table, ints(c, {4, 0}))), wanted);
    EXPECT_EQ(gather(c, table, ints(c, {4, 0})).dtype(), dtype);
    EXPECT_EQ(values_of(gather(c, table, ints(c, {4, 0}))), wanted);
  });
}

TEST(Values, CrossEntropyIsTheNegativeLogOfTheTargetsProbability) {
  for_each([](Context& c, DType dtype) {
    const Tensor h = input(c, {6, 20}, 1, dtype);
    const Tensor w = input(c, {30, 20}, 2, dtype);
    const std::vector<std::int32_t> targets{29, 0, 7, 7, 1, 28};
    for (const auto& [logit_scale, softcap] : {std::pair{1.0F, 0.0F}, {0.4F, 0.0F}, {0.8F, 2.0F}}) {
      Values nll, logits;
      double sum = 0;
      for (std::size_t i = 0; i < 6; ++i) {
        double total = 0;
        double target = 0;
        for (std::size_t o = 0; o < 30; ++o) {
          double logit = 0;
          for (std::size_t k = 0; k < 20; ++k) logit += values_of(h)[i * 20 + k] * values_of(w)[o * 20 + k];
          logit *= static_cast<double>(logit_scale);
          const auto cap = static_cast<double>(softcap);
          if (cap > 0) logit = cap * std::tanh(logit / cap);
          logits.push_back(logit);
          total += std::exp(logit);
          if (static_cast<std::int32_t>(o) == targets[i]) target = logit;
        }
        nll.push_back(std::log(total) - target);
        sum += nll.back();
      }
      const LogitOptions options{.scale = logit_scale, .softcap = softcap};
      EXPECT_LT(test::relative_distance(values_of(head_logits(c, h, w, options)), logits),
                test::tolerance(DType::kF32, 50));
      const auto ce = linear_cross_entropy(c, h, w, ints(c, targets), 0.25F, {}, options);
      EXPECT_LT(test::relative_distance(values_of(ce.nll), nll), test::tolerance(DType::kF32, 50));
      EXPECT_NEAR(values_of(ce.loss)[0], 0.25 * sum, 0.25 * sum * test::tolerance(DType::kF32, 50));
    }
  });
}

/// Bytes of activations that a tape holds once everything else is let go.
class KeptWhereFrozen : public testing::Test {
 protected:
  Tensor make(const Shape& shape, bool learns) {
    Tensor t = random_tensor(context_, shape, 1);
    if (learns) require_grad(t, DType::kF32);
    return t;
  }
  std::int64_t kept_by(const std::function<void()>& forward) {
    Tape tape;
    const TapeScope scope(context_, &tape);
    const std::int64_t before = context_.ledger().current(device::Purpose::kActivations);
    forward();
    return context_.ledger().current(device::Purpose::kActivations) - before;
  }
  Context context_{{}, 1};
};

TEST_F(KeptWhereFrozen, LinearKeepsXForTheWeightAndTheWeightForX) {
  const auto kept = [&](bool x, bool weight, bool residual) {
    return kept_by([&] {
      linear(context_, make({3, 5}, x), make({7, 5}, weight), make({7}, true), make({3, 7}, residual),
             DType::kF32);
    });
  };
  EXPECT_EQ(kept(true, true, true), (3 * 5 + 7 * 5) * 4);
  EXPECT_EQ(kept(true, false, true), 7 * 5 * 4);
  EXPECT_EQ(kept(false, true, true), 3 * 5 * 4);
  EXPECT_EQ(kept(false, false, true), 0);
}

TEST_F(KeptWhereFrozen, RowGateKeepsNothingForItsResidual) {
  const auto kept = [&](bool x, bool gate) {
    return kept_by([&] { row_gate(context_, make({3, 5}, x), make({3, 1}, gate), make({3, 5}, true)); });
  };
  EXPECT_EQ(kept(false, false), 0);
  EXPECT_EQ(kept(true, false), (3 * 5 + 3) * 4);
  EXPECT_EQ(kept(false, true), (3 * 5 + 3) * 4);
}

TEST_F(KeptWhereFrozen, CrossEntropyKeepsNothingForAFrozenBody) {
  const auto kept = [&](bool hidden) {
    return kept_by([&] {
      linear_cross_entropy(context_, make({3, 5}, hidden), make({7, 5}, true), ints(context_, {0, 1, 2}), 1);
    });
  };
  EXPECT_EQ(kept(true), 3 * 5 * 4);
  EXPECT_EQ(kept(false), 0);
}

// Whoever else was given the same gradient must not see it turned.
TEST_F(KeptWhereFrozen, RopeTurnsInPlaceOnlyAGradientOfItsOwn) {
  const Tensor x = make({2, 4}, true);
  const Tensor other = make({2, 4}, true);
  const RotaryTable table{random_tensor(context_, {3, 2}, 2), random_tensor(context_, {3, 2}, 3)};
  const Tensor dy = random_tensor(context_, {2, 4}, 4);
  const Values before = values_of(dy);
  Tape tape;
  const TapeScope scope(context_, &tape);
  const Tensor a = add(context_, other, make({2, 4}, false));
  const Tensor y = head_norm_rope(context_, x, {}, table, ints(context_, {1, 2}), 4, 0);
  tape.backward(context_, {{add(context_, y, a), dy}});
  EXPECT_EQ(values_of(other.grad_slot()->grad()), before);
  EXPECT_EQ(values_of(dy), before);
  EXPECT_NE(values_of(x.grad_slot()->grad()), before);
}

}  // namespace
}  // namespace hone::ops
