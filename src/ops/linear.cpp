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
  check_argument(context, kLinearOp, "weight", weight, 2, {x.dtype()});
  HONE_CHECK(weight.size(1) == x.size(1), "[ops.linear] weight {} takes {} features, x {} has {}",
             weight.shape().str(), weight.size(1), x.shape().str(), x.size(1));
  if (bias.defined()) {
    check_argument(context, kLinearOp, "bias", bias, 1, {x.dtype()});
    HONE_CHECK(bias.size(0) == weight.size(0), "[ops.linear] bias has {} elements, weight {} gives {}",
               bias.size(0), weight.shape().str(), weight.size(0));
  }
  if (residual.defined()) {
    check_argument(context, kLinearOp, "residual", residual, 2, {DType::kF32});
    HONE_CHECK(residual.size(0) == x.size(0) && residual.size(1) == weight.size(0),
               "[ops.linear] residual is {}, the result ({}, {})", residual.shape().str(), x.size(0),
               weight.size(0));
  }
  HONE_CHECK(out_dtype == DType::kF32 || out_dtype == x.dtype(), "[ops.linear] result {} for x {}",
             name_of(out_dtype), name_of(x.dtype()));
}

// x where the weight's gradient is wanted, weight where x's is; else undefined. dtype: x's.
void backward(Backward& b, const Saved& x, const Weight& weight, DType dtype) {
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
  b.later({kWeight}, [dy, x](Context& later, const std::vector<GradTarget>& to) {
    launch(later, "ops.linear gradient", later.kernels().matmul,
           {.a = as_matrix(dy),
            .b = as_matrix(x.get(later)),
            .c = as_matrix(to[0].grad),
            .transpose_a = true,
            .residual = {},
            .accumulate = to[0].accumulate});
  });
  if (b.wants(kX)) {
    const HeldWeight held(context, weight);
    const GradTarget to = b.target(kX);
    launch(context, "ops.linear gradient", context.kernels().matmul,
           {.a = as_matrix(dy),
            .b = as_matrix(held.value()),
            .c = as_matrix(to.grad),
            .residual = {},
            .accumulate = to.accumulate});
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
  Tensor y = context.empty({x.size(0), weight.size(0)}, out_dtype);
  launch(context, kLinearOp, context.kernels().matmul,
         {.a = as_matrix(x),
          .b = as_matrix(weight),
          .c = as_matrix(y),
          .transpose_b = true,
          .bias = bias.defined() ? bias.data() : nullptr,
          .has_bias = bias.defined(),
          .residual = as_matrix(residual)});
  if (!needs_grad(context, {&x, &weight, &bias, &residual})) return y;
  const Saved kept_x = weight.grad_slot() ? Saved(x) : Saved();
  const Weight kept_weight = x.grad_slot() ? weight_handle.detach() : Weight();
  record(context, kLinearOp, {&x, &weight, &bias, &residual}, {&y},
         [kept_x, kept_weight, dtype = x.dtype()](Backward& b) { backward(b, kept_x, kept_weight, dtype); });
  return y;
}

}  // namespace hone::ops
