#include "moe/moe.h"

#include "ops/launch.h"
#include "tensor/transfer.h"

namespace hone::moe {

using ops::Backward;
using ops::check_argument;
using ops::check_dense_argument;
using ops::launch;

namespace {

float* floats_or_null(const Tensor& t) {
  return t.defined() ? t.as<float>() : nullptr;
}

void plan(Context& context, const Routing& routing) {
  launch(context, "moe.route", context.kernels().moe_plan,
         {.experts_of = routing.experts_of.as<std::int32_t>(),
          .tokens = routing.experts_of.size(0),
          .top_k = routing.experts_of.size(1),
          .experts = routing.statistics.counts.size(0),
          .counts = routing.statistics.counts.as<std::int32_t>(),
          .offsets = routing.offsets.as<std::int32_t>(),
          .permutation = routing.permutation.as<std::int32_t>(),
          .inverse = routing.inverse.as<std::int32_t>()});
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
            .offsets = context.empty({num_experts + 1}, DType::kI32),
            .permutation = context.empty({tokens * top_k}, DType::kI32),
            .inverse = context.empty({tokens * top_k}, DType::kI32),
            .statistics = {.counts = context.empty({num_experts}, DType::kI32),
                           .probability_sums = context.empty({num_experts}, DType::kF32)}};
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
          .probability_sums = r.statistics.probability_sums.as<float>()});
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
  record(context, kOp, {&logits}, {&r.weights, &r.statistics.probability_sums}, grad_fn);
  return r;
}

Tensor load_balancing_loss(Context& context, const std::vector<RoutingStatistics>& layers,
                           std::int64_t tokens, float coefficient) {
  constexpr std::string_view kOp = "moe.load_balancing_loss";
  HONE_CHECK(!layers.empty() && tokens > 0, "[moe.load_balancing_loss] {} layers of {} tokens", layers.size(),
             tokens);
  const Shape& each = layers.front().counts.shape();
  const auto num_layers = static_cast<std::int64_t>(layers.size());
  // What the kernel reads lies in one piece: a device is not sent a list of addresses.
  const Tensor sums = context.empty({num_layers, each[0]}, DType::kF32);
  const Tensor counts = context.empty({num_layers, each[0]}, DType::kI32);
  std::vector<const Tensor*> inputs;
  bool recording = false;
  for (const RoutingStatistics& layer : layers) {
    check_argument(context, kOp, "probability_sums", layer.probability_sums, 1, {DType::kF32});
    check_argument(context, kOp, "counts", layer.counts, 1, {DType::kI32});
    HONE_CHECK(layer.probability_sums.shape() == each && layer.counts.shape() == each,
               "[moe.load_balancing_loss] layers of {} and {} experts", each[0],
               layer.probability_sums.size(0));
    const auto row = [&, at = static_cast<std::int64_t>(inputs.size())](const Tensor& all) {
      return all.rows(at, at + 1).reshape(each);
    };
    copy_bytes(context.stream(), layer.probability_sums, row(sums));
    copy_bytes(context.stream(), layer.counts, row(counts));
    inputs.push_back(&layer.probability_sums);
    recording = recording || ops::needs_grad(context, {&layer.probability_sums});
  }
  Tensor loss = context.empty({1}, DType::kF32);
  const bool keeps = recording && context.tape()->keeps();
  const Tensor grad = keeps ? context.empty(each, DType::kF32) : Tensor();
  launch(context, kOp, context.kernels().load_balancing,
         {.probability_sums = sums.as<float>(),
          .counts = counts.as<std::int32_t>(),
          .layers = num_layers,
          .experts = each[0],
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
