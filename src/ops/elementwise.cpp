#include "ops/elementwise.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::ops {

namespace {

void check_same_shape(std::string_view op, std::string_view a_name, const Tensor& a, std::string_view b_name,
                      const Tensor& b) {
  HONE_CHECK(a.shape() == b.shape(), "[{}] {} is {}, {} {}", op, a_name, a.shape().str(), b_name,
             b.shape().str());
}

}  // namespace

Tensor activate(Context& context, const Tensor& x, Activation activation) {
  return gated(context, x, {}, activation);
}

Tensor gated(Context& context, const Tensor& gate, const Tensor& up, Activation activation, float alpha,
             float limit) {
  constexpr std::string_view kOp = "ops.gated";
  check_argument(context, kOp, "gate", gate, 2, kComputeTypes);
  if (up.defined()) {
    check_argument(context, kOp, "up", up, 2, {gate.dtype()});
    check_same_shape(kOp, "gate", gate, "up", up);
  }
  Tensor y = context.empty(gate.shape(), gate.dtype());
  launch(context, kOp, context.kernels().activation,
         {.gate = as_matrix(gate),
          .up = as_matrix(up),
          .y = as_matrix(y),
          .activation = activation,
          .alpha = alpha,
          .limit = limit});
  if (!needs_grad(context, {&gate, &up})) return y;
  record(context, kOp, {&gate, &up}, {&y},
         [gate = gate.detach(), up = up.detach(), activation, alpha, limit](Backward& b) {
           Tensor dgate = b.wants(0) ? b.context().empty(gate.shape(), gate.dtype()) : Tensor();
           Tensor dup = b.wants(1) ? b.context().empty(up.shape(), up.dtype()) : Tensor();
           launch(b.context(), "ops.gated gradient", b.context().kernels().activation_grad,
                  {.gate = as_matrix(gate),
                   .up = as_matrix(up),
                   .dy = as_matrix(b.grad()),
                   .dgate = as_matrix(dgate),
                   .dup = as_matrix(dup),
                   .activation = activation,
                   .alpha = alpha,
                   .limit = limit});
           if (dgate.defined()) b.give(0, std::move(dgate));
           if (dup.defined()) b.give(1, std::move(dup));
         });
  if (!context.tape()->keeps()) return y;  // a remake would keep what nobody keeps
  can_remake(y, [gate = gate.detach(), up = up.detach(), activation, alpha, limit](Context& again) {
    return gated(again, gate, up, activation, alpha, limit);
  });
  return y;
}

Tensor multiply(Context& context, const Tensor& a, const Tensor& b) {
  return gated(context, a, b, Activation::kIdentity);
}

Tensor row_gate(Context& context, const Tensor& x, const Tensor& gate, const Tensor& residual) {
  constexpr std::string_view kOp = "ops.row_gate";
  check_argument(context, kOp, "x", x, 2, kComputeTypes);
  check_argument(context, kOp, "gate", gate, 2, {DType::kF32});
  HONE_CHECK(gate.size(0) == x.size(0) && gate.size(1) == 1, "[ops.row_gate] gate is {}, x {}",
             gate.shape().str(), x.shape().str());
  if (residual.defined()) {
    check_argument(context, kOp, "residual", residual, 2, {DType::kF32});
    check_same_shape(kOp, "residual", residual, "x", x);
  }
  Tensor y = context.empty(x.shape(), residual.defined() ? DType::kF32 : x.dtype());
  launch(context, kOp, context.kernels().row_gate,
         {.x = as_matrix(x), .gate = as_matrix(gate), .residual = as_matrix(residual), .y = as_matrix(y)});
  if (!needs_grad(context, {&x, &gate, &residual})) return y;
  const bool gated = x.grad_slot() || gate.grad_slot();
  const Tensor kept_x = gated ? x.detach() : Tensor();
  const Tensor kept_gate = gated ? gate.detach() : Tensor();
  record(context, kOp, {&x, &gate, &residual}, {&y}, [kept_x, kept_gate](Backward& b) {
    if (kept_x.defined()) {
      Tensor dx = b.context().empty(kept_x.shape(), kept_x.dtype());
      Tensor dgate = b.context().empty(kept_gate.shape(), DType::kF32);
      launch(b.context(), "ops.row_gate gradient", b.context().kernels().row_gate_grad,
             {.dy = as_matrix(b.grad()),
              .x = as_matrix(kept_x),
              .gate = as_matrix(kept_gate),
              .dx = as_matrix(dx),
              .dgate = as_matrix(dgate)});
      b.give(0, std::move(dx));
      b.give(1, std::move(dgate));
    }
    b.give(2, b.take_grad());
  });
  return y;
}

Tensor add(Context& context, const Tensor& a, const Tensor& b, float scale) {
  constexpr std::string_view kOp = "ops.add";
  check_argument(context, kOp, "a", a, a.defined() ? a.rank() : 1, kComputeTypes);
  check_argument(context, kOp, "b", b, a.rank(), kComputeTypes);
  check_same_shape(kOp, "a", a, "b", b);
  Tensor y = context.empty(a.shape(), a.dtype());
  copy(context, kOp, a, y);
  copy(context, kOp, b, y, true, scale);
  if (!needs_grad(context, {&a, &b})) return y;
  record(context, kOp, {&a, &b}, {&y}, [scale](Backward& backward) {
    backward.give(0, backward.grad());
    if (scale == 1) return backward.give(1, backward.take_grad());
    if (!backward.wants(1)) return;
    const GradTarget to = backward.target(1);
    copy(backward.context(), "ops.add gradient", backward.grad(), to.grad, to.accumulate, scale);
  });
  return y;
}

Tensor scale(Context& context, const Tensor& x, float factor) {
  constexpr std::string_view kOp = "ops.scale";
  check_argument(context, kOp, "x", x, x.defined() ? x.rank() : 1, kComputeTypes);
  if (factor == 1) return x;
  Tensor y = context.empty(x.shape(), x.dtype());
  copy(context, kOp, x, y, false, factor);
  if (!needs_grad(context, {&x})) return y;
  record(context, kOp, {&x}, {&y}, [factor](Backward& b) {
    const GradTarget to = b.target(0);
    copy(b.context(), "ops.scale gradient", b.grad(), to.grad, to.accumulate, factor);
  });
  return y;
}

Tensor clamp(Context& context, const Tensor& x, float limit) {
  constexpr std::string_view kOp = "ops.clamp";
  check_argument(context, kOp, "x", x, 2, kComputeTypes);
  HONE_CHECK(limit > 0, "[ops.clamp] limit is {}", limit);
  Tensor y = context.empty(x.shape(), x.dtype());
  launch(context, kOp, context.kernels().clamp, {.x = as_matrix(x), .y = as_matrix(y), .limit = limit});
  if (!needs_grad(context, {&x})) return y;
  record(context, kOp, {&x}, {&y}, [x = x.detach(), limit](Backward& b) {
    const GradTarget to = b.target(0);
    launch(b.context(), "ops.clamp gradient", b.context().kernels().clamp_grad,
           {.dy = as_matrix(b.grad()),
            .x = as_matrix(x),
            .dx = as_matrix(to.grad),
            .limit = limit,
            .accumulate = to.accumulate});
  });
  return y;
}

Tensor cast(Context& context, const Tensor& x, DType dtype) {
  constexpr std::string_view kOp = "ops.cast";
  check_argument(context, kOp, "x", x, x.defined() ? x.rank() : 1, kComputeTypes);
  HONE_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "[ops.cast] to {}; only f32 and bf16 compute",
             name_of(dtype));
  if (x.dtype() == dtype) return x;
  Tensor y = context.empty(x.shape(), dtype);
  copy(context, kOp, x, y);
  if (!needs_grad(context, {&x})) return y;
  record(context, kOp, {&x}, {&y}, [](Backward& b) { b.give(0, b.take_grad()); });
  return y;
}

}  // namespace hone::ops
