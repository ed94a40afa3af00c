// Mixture of experts: which experts compute what (router, plan), and the loss that balances them.
#pragma once

#include <vector>

#include "ops/autograd.h"

namespace hone::moe {

using kernels::RouterRule;
using ops::Context;

/// How evenly one layer's tokens went to its experts.
struct RoutingStatistics {
  Tensor counts;            // (experts) i32: routed (token, slot) pairs
  Tensor probability_sums;  // (experts) f32, differentiable: for the auxiliary loss
};

/// The routing of one layer's tokens: made on the device, read by nobody on the host during a step.
struct Routing {
  Tensor weights;      // (tokens, top_k) f32, differentiable
  Tensor experts_of;   // (tokens, top_k) i32
  Tensor offsets;      // (experts + 1) i32
  Tensor permutation;  // (tokens * top_k) i32, see kernels::MoePlanArgs
  Tensor inverse;      // (tokens * top_k) i32
  RoutingStatistics statistics;
};

/// logits: (tokens, experts) f32. correction_bias: (experts) f32, added to the scores for the choice alone
/// and without a gradient, or undefined. Keeps the probabilities (tokens, experts) f32, and the routing.
/// (Shazeer et al., arXiv:1701.06538; DeepSeek-V3, arXiv:2412.19437, 2.1.2; exactly as Transformers'
/// routers.)
Routing route(Context& context, const Tensor& logits, std::int64_t top_k, const RouterRule& rule,
              const Tensor& correction_bias = {});

/// Transformers' load-balancing loss over all MoE layers of one micro-step, times `coefficient`
/// (kernels::LoadBalancingArgs). Result: (1) f32. tokens: non-padding tokens that each layer routed. (Fedus
/// et al., arXiv:2101.03961, eq. 4-6.) The gradient is made together with the loss, so it must reach
/// backward() with gradient 1: put factors into `coefficient`. Keeps the gradient (experts) f32.
Tensor load_balancing_loss(Context& context, const std::vector<RoutingStatistics>& layers,
                           std::int64_t tokens, float coefficient);

}  // namespace hone::moe
