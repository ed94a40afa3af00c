#include "ops/rms_norm.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::ops {

Tensor rms_norm(Context& context, const Tensor& x, const Weight& handle, float eps, bool unit_offset,
                const Tensor& residual) {
  constexpr std::string_view kOp = "ops.rms_norm";
  const HeldWeight held(context, handle);
  const Tensor& weight = held.value();
  check_argument(context, kOp, "x", x, 2, kComputeTypes);
  check_argument(context, kOp, "weight", weight, 1, kComputeTypes);
  HONE_CHECK(x.dtype() == DType::kF32 || x.dtype() == weight.dtype(), "[ops.rms_norm] x is {}, weight {}",
             name_of(x.dtype()), name_of(weight.dtype()));
  HONE_CHECK(weight.size(0) == x.size(1), "[ops.rms_norm] weight has {} elements, last dim of x is {}",
             weight.size(0), x.size(1));
  if (residual.defined()) {
    check_argument(context, kOp, "residual", residual, 2, {DType::kF32});
    HONE_CHECK(residual.shape() == x.shape(), "[ops.rms_norm] residual is {}, x {}", residual.shape().str(),
               x.shape().str());
  }
  const bool recording = needs_grad(context, {&x, &weight, &residual});
  Tensor y = context.empty(x.shape(), residual.defined() ? DType::kF32 : weight.dtype());
  const bool normed_wants = x.grad_slot() || weight.grad_slot();
  const bool keeps = recording && normed_wants && context.tape()->keeps();
  const Tensor rstd = keeps ? context.empty({x.size(0)}, DType::kF32) : Tensor();
  launch(context, kOp, context.kernels().rms_norm,
         {.x = as_matrix(x),
          .weight = weight.data(),
          .unit_offset = unit_offset,
          .residual = as_matrix(residual),
          .y = as_matrix(y),
          .rstd = keeps ? rstd.as<float>() : nullptr,
          .wants_rstd = keeps,
          .weight_dtype = weight.dtype(),
          .eps = eps});
  if (!recording) return y;
  const Tensor kept = normed_wants ? x.detach() : Tensor();
  record(context, kOp, {&x, &weight, &residual}, {&y},
         [kept, handle = handle.detach(), rstd, unit_offset](Backward& b) {
           if (kept.defined()) {
             const HeldWeight again(b.context(), handle);
             const Tensor& w = again.value();
             const GradTarget dx = b.wants(0) ? b.target(0) : GradTarget();
             const GradTarget dweight = b.wants(1) ? b.target(1) : GradTarget();
             launch(b.context(), "ops.rms_norm gradient", b.context().kernels().rms_norm_grad,
                    {.dy = as_matrix(b.grad()),
                     .x = as_matrix(kept),
                     .weight = w.data(),
                     .unit_offset = unit_offset,
                     .rstd = rstd.as<float>(),
                     .dx = as_matrix(dx.grad),
                     .dweight = b.wants(1) ? dweight.grad.data() : nullptr,
                     .wants_dweight = b.wants(1),
                     .weight_dtype = w.dtype(),
                     .dweight_dtype = b.wants(1) ? dweight.grad.dtype() : DType::kF32,
                     .accumulate_dx = dx.accumulate,
                     .accumulate_dweight = dweight.accumulate});
           }
           b.give(2, b.take_grad());
         });
  if (!residual.defined())
    can_remake(y, [kept, handle = handle.detach(), eps, unit_offset](Context& again) {
      return rms_norm(again, kept, handle, eps, unit_offset);
    });
  return y;
}

}  // namespace hone::ops
