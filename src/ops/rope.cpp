#include "ops/rope.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::ops {

namespace {

constexpr std::string_view kHeadNormRopeOp = "ops.head_norm_rope";

void check(const Context& context, const Tensor& x, const Tensor& weight, const RotaryTable& table,
           const Tensor& positions, std::int64_t head_dim, const HeadNormRopeOptions& options) {
  check_argument(context, kHeadNormRopeOp, "x", x, 2, kComputeTypes);
  HONE_CHECK(head_dim > 0 && x.size(1) % head_dim == 0,
             "[ops.head_norm_rope] last dim of x is {}, not a multiple of head_dim {}", x.size(1), head_dim);
  if (weight.defined()) {
    check_argument(context, kHeadNormRopeOp, "weight", weight, 1, {x.dtype()});
    HONE_CHECK(weight.size(0) == head_dim, "[ops.head_norm_rope] weight has {} elements, head_dim is {}",
               weight.size(0), head_dim);
  }
  check_dense_argument(context, kHeadNormRopeOp, "cos", table.cos, 2, {DType::kF32});
  check_dense_argument(context, kHeadNormRopeOp, "sin", table.sin, 2, {DType::kF32});
  HONE_CHECK(table.sin.shape() == table.cos.shape() && options.rotary_begin >= 0 &&
                 options.rotary_begin + 2 * table.cos.size(1) <= head_dim,
             "[ops.head_norm_rope] cos is {}, sin {}, from element {} on, head_dim {}",
             table.cos.shape().str(), table.sin.shape().str(), options.rotary_begin, head_dim);
  check_argument(context, kHeadNormRopeOp, "positions", positions, 1, {DType::kI32});
  HONE_CHECK(positions.size(0) == x.size(0), "[ops.head_norm_rope] {} positions, x {}", positions.size(0),
             x.shape().str());
}

void backward(Backward& b, const Tensor& x, const Weight& handle, const RotaryTable& table,
              const Tensor& positions, std::int64_t head_dim, float eps, const HeadNormRopeOptions& options) {
  const HeldWeight held(b.context(), handle);
  const Tensor& weight = held.value();
  const bool norm = weight.defined();
  const GradTarget dweight = norm && b.wants(1) ? b.target(1) : GradTarget();
  const Tensor dy = b.take_grad();
  // A rotation alone turns the gradient in place where nobody else reads it.
  const bool in_place = !norm && dy.owns_buffer_alone() && dy.is_contiguous();
  GradTarget dx;
  if (in_place)
    dx.grad = dy;
  else if (b.wants(0))
    dx = b.target(0);
  launch(b.context(), "ops.head_norm_rope gradient", b.context().kernels().head_norm_rope_grad,
         {.dy = as_matrix(dy),
          .x = as_matrix(x),
          .dx = as_matrix(dx.grad),
          .weight = norm ? weight.data() : nullptr,
          .has_weight = norm,
          .unit_offset = options.unit_offset,
          .dweight = dweight.grad.defined() ? dweight.grad.data() : nullptr,
          .wants_dweight = dweight.grad.defined(),
          .cos = table.cos.as<float>(),
          .sin = table.sin.as<float>(),
          .positions = positions.as<std::int32_t>(),
          .heads = dy.size(1) / head_dim,
          .head_dim = head_dim,
          .rotary_dim = 2 * table.cos.size(1),
          .rotary_begin = options.rotary_begin,
          .interleaved = options.interleaved,
          .weight_dtype = norm ? weight.dtype() : DType::kF32,
          .dweight_dtype = dweight.grad.defined() ? dweight.grad.dtype() : DType::kF32,
          .eps = eps,
          .accumulate_dx = dx.accumulate,
          .accumulate_dweight = dweight.accumulate});
  if (in_place) {
    dx.grad = Tensor();
    b.give(0, dy);
  }
}

}  // namespace

Tensor head_norm_rope(Context& context, const Tensor& x, const Weight& handle, const RotaryTable& table,
                      const Tensor& positions, std::int64_t head_dim, float eps,
                      const HeadNormRopeOptions& options) {
  const HeldWeight held(context, handle);
  const Tensor& weight = held.value();
  check(context, x, weight, table, positions, head_dim, options);
  const bool norm = weight.defined();
  Tensor y = context.empty(x.shape(), x.dtype());
  launch(context, kHeadNormRopeOp, context.kernels().head_norm_rope,
         {.x = as_matrix(x),
          .y = as_matrix(y),
          .weight = norm ? weight.data() : nullptr,
          .has_weight = norm,
          .unit_offset = options.unit_offset,
          .cos = table.cos.as<float>(),
          .sin = table.sin.as<float>(),
          .positions = positions.as<std::int32_t>(),
          .heads = x.size(1) / head_dim,
          .head_dim = head_dim,
          .rotary_dim = 2 * table.cos.size(1),
          .rotary_begin = options.rotary_begin,
          .interleaved = options.interleaved,
          .weight_dtype = norm ? weight.dtype() : DType::kF32,
          .eps = eps});
  if (!needs_grad(context, {&x, &weight})) return y;
  const Tensor kept_x = norm ? x.detach() : Tensor();
  record(context, kHeadNormRopeOp, {&x, &weight}, {&y},
         [kept_x, kept = handle.detach(), table, positions, head_dim, eps, options](Backward& b) {
           backward(b, kept_x, kept, table, positions, head_dim, eps, options);
         });
  if (norm) {
    can_remake(y, [kept_x, kept = handle.detach(), table, positions, head_dim, eps, options](Context& again) {
      return head_norm_rope(again, kept_x, kept, table, positions, head_dim, eps, options);
    });
  }
  return y;
}

}  // namespace hone::ops
