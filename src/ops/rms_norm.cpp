#include "ops/rms_norm.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::ops {

Tensor rms_norm(Context& context, const Tensor& x, const Tensor& weight, float eps) {
  constexpr std::string_view kOp = "ops.rms_norm";
  check_argument(context, kOp, "x", x, 2, kComputeTypes);
  check_argument(context, kOp, "weight", weight, 1, kComputeTypes);
  HONE_CHECK(x.dtype() == DType::kF32 || x.dtype() == weight.dtype(), "[ops.rms_norm] x is {}, weight {}",
             name_of(x.dtype()), name_of(weight.dtype()));
  HONE_CHECK(weight.size(0) == x.size(1), "[ops.rms_norm] weight has {} elements, last dim of x is {}",
             weight.size(0), x.size(1));
  const bool recording = needs_grad(context, {&x, &weight});
  Tensor y = context.empty(x.shape(), weight.dtype());
  const bool keeps = recording && context.tape()->keeps();
  const Tensor rstd = keeps ? context.empty({x.size(0)}, DType::kF32) : Tensor();
  launch(context, kOp, context.kernels().rms_norm,
         {.x = as_matrix(x),
          .weight = weight.data(),
          .y = as_matrix(y),
          .rstd = keeps ? rstd.as<float>() : nullptr,
          .wants_rstd = keeps,
          .weight_dtype = weight.dtype(),
          .eps = eps});
  if (!recording) return y;
  record(context, kOp, {&x, &weight}, {&y}, [x = x.detach(), weight = weight.detach(), rstd](Backward& b) {
    const GradTarget dx = b.wants(0) ? b.target(0) : GradTarget();
    const GradTarget dweight = b.wants(1) ? b.target(1) : GradTarget();
    launch(b.context(), "ops.rms_norm gradient", b.context().kernels().rms_norm_grad,
           {.dy = as_matrix(b.grad()),
            .x = as_matrix(x),
            .weight = weight.data(),
            .rstd = rstd.as<float>(),
            .dx = as_matrix(dx.grad),
            .dweight = b.wants(1) ? dweight.grad.data() : nullptr,
            .wants_dweight = b.wants(1),
            .weight_dtype = weight.dtype(),
            .dweight_dtype = b.wants(1) ? dweight.grad.dtype() : DType::kF32,
            .accumulate_dx = dx.accumulate,
            .accumulate_dweight = dweight.accumulate});
  });
  can_remake(y, [x = x.detach(), weight = weight.detach(), eps](Context& again) {
    return rms_norm(again, x, weight, eps);
  });
  return y;
}

}  // namespace hone::ops
