#include "ops/linear.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::ops {

namespace {

constexpr std::string_view kLinearOp = "ops.linear";
enum Input : std::size_t { kX, kWeight, kBias, kResidual };

void check(const Context& context, const Tensor& x, const Tensor& weight, const Tensor& bias,
           const Tensor& residual, DType out_dtype) {
  check_argument(context, kLinearOp, "x", x, 2, kComputeTypes);
  check_argument(context, kLinearOp, "weight", weight, 2, {x.dtype(), DType::kF32});
  HONE_CHECK(weight.size(1) == x.size(1), "[ops.linear] weight {} takes {} features, x {} has {}",
             weight.shape().str(), weight.size(1), x.shape().str(), x.size(1));
  if (bias.defined()) {
    check_argument(context, kLinearOp, "bias", bias, 1, {weight.dtype()});
    HONE_CHECK(bias.size(0) == weight.size(0), "[ops.linear] bias has {} elements, weight {} gives {}",
               bias.size(0), weight.shape().str(), weight.size(0));
  }
  if (residual.defined()) {
    check_argument(context, kLinearOp, "residual", residual, 2, {DType::kF32});
    HONE_CHECK(residual.size(0) == x.size(0) && residual.size(1) == weight.size(0),
               "[ops.linear] residual is {}, the result ({}, {})", residual.shape().str(), x.size(0),
               weight.size(0));
  }
  HONE_CHECK(out_dtype == DType::kF32 || out_dtype == weight.dtype(), "[ops.linear] result {} for weight {}",
             name_of(out_dtype), name_of(weight.dtype()));
}

/// Gives a gradient the product a b, fp8: of rounded operands. The kernel writes f32 or what it multiplies;
/// for a narrower gradient (of a bf16 x beside an f32 weight), into scratch memory first.
void multiply(Context& context, const Tensor& a, bool transpose_a, const Tensor& b, bool fp8,
              const GradTarget& to) {
  constexpr std::string_view kOp = "ops.linear gradient";
  const bool narrows = to.grad.dtype() != DType::kF32 && to.grad.dtype() != a.dtype();
  const Tensor c =
      narrows ? context.empty(to.grad.shape(), DType::kF32, device::Purpose::kWorkspace) : to.grad;
  launch(context, kOp, context.kernels().matmul,
         {.a = as_matrix(a),
          .b = as_matrix(b),
          .c = as_matrix(c),
          .transpose_a = transpose_a,
          .residual = {},
          .accumulate = to.accumulate && !narrows,
          .fp8 = fp8});
  if (narrows) copy(context, kOp, c, to.grad, to.accumulate);
}

// x where the weight's gradient is wanted, weight where x's is; else undefined. dtype: the weight's, of every
// product; fp8: whether that of dx is of operands in FP8.
void backward(Backward& b, const Saved& x, const Weight& weight, DType dtype, bool fp8) {
  Context& context = b.context();
  Tensor dy = b.take_grad();
  if (b.wants(kBias)) {
    const GradTarget to = b.target(kBias);
    launch(context, "ops.linear gradient", context.kernels().column_sum,
           {.x = as_matrix(dy),
            .out = to.grad.data(),
            .out_dtype = to.grad.dtype(),
            .accumulate = to.accumulate});
  }
  b.give(kResidual, dy);
  if (!b.wants(kX) && !b.wants(kWeight)) return;
  dy = converted(context, "ops.linear gradient", dy, dtype);
  b.later(
      {kWeight},
      [dy, x, dtype](Context& later) {
        return std::vector<Tensor>{dy, converted(later, "ops.linear gradient", x.get(later), dtype)};
      },
      [](Context& later, const std::vector<Tensor>& of, const std::vector<GradTarget>& to) {
        multiply(later, of[0], true, of[1], false, to[0]);
      });
  if (b.wants(kX)) {
    const HeldWeight held(context, weight);
    multiply(context, dy, false, held.value(), fp8, b.target(kX));
  }
}

}  // namespace

Tensor linear(Context& context, const Tensor& x, const Weight& weight_handle, const Weight& bias_handle,
              const Tensor& residual, DType out_dtype) {
  const HeldWeight held_weight(context, weight_handle);
  const HeldWeight held_bias(context, bias_handle);
  const Tensor& weight = held_weight.value();
  const Tensor& bias = held_bias.value();
  check(context, x, weight, bias, residual, out_dtype);
  const bool fp8 = weight_handle.is_in_fp8();
  Tensor y = context.empty({x.size(0), weight.size(0)}, out_dtype);
  launch(context, kLinearOp, context.kernels().matmul,
         {.a = as_matrix(converted(context, kLinearOp, x, weight.dtype())),
          .b = as_matrix(weight),
          .c = as_matrix(y),
          .transpose_b = true,
          .bias = bias.defined() ? bias.data() : nullptr,
          .has_bias = bias.defined(),
          .residual = as_matrix(residual),
          .fp8 = fp8});
  if (!needs_grad(context, {&x, &weight, &bias, &residual})) return y;
  const Saved kept_x = weight.grad_slot() ? Saved(x) : Saved();
  const Weight kept_weight = x.grad_slot() ? weight_handle.detach() : Weight();
  record(context, kLinearOp, {&x, &weight, &bias, &residual}, {&y},
         [kept_x, kept_weight, dtype = weight.dtype(), fp8](Backward& b) {
           backward(b, kept_x, kept_weight, dtype, fp8);
         });
  return y;
}

}  // namespace hone::ops
