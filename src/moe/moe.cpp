#include "moe/moe.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::moe {

using ops::as_matrix;
using ops::Backward;
using ops::check_argument;
using ops::check_dense_argument;
using ops::GradTarget;
using ops::launch;
using ops::Saved;

namespace {

constexpr std::string_view kExperts = "moe.experts";
enum ExpertsInput : std::size_t { kX, kGateUp, kDown, kWeights, kResidual };

void* data_or_null(const Tensor& t) {
  return t.defined() ? t.data() : nullptr;
}
float* floats_or_null(const Tensor& t) {
  return t.defined() ? t.as<float>() : nullptr;
}

void plan(Context& context, const Routing& routing) {
  launch(context, "moe.route", context.kernels().moe_plan,
         {.experts_of = routing.experts_of.as<std::int32_t>(),
          .tokens = routing.experts_of.size(0),
          .top_k = routing.experts_of.size(1),
          .experts = routing.counts.size(0),
          .counts = routing.counts.as<std::int32_t>(),
          .offsets = routing.offsets.as<std::int32_t>(),
          .permutation = routing.permutation.as<std::int32_t>(),
          .inverse = routing.inverse.as<std::int32_t>()});
}

void check_experts(const Context& context, const Tensor& x, const Tensor& gate_up, const Tensor& down,
                   const Routing& r, const Tensor& residual) {
  check_argument(context, kExperts, "x", x, 2, ops::kComputeTypes);
  check_argument(context, kExperts, "gate_up", gate_up, 3, {x.dtype()});
  check_argument(context, kExperts, "down", down, 3, {x.dtype()});
  const std::int64_t tokens = x.size(0);
  const std::int64_t hidden = x.size(1);
  const std::int64_t num_experts = down.size(0);
  const std::int64_t ffn = down.size(2);
  HONE_CHECK(down.size(1) == hidden && gate_up.shape() == (Shape{num_experts, 2 * ffn, hidden}),
             "[moe.experts] gate_up is {}, down {}, x {}", gate_up.shape().str(), down.shape().str(),
             x.shape().str());
  check_dense_argument(context, kExperts, "routing.weights", r.weights, 2, {DType::kF32});
  check_argument(context, kExperts, "routing.offsets", r.offsets, 1, {DType::kI32});
  check_argument(context, kExperts, "routing.permutation", r.permutation, 1, {DType::kI32});
  check_argument(context, kExperts, "routing.inverse", r.inverse, 1, {DType::kI32});
  HONE_CHECK(r.weights.size(0) == tokens, "[moe.experts] routing of {} tokens, x {}", r.weights.size(0),
             x.shape().str());
  HONE_CHECK(r.offsets.size(0) == num_experts + 1, "[moe.experts] routing to {} experts, down {}",
             r.offsets.size(0) - 1, down.shape().str());
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
  Tensor x, gate_up, down, weights, offsets, permutation, inverse, pre_activation;

  kernels::ExpertsArgs args(const Tensor& residual, const Tensor& y) const {
    return {.x = as_matrix(x),
            .gate_up = gate_up.data(),
            .down = down.data(),
            .weights = weights.as<float>(),
            .offsets = offsets.as<std::int32_t>(),
            .permutation = permutation.as<std::int32_t>(),
            .inverse = inverse.as<std::int32_t>(),
            .pre_activation = data_or_null(pre_activation),
            .wants_pre_activation = pre_activation.defined(),
            .residual = as_matrix(residual),
            .y = as_matrix(y),
            .experts = down.size(0),
            .top_k = weights.size(1),
            .ffn = down.size(2)};
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
    Tensor dweights = b.wants(kWeights) ? context.empty(call.weights.shape(), DType::kF32) : Tensor();
    launch(context, "moe.experts gradient", context.kernels().experts_grad,
           {.forward = call.args({}, {}),
            .dy = as_matrix(dy),
            .dx = as_matrix(dx.grad),
            .dweights = floats_or_null(dweights),
            .dgate_up = data_or_null(dgate_up.grad),
            .ddown = data_or_null(ddown.grad),
            .wants_dweights = dweights.defined(),
            .wants_dgate_up = dgate_up.grad.defined(),
            .wants_ddown = ddown.grad.defined(),
            .dgate_up_dtype = dgate_up.grad.dtype(),
            .ddown_dtype = ddown.grad.dtype(),
            .accumulate_dx = dx.accumulate,
            .accumulate_dgate_up = dgate_up.accumulate,
            .accumulate_ddown = ddown.accumulate});
    b.give(kWeights, std::move(dweights));
  }
  b.give(kResidual, dy);
}

}  // namespace

Routing route(Context& context, const Tensor& logits, std::int64_t top_k, const RouterRule& rule,
              const Tensor& correction_bias) {
  constexpr std::string_view kOp = "moe.route";
  check_dense_argument(context, kOp, "logits", logits, 2, {DType::kF32});
  const std::int64_t tokens = logits.size(0);
  const std::int64_t num_experts = logits.size(1);
  HONE_CHECK(top_k >= 1 && top_k <= num_experts, "[moe.route] top_k {} of {} experts", top_k, num_experts);
  if (correction_bias.defined()) {
    check_dense_argument(context, kOp, "correction_bias", correction_bias, 1, {DType::kF32});
    HONE_CHECK(correction_bias.size(0) == num_experts, "[moe.route] correction_bias is {}, logits {}",
               correction_bias.shape().str(), logits.shape().str());
  }
  const Tensor probabilities = context.empty(logits.shape(), DType::kF32);
  Routing r{.weights = context.empty({tokens, top_k}, DType::kF32),
            .experts_of = context.empty({tokens, top_k}, DType::kI32),
            .probability_sums = context.empty({num_experts}, DType::kF32),
            .counts = context.empty({num_experts}, DType::kI32),
            .offsets = context.empty({num_experts + 1}, DType::kI32),
            .permutation = context.empty({tokens * top_k}, DType::kI32),
            .inverse = context.empty({tokens * top_k}, DType::kI32)};
  launch(context, kOp, context.kernels().router,
         {.logits = logits.as<float>(),
          .tokens = tokens,
          .experts = num_experts,
          .top_k = top_k,
          .rule = rule,
          .correction_bias = floats_or_null(correction_bias),
          .has_correction_bias = correction_bias.defined(),
          .probabilities = probabilities.as<float>(),
          .weights = r.weights.as<float>(),
          .experts_of = r.experts_of.as<std::int32_t>(),
          .probability_sums = r.probability_sums.as<float>()});
  plan(context, r);
  if (!ops::needs_grad(context, {&logits})) return r;
  const auto grad_fn = [probabilities, experts_of = r.experts_of, weights = r.weights, rule](Backward& b) {
    Tensor dlogits = b.context().empty(probabilities.shape(), DType::kF32);
    launch(b.context(), "moe.route gradient", b.context().kernels().router_grad,
           {.probabilities = probabilities.as<float>(),
            .experts_of = experts_of.as<std::int32_t>(),
            .weights = weights.as<float>(),
            .dweights = floats_or_null(b.grad(0)),
            .dprobability_sums = floats_or_null(b.grad(1)),
            .has_dweights = b.grad(0).defined(),
            .has_dprobability_sums = b.grad(1).defined(),
            .dlogits = dlogits.data(),
            .dlogits_dtype = dlogits.dtype(),
            .tokens = probabilities.size(0),
            .experts = probabilities.size(1),
            .top_k = experts_of.size(1),
            .rule = rule});
    b.give(0, std::move(dlogits));
  };
  record(context, kOp, {&logits}, {&r.weights, &r.probability_sums}, grad_fn);
  return r;
}

Tensor experts(Context& context, const Tensor& x, const Tensor& gate_up, const Tensor& down,
               const Routing& routing, const Tensor& residual) {
  check_experts(context, x, gate_up, down, routing, residual);
  const bool recording = ops::needs_grad(context, {&x, &gate_up, &down, &routing.weights, &residual});
  const bool products = ops::needs_grad(context, {&x, &gate_up, &down, &routing.weights});
  ExpertsCall call{.x = x.detach(),
                   .gate_up = gate_up.detach(),
                   .down = down.detach(),
                   .weights = routing.weights.detach(),
                   .offsets = routing.offsets,
                   .permutation = routing.permutation,
                   .inverse = routing.inverse,
                   .pre_activation = {}};
  if (products && context.tape()->keeps())
    call.pre_activation = context.empty({routing.weights.numel(), 2 * down.size(2)}, x.dtype());
  Tensor y = context.empty(x.shape(), DType::kF32);
  launch(context, kExperts, context.kernels().experts, call.args(residual, y));
  if (!recording) return y;
  call.x = Tensor();
  if (!products) call = ExpertsCall();
  record(context, kExperts, {&x, &gate_up, &down, &routing.weights, &residual}, {&y},
         [call = std::move(call), kept_x = products ? Saved(x) : Saved()](Backward& b) {
           experts_backward(b, call, kept_x);
         });
  return y;
}

Tensor load_balancing_loss(Context& context, const std::vector<Routing>& layers, std::int64_t tokens,
                           float coefficient) {
  constexpr std::string_view kOp = "moe.load_balancing_loss";
  HONE_CHECK(!layers.empty() && tokens > 0, "[moe.load_balancing_loss] {} layers of {} tokens", layers.size(),
             tokens);
  std::vector<const float*> sums;
  std::vector<const std::int32_t*> counts;
  std::vector<const Tensor*> inputs;
  bool recording = false;
  for (const Routing& layer : layers) {
    check_argument(context, kOp, "probability_sums", layer.probability_sums, 1, {DType::kF32});
    check_argument(context, kOp, "counts", layer.counts, 1, {DType::kI32});
    const Shape& shape = layers.front().counts.shape();
    HONE_CHECK(layer.probability_sums.shape() == shape && layer.counts.shape() == shape,
               "[moe.load_balancing_loss] layers of {} and {} experts", shape[0],
               layer.probability_sums.size(0));
    sums.push_back(layer.probability_sums.as<float>());
    counts.push_back(layer.counts.as<std::int32_t>());
    inputs.push_back(&layer.probability_sums);
    recording = recording || ops::needs_grad(context, {&layer.probability_sums});
  }
  Tensor loss = context.empty({1}, DType::kF32);
  const bool keeps = recording && context.tape()->keeps();
  const Tensor grad = keeps ? context.empty(layers.front().counts.shape(), DType::kF32) : Tensor();
  launch(context, kOp, context.kernels().load_balancing,
         {.probability_sums = sums.data(),
          .counts = counts.data(),
          .layers = static_cast<std::int64_t>(layers.size()),
          .experts = layers.front().counts.size(0),
          .tokens = tokens,
          .coefficient = coefficient,
          .loss = loss.as<float>(),
          .dprobability_sums = floats_or_null(grad),
          .wants_dprobability_sums = grad.defined()});
  if (!recording) return loss;
  record(context, kOp, inputs, {&loss}, [grad, n = layers.size()](Backward& b) {
    ops::check_unit_gradient(b.context(), "moe.load_balancing_loss", b.grad());
    for (std::size_t i = 0; i < n; ++i) b.give(i, grad);
  });
  return loss;
}

}  // namespace hone::moe
