#include "moe/experts.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::moe {

using ops::as_matrix;
using ops::Backward;
using ops::check_argument;
using ops::check_dense_argument;
using ops::GradTarget;
using ops::Saved;

namespace {

constexpr std::string_view kExperts = "moe.experts";
enum ExpertsInput : std::size_t { kX, kGateUp, kDown, kGateUpBias, kDownBias, kWeights, kResidual };

template <typename T = void>
T* data_or_null(const Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data()) : nullptr;
}

void check_weights(const Context& context, const Tensor& x, const ExpertWeights& w, bool gated) {
  check_argument(context, kExperts, "gate_up", w.gate_up, 3, {x.dtype()});
  check_argument(context, kExperts, "down", w.down, 3, {x.dtype()});
  const std::int64_t experts = w.down.size(0);
  const std::int64_t inner = (gated ? 2 : 1) * w.down.size(2);
  HONE_CHECK(w.down.size(1) == x.size(1) && w.gate_up.shape() == (Shape{experts, inner, x.size(1)}),
             "[moe.experts] gate_up is {}, down {}, x {}{}", w.gate_up.shape().str(), w.down.shape().str(),
             x.shape().str(), gated ? "" : ", ungated");
  const auto check_bias = [&](std::string_view name, const Tensor& bias, const Shape& shape) {
    if (!bias.defined()) return;
    check_argument(context, kExperts, name, bias, 2, {x.dtype()});
    HONE_CHECK(bias.shape() == shape, "[moe.experts] {} is {}, wanted {}", name, bias.shape().str(),
               shape.str());
  };
  check_bias("gate_up_bias", w.gate_up_bias, {experts, inner});
  check_bias("down_bias", w.down_bias, {experts, x.size(1)});
}

void check_experts(const Context& context, const Tensor& x, const ExpertWeights& w, bool gated,
                   const Routing& r, const Tensor& residual, DType out_dtype) {
  check_argument(context, kExperts, "x", x, 2, ops::kComputeTypes);
  check_weights(context, x, w, gated);
  HONE_CHECK(out_dtype == DType::kF32 || out_dtype == x.dtype(), "[moe.experts] a result of {} for x of {}",
             name_of(out_dtype), name_of(x.dtype()));
  const std::int64_t tokens = x.size(0);
  check_dense_argument(context, kExperts, "routing.weights", r.weights, 2, {DType::kF32});
  check_argument(context, kExperts, "routing.offsets", r.offsets, 1, {DType::kI32});
  check_argument(context, kExperts, "routing.permutation", r.permutation, 1, {DType::kI32});
  check_argument(context, kExperts, "routing.inverse", r.inverse, 1, {DType::kI32});
  HONE_CHECK(r.weights.size(0) == tokens, "[moe.experts] routing of {} tokens, x {}", r.weights.size(0),
             x.shape().str());
  HONE_CHECK(r.offsets.size(0) == w.down.size(0) + 1, "[moe.experts] routing to {} experts, down {}",
             r.offsets.size(0) - 1, w.down.shape().str());
  const std::int64_t pairs = r.weights.numel();
  HONE_CHECK(r.permutation.size(0) == pairs && r.inverse.size(0) == pairs,
             "[moe.experts] a plan of {} rows for routing weights {}", r.permutation.size(0),
             r.weights.shape().str());
  if (!residual.defined()) return;
  check_argument(context, kExperts, "residual", residual, 2, {DType::kF32});
  HONE_CHECK(residual.shape() == x.shape(), "[moe.experts] residual is {}, x {}", residual.shape().str(),
             x.shape().str());
}

/// What the kernel is given, forward and backward.
struct ExpertsCall {
  Tensor x;
  ExpertWeights experts;
  ExpertFunction function;
  Tensor weights, offsets, permutation, inverse, pre_activation;

  kernels::ExpertsArgs args(const Tensor& residual, const Tensor& y) const {
    return {.x = as_matrix(x),
            .gate_up = {experts.gate_up.data()},
            .down = {experts.down.data()},
            .gate_up_bias = data_or_null(experts.gate_up_bias),
            .down_bias = data_or_null(experts.down_bias),
            .has_gate_up_bias = experts.gate_up_bias.defined(),
            .has_down_bias = experts.down_bias.defined(),
            .activation = function.activation,
            .gated = function.gated,
            .alpha = function.alpha,
            .limit = function.limit,
            .weights = weights.as<float>(),
            .offsets = offsets.as<std::int32_t>(),
            .permutation = permutation.as<std::int32_t>(),
            .inverse = inverse.as<std::int32_t>(),
            .pre_activation = data_or_null(pre_activation),
            .wants_pre_activation = pre_activation.defined(),
            .residual = as_matrix(residual),
            .y = as_matrix(y),
            .experts = experts.down.size(0),
            .top_k = weights.size(1),
            .ffn = experts.down.size(2)};
  }
};

/// x: undefined where only the residual's gradient is wanted.
void experts_backward(Backward& b, const ExpertsCall& kept, const Saved& x) {
  Context& context = b.context();
  const auto target = [&b](std::size_t input) { return b.wants(input) ? b.target(input) : GradTarget(); };
  const Tensor dy = b.take_grad();
  if (x.defined()) {
    ExpertsCall call = kept;
    call.x = x.get(context);
    const GradTarget dx = target(kX);
    const GradTarget dgate_up = target(kGateUp);
    const GradTarget ddown = target(kDown);
    const GradTarget dgate_up_bias = target(kGateUpBias);
    const GradTarget ddown_bias = target(kDownBias);
    Tensor dweights = b.wants(kWeights) ? context.empty(call.weights.shape(), DType::kF32) : Tensor();
    launch(context, "moe.experts gradient", context.kernels().experts_grad,
           {.forward = call.args({}, {}),
            .dy = as_matrix(dy),
            .dx = as_matrix(dx.grad),
            .dweights = data_or_null<float>(dweights),
            .dgate_up = data_or_null(dgate_up.grad),
            .ddown = data_or_null(ddown.grad),
            .dgate_up_bias = data_or_null(dgate_up_bias.grad),
            .ddown_bias = data_or_null(ddown_bias.grad),
            .wants_dweights = dweights.defined(),
            .wants_dgate_up = dgate_up.grad.defined(),
            .wants_ddown = ddown.grad.defined(),
            .wants_dgate_up_bias = dgate_up_bias.grad.defined(),
            .wants_ddown_bias = ddown_bias.grad.defined(),
            .dgate_up_dtype = dgate_up.grad.dtype(),
            .ddown_dtype = ddown.grad.dtype(),
            .dgate_up_bias_dtype = dgate_up_bias.grad.dtype(),
            .ddown_bias_dtype = ddown_bias.grad.dtype(),
            .accumulate_dx = dx.accumulate,
            .accumulate_dgate_up = dgate_up.accumulate,
            .accumulate_ddown = ddown.accumulate,
            .accumulate_dgate_up_bias = dgate_up_bias.accumulate,
            .accumulate_ddown_bias = ddown_bias.accumulate});
    b.give(kWeights, std::move(dweights));
  }
  b.give(kResidual, dy);
}

}  // namespace

Tensor experts(Context& context, const Tensor& x, const ExpertWeights& weights,
               const ExpertFunction& function, const Routing& routing, const Tensor& residual,
               DType out_dtype) {
  check_experts(context, x, weights, function.gated, routing, residual, out_dtype);
  const bool products = ops::needs_grad(context, {&x, &weights.gate_up, &weights.down, &weights.gate_up_bias,
                                                  &weights.down_bias, &routing.weights});
  const bool recording = products || ops::needs_grad(context, {&residual});
  const auto detached = [](const Tensor& t) { return t.defined() ? t.detach() : t; };
  ExpertsCall call{.x = x.detach(),
                   .experts = {.gate_up = weights.gate_up.detach(),
                               .down = weights.down.detach(),
                               .gate_up_bias = detached(weights.gate_up_bias),
                               .down_bias = detached(weights.down_bias)},
                   .function = function,
                   .weights = routing.weights.detach(),
                   .offsets = routing.offsets,
                   .permutation = routing.permutation,
                   .inverse = routing.inverse,
                   .pre_activation = {}};
  if (products && context.tape()->keeps())
    call.pre_activation = context.empty({routing.weights.numel(), weights.gate_up.size(1)}, x.dtype());
  Tensor y = context.empty(x.shape(), out_dtype);
  launch(context, kExperts, context.kernels().experts, call.args(residual, y));
  if (!recording) return y;
  call.x = Tensor();
  if (!products) call = ExpertsCall();
  record(context, kExperts,
         {&x, &weights.gate_up, &weights.down, &weights.gate_up_bias, &weights.down_bias, &routing.weights,
          &residual},
         {&y}, [call = std::move(call), kept_x = products ? Saved(x) : Saved()](Backward& b) {
           experts_backward(b, call, kept_x);
         });
  return y;
}

}  // namespace hone::moe
