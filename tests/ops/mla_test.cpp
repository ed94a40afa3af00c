// The keys and values of latent attention: gradients, and the same composed of small operations.
#include "ops/mla.h"

#include <gtest/gtest.h>

#include "ops/slices.h"
#include "tests/ops/finite_difference.h"

namespace hone::ops {
namespace {

using test::check_op;
using test::random_tensor;
using test::values_of;
using Tensors = std::vector<Tensor>;

constexpr std::int64_t kRows = 5, kLatentHeads = 3, kNope = 4, kRope = 2, kV = 6;

TEST(MlaKeysValues, GradMatchesFiniteDifference) {
  check_op({.inputs = {{.name = "kv", .shape = {kRows, kLatentHeads * (kNope + kV)}},
                       {.name = "k_pe", .shape = {kRows, kRope}}},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              const auto out = mla_keys_values(c, in[0], in[1], kLatentHeads, kNope);
              return {out.k, out.v};
            }});
}

TEST(MlaKeysValues, GradMatchesFiniteDifferenceOfKeysOrValuesAlone) {
  for (const bool keys : {false, true})
    check_op({.inputs = {{.name = "kv", .shape = {kRows, kLatentHeads * (kNope + kV)}, .scale = 1}},
              .program = [=](Context& c, const Tensors& in) -> Tensors {
                const auto out = mla_keys_values(
                    c, in[0], random_tensor(c, {kRows, kRope}, 3, 1, 0, in[0].dtype()), kLatentHeads, kNope);
                return {keys ? out.k : out.v};
              }});
}

KeysValues composed(Context& context, const Tensor& kv, const Tensor& k_pe) {
  std::vector<std::int64_t> widths;
  for (std::int64_t h = 0; h < kLatentHeads; ++h) widths.insert(widths.end(), {kNope, kV});
  const auto parts = split_columns(context, kv, widths);
  Tensors k, v;
  for (std::size_t h = 0; h < kLatentHeads; ++h) {
    k.insert(k.end(), {parts[2 * h], k_pe});
    v.push_back(parts[2 * h + 1]);
  }
  return {concat_columns(context, k), concat_columns(context, v)};
}

TEST(MlaKeysValues, AreWhatSmallOperationsMake) {
  Context context({}, 1);
  const auto run = [&](bool fused) {
    Tensor kv = random_tensor(context, {kRows, kLatentHeads * (kNope + kV)}, 1);
    Tensor k_pe = random_tensor(context, {kRows, kRope}, 2);
    require_grad(kv, DType::kF32);
    require_grad(k_pe, DType::kF32);
    Tape tape;
    const TapeScope recording(context, &tape);
    const KeysValues out =
        fused ? mla_keys_values(context, kv, k_pe, kLatentHeads, kNope) : composed(context, kv, k_pe);
    tape.backward(context, {{out.k, random_tensor(context, out.k.shape(), 3)},
                            {out.v, random_tensor(context, out.v.shape(), 4)}});
    return std::vector<std::vector<double>>{values_of(out.k), values_of(out.v),
                                            values_of(kv.grad_slot()->grad()),
                                            values_of(k_pe.grad_slot()->grad())};
  };
  const auto fused = run(true), small = run(false);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(fused[i], small[i]) << i;
  EXPECT_LT(test::relative_error(fused[3], small[3]), 1e-6) << "a sum over heads";
}

TEST(MlaKeysValues, ArgumentsAreChecked) {
  Context context({}, 1);
  const Tensor kv = random_tensor(context, {kRows, kLatentHeads * (kNope + kV)}, 1);
  const Tensor k_pe = random_tensor(context, {kRows, kRope}, 2);
  EXPECT_THROW(mla_keys_values(context, kv, k_pe, 7, kNope), Error) << "heads";
  EXPECT_THROW(mla_keys_values(context, kv, k_pe, kLatentHeads, kNope + kV), Error) << "no values";
  EXPECT_THROW(
      mla_keys_values(context, kv, random_tensor(context, {kRows + 1, kRope}, 2), kLatentHeads, kNope),
      Error);
}

}  // namespace
}  // namespace hone::ops
