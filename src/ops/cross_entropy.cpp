#include "ops/cross_entropy.h"

#include "ops/elementwise.h"
#include "ops/launch.h"
#include "ops/linear.h"
#include "ops/matrix.h"

namespace hone::ops {

namespace {

void check_head(const Context& context, std::string_view op, const Tensor& hidden, const Tensor& weight) {
  check_argument(context, op, "hidden", hidden, 2, kComputeTypes);
  check_argument(context, op, "weight", weight, 2, {hidden.dtype()});
  HONE_CHECK(weight.size(1) == hidden.size(1), "[{}] weight {} takes {} features, hidden {} has {}", op,
             weight.shape().str(), weight.size(1), hidden.shape().str(), hidden.size(1));
}

void check_targets(const Context& context, std::string_view op, const Tensor& hidden, const Tensor& targets) {
  check_argument(context, op, "targets", targets, 1, {DType::kI32});
  HONE_CHECK(targets.size(0) == hidden.size(0), "[{}] {} targets, hidden {}", op, targets.size(0),
             hidden.shape().str());
}

kernels::HeadOperands operands(const Tensor& hidden, const Tensor& weight, const LogitOptions& logits) {
  return {.hidden = as_matrix(hidden),
          .weight = as_matrix(weight),
          .logit_scale = logits.scale,
          .softcap = logits.softcap};
}

/// Undefined ones are not wanted.
kernels::HeadGradients gradients(const Tensor& dhidden, const GradTarget& dweight) {
  const Tensor& grad = dweight.grad;
  return {.dhidden = as_matrix(dhidden),
          .dweight = grad.defined() ? grad.data() : nullptr,
          .wants_dweight = grad.defined(),
          .dweight_dtype = grad.defined() ? grad.dtype() : DType::kF32,
          .accumulate_dweight = dweight.accumulate};
}

}  // namespace

CrossEntropy linear_cross_entropy(Context& context, const Tensor& hidden, const Weight& handle,
                                  const Tensor& targets, float scale, const Tensor& weights,
                                  const LogitOptions& logits) {
  constexpr std::string_view kOp = "ops.linear_cross_entropy";
  const HeldWeight held(context, handle);
  const Tensor& weight = held.value();
  check_head(context, kOp, hidden, weight);
  check_targets(context, kOp, hidden, targets);
  if (weights.defined()) {
    check_argument(context, kOp, "weights", weights, 1, {DType::kF32});
    HONE_CHECK(weights.size(0) == hidden.size(0), "[{}] {} weights, hidden {}", kOp, weights.size(0),
               hidden.shape().str());
  }
  const bool recording = needs_grad(context, {&hidden, &weight});
  const bool keeps = recording && context.tape()->keeps();
  const Tensor dhidden =
      keeps && hidden.grad_slot() ? context.empty(hidden.shape(), hidden.dtype()) : Tensor();
  const GradTarget dweight =
      keeps && weight.grad_slot() ? GradTarget::of(context, *weight.grad_slot()) : GradTarget();
  CrossEntropy result{.loss = context.empty({1}, DType::kF32),
                      .nll = context.empty({hidden.size(0)}, DType::kF32)};
  launch(context, kOp, context.kernels().linear_cross_entropy,
         {.head = operands(hidden, weight, logits),
          .targets = targets.as<std::int32_t>(),
          .weights = weights.defined() ? weights.as<float>() : nullptr,
          .has_weights = weights.defined(),
          .scale = scale,
          .nll = result.nll.as<float>(),
          .loss = result.loss.as<float>(),
          .gradients = gradients(dhidden, dweight)});
  if (!recording) return result;
  // The weight is an input although its gradient is written already: its hook waits for this node.
  record(context, kOp, {&hidden, &weight}, {&result.loss}, [dhidden](Backward& b) {
    check_unit_gradient(b.context(), "ops.linear_cross_entropy", b.grad());
    if (dhidden.defined()) b.give(0, dhidden);
  });
  return result;
}

HeadStatistics head_statistics(Context& context, const Tensor& hidden, const Weight& handle,
                               const Tensor& targets, std::int64_t vocab_begin, const LogitOptions& logits) {
  constexpr std::string_view kOp = "ops.head_statistics";
  const HeldWeight held(context, handle);
  const Tensor& weight = held.value();
  check_head(context, kOp, hidden, weight);
  check_targets(context, kOp, hidden, targets);
  HeadStatistics result{.lse = context.empty({hidden.size(0)}, DType::kF32),
                        .target_logit = context.empty({hidden.size(0)}, DType::kF32)};
  const auto forward = [targets, vocab_begin, logits](const Tensor& h, const Tensor& w, const Tensor& lse) {
    return kernels::HeadStatisticsArgs{.head = operands(h, w, logits),
                                       .targets = targets.as<std::int32_t>(),
                                       .vocab_begin = vocab_begin,
                                       .lse = lse.as<float>()};
  };
  auto args = forward(hidden, weight, result.lse);
  args.target_logit = result.target_logit.as<float>();
  launch(context, kOp, context.kernels().head_statistics, args);
  if (!needs_grad(context, {&hidden, &weight})) return result;
  record(
      context, kOp, {&hidden, &weight}, {&result.lse, &result.target_logit},
      [forward, hidden = hidden.detach(), handle = handle.detach(), lse = result.lse.detach()](Backward& b) {
        const HeldWeight again(b.context(), handle);
        Tensor dhidden = b.wants(0) ? b.context().empty(hidden.shape(), hidden.dtype()) : Tensor();
        const GradTarget dweight = b.wants(1) ? b.target(1) : GradTarget();
        const Tensor &dlse = b.grad(0), &dtarget = b.grad(1);
        launch(b.context(), "ops.head_statistics gradient", b.context().kernels().head_grad,
               {.forward = forward(hidden, again.value(), lse),
                .dlse = dlse.defined() ? dlse.as<float>() : nullptr,
                .dtarget_logit = dtarget.defined() ? dtarget.as<float>() : nullptr,
                .has_dlse = dlse.defined(),
                .has_dtarget_logit = dtarget.defined(),
                .gradients = gradients(dhidden, dweight)});
        if (dhidden.defined()) b.give(0, std::move(dhidden));
      });
  return result;
}

Tensor head_logits(Context& context, const Tensor& hidden, const Weight& weight, const LogitOptions& logits) {
  const Tensor products = linear(context, hidden, weight, {}, {}, DType::kF32);
  if (logits.softcap <= 0) return scale(context, products, logits.scale);
  const Tensor capped =
      activate(context, scale(context, products, logits.scale / logits.softcap), Activation::kTanh);
  return scale(context, capped, logits.softcap);
}

}  // namespace hone::ops
