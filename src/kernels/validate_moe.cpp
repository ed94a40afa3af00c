// validate(), of the kernels of a mixture of experts: see validate.cpp.
#include <fmt/format.h>

#include "kernels/argument_checks.h"

namespace hone::kernels {

namespace {

template <typename Args>
void check_choice(const Arguments& check, const Args& a) {
  check.sizes({a.tokens});
  check.holds(a.top_k > 0 && a.top_k <= a.experts, "top_k is not in 1 … experts");
}

template <typename Args>
void check_rule(const Arguments& check, const Args& a) {
  const RouterRule& r = a.rule;
  check.holds(r.groups > 0 && a.experts % r.groups == 0, "experts are no multiple of groups");
  check.holds(r.top_groups > 0 && r.top_groups <= r.groups, "top_groups is not in 1 … groups");
  check.holds(a.top_k <= a.experts / r.groups * r.top_groups, "top_groups hold fewer experts than top_k");
  check.holds(r.groups == 1 || r.group_score == RouterRule::GroupScore::kMax || a.experts > r.groups,
              "a group of one expert has no best two");
  check.holds(!r.normalize || r.score != RouterRule::Score::kSoftmaxOfChosen,
              "a softmax of the chosen is normalized");
  check.number("normalize_eps", r.normalize_eps, 0, kAny);
  check.number("scaling", r.scaling, 0, kAny);
  check.holds(r.scaling > 0, "scaling is 0");
}

}  // namespace

void validate(const RouterArgs& a) {
  const Arguments check(a);
  check_choice(check, a);
  check_rule(check, a);
  check.flagged("correction_bias", a.has_correction_bias, a.correction_bias, a.logits);
  check.apart({"probabilities", dense(a.probabilities, DType::kF32, a.tokens, a.experts)},
              {{"logits", dense(a.logits, DType::kF32, a.tokens, a.experts)}});
}

void validate(const RouterGradArgs& a) {
  const Arguments check(a);
  check.stored("dlogits", a.dlogits_dtype);
  check_choice(check, a);
  check_rule(check, a);
  check.flagged("dweights", a.has_dweights, a.dweights, a.probabilities);
  check.flagged("dprobability_sums", a.has_dprobability_sums, a.dprobability_sums, a.probabilities);
  check.apart({"dlogits", dense(a.dlogits, a.dlogits_dtype, a.tokens, a.experts)},
              {{"probabilities", dense(a.probabilities, DType::kF32, a.tokens, a.experts)}});
}

void validate(const MoePlanArgs& a) {
  const Arguments check(a);
  check_choice(check, a);
  check.holds(a.tokens * a.top_k < std::int64_t{1} << 31, "more pairs than 32 bits count");
}

namespace {

void check_weight(const Arguments& check, std::string_view name, const ExpertWeight& w, std::int64_t k) {
  check.flagged(fmt::format("{}.scales", name), w.kind != WeightKind::kDense, w.scales, w.data);
  check.holds(w.kind != WeightKind::kMxfp4 || k % 32 == 0, "MXFP4 weights whose k is no multiple of 32");
}

void check_experts(const Arguments& check, const ExpertsArgs& a) {
  check.stored("x", a.x.dtype);
  check.as("x", a.x, a.x);
  check.sizes({a.experts, a.ffn});
  check.holds(a.top_k > 0 && a.top_k <= a.experts, "top_k is not in 1 … experts");
  if (a.activation == Activation::kClampedSilu) {
    check.holds(a.gated, "a clamped silu without a gate");
    check.holds(a.alpha > 0 && a.alpha < kAny && a.limit > 0, "alpha or limit is not above 0");
  }
  check_weight(check, "gate_up", a.gate_up, a.x.cols);
  check_weight(check, "down", a.down, a.ffn);
  check.holds(!a.fp8 || (a.gate_up.kind == WeightKind::kDense && a.down.kind == WeightKind::kDense),
              "weights that are quantised already are rounded to fp8");
  check.flagged("gate_up_bias", a.has_gate_up_bias, a.gate_up_bias, a.x.data);
  check.flagged("down_bias", a.has_down_bias, a.down_bias, a.x.data);
  check.flagged("pre_activation", a.wants_pre_activation, a.pre_activation, a.x.data);
}

}  // namespace

void validate(const ExpertsArgs& a) {
  const Arguments check(a);
  check_experts(check, a);
  check.same("residual", a.residual.dtype, DType::kF32);
  check.f32_or("y", a.y.dtype, a.x.dtype);
  check.as_or_left_out("residual", a.residual, a.x);
  check.as("y", a.y, a.x);
  check.apart({"y", a.y}, {{"x", a.x}, {"residual", a.residual}});
}

void validate(const ExpertsGradArgs& a) {
  const Arguments check(a);
  const ExpertsArgs& f = a.forward;
  const DType t = f.x.dtype;
  check_experts(check, f);
  check.holds(f.wants_pre_activation, "the forward pass kept no pre-activation");
  check.f32_or("dy", a.dy.dtype, t);
  check.f32_or("dx", a.dx.dtype, t);
  check.f32_or("dgate_up", a.dgate_up_dtype, t);
  check.f32_or("ddown", a.ddown_dtype, t);
  check.f32_or("dgate_up_bias", a.dgate_up_bias_dtype, t);
  check.f32_or("ddown_bias", a.ddown_bias_dtype, t);
  check.as("dy", a.dy, f.x);
  check.as_or_left_out("dx", a.dx, f.x);
  check.flagged("dweights", a.wants_dweights, a.dweights, f.x.data);
  check.flagged("dgate_up", a.wants_dgate_up, a.dgate_up, f.x.data);
  check.flagged("ddown", a.wants_ddown, a.ddown, f.x.data);
  check.flagged("dgate_up_bias", a.wants_dgate_up_bias, a.dgate_up_bias, f.x.data);
  check.flagged("ddown_bias", a.wants_ddown_bias, a.ddown_bias, f.x.data);
  check.flagged("dgate_up_squares", a.wants_dgate_up_squares, a.dgate_up_squares, f.x.data);
  check.flagged("ddown_squares", a.wants_ddown_squares, a.ddown_squares, f.x.data);
  check.holds((a.wants_dgate_up || !a.wants_dgate_up_squares) && (a.wants_ddown || !a.wants_ddown_squares),
              "squares of a gradient that is not wanted");
  check.holds(!a.wants_dgate_up || f.gate_up.kind == WeightKind::kDense, "quantised gate_up has no gradient");
  check.holds(!a.wants_ddown || f.down.kind == WeightKind::kDense, "quantised down has no gradient");
  check.holds(!a.wants_dgate_up_bias || f.has_gate_up_bias, "dgate_up_bias without a gate_up_bias");
  check.holds(!a.wants_ddown_bias || f.has_down_bias, "ddown_bias without a down_bias");
  check.apart({"dx", a.dx}, {{"x", f.x}, {"dy", a.dy}});
}

void validate(const LoadBalancingArgs& a) {
  const Arguments check(a);
  check.holds(a.layers > 0 && a.experts > 0, "no layers or no experts");
  check.sizes({a.tokens});
  check.flagged("dprobability_sums", a.wants_dprobability_sums, a.dprobability_sums, a.loss);
}

}  // namespace hone::kernels
