#include "model/mixers/moe.h"

#include "model/mixers/dense.h"
#include "model/mixers/linear.h"
#include "model/parameters.h"
#include "ops/elementwise.h"
#include "ops/linear.h"

namespace hone::model {

namespace {

DenseSpec shared_of(const MoeSpec& spec) {
  return {.ffn = spec.shared_ffn,
          .bias = spec.shared_bias,
          .gated = spec.function.gated,
          .activation = spec.function.activation};
}

/// What the matrices that make the pre-activation are called, (experts, rows, hidden), and their rows.
std::string inner_name(const MoeSpec& spec) {
  return spec.function.gated ? "gate_up_proj" : "up_proj";
}
std::int64_t inner_rows(const MoeSpec& spec) {
  return (spec.function.gated ? 2 : 1) * spec.ffn;
}

class Moe final : public Mixer {
 public:
  Moe(const MoeSpec& spec, const std::string& prefix, const ParameterSet& parameters, double norm_eps)
      : spec_(spec),
        router_(Linear::find(parameters, prefix + "." + spec.router)),
        correction_bias_(parameters.find(prefix + "." + spec.router + ".e_score_correction_bias")),
        gate_up_(parameters.find(prefix + ".experts." + inner_name(spec))),
        down_(parameters.find(prefix + ".experts.down_proj")),
        gate_up_bias_(parameters.find(prefix + ".experts." + inner_name(spec) + "_bias")),
        down_bias_(parameters.find(prefix + ".experts.down_proj_bias")),
        shared_gate_(parameters.find(prefix + "." + spec.shared + "_gate.weight")) {
    if (spec.shared_ffn > 0)
      shared_ = make_mixer(shared_of(spec), prefix + "." + spec.shared, parameters, norm_eps);
  }

  Tensor forward(ops::Context& context, const Tensor& h, const Tensor& residual, const Pass& pass,
                 std::vector<moe::RoutingStatistics>& statistics) const override {
    const auto handle = [](const Parameter* p) { return p != nullptr ? p->handle() : ops::Weight(); };
    const Tensor logits =
        ops::linear(context, h, handle(router_.weight), handle(router_.bias), {}, DType::kF32);
    const ops::HeldWeight correction_bias(context, handle(correction_bias_));
    const moe::Routing routing =
        moe::route(context, logits, spec_.top_k, spec_.rule, correction_bias.value());
    statistics.push_back(routing.statistics);
    const Tensor y = moe::experts(context, h,
                                  {.gate_up = handle(gate_up_),
                                   .down = handle(down_),
                                   .gate_up_bias = handle(gate_up_bias_),
                                   .down_bias = handle(down_bias_)},
                                  spec_.function, routing, residual);
    if (!shared_) return y;
    if (shared_gate_ == nullptr) return shared_->forward(context, h, y, pass, statistics);
    const Tensor gate = ops::linear(context, h, shared_gate_->handle(), {}, {}, DType::kF32);
    return ops::row_gate(context, shared_->forward(context, h, {}, pass, statistics), gate, y);
  }

 private:
  MoeSpec spec_;
  Linear router_;
  const Parameter* correction_bias_;  // null: none
  const Parameter* gate_up_;
  const Parameter* down_;
  const Parameter* gate_up_bias_;  // null: none
  const Parameter* down_bias_;     // null: none
  const Parameter* shared_gate_;   // null: none
  std::unique_ptr<Mixer> shared_;  // null: none
};

}  // namespace

void list_parameters(const MoeSpec& spec, const std::string& prefix, ParameterList& list) {
  list.linear(prefix + "." + spec.router, spec.experts, list.hidden(), spec.router_bias, Role::kRouter);
  if (spec.has_correction_bias)
    list.add_buffer(prefix + "." + spec.router + ".e_score_correction_bias", Shape{spec.experts},
                    Role::kRouter);
  const auto add_expert = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    list.add(prefix + ".experts." + name, Shape{spec.experts, out, in}, Role::kExpert);
    if (spec.expert_bias)
      list.add(prefix + ".experts." + name + "_bias", Shape{spec.experts, out}, Role::kExpert);
  };
  add_expert(inner_name(spec), inner_rows(spec), list.hidden());
  add_expert("down_proj", list.hidden(), spec.ffn);
  if (spec.shared_ffn == 0) return;
  list_parameters(shared_of(spec), prefix + "." + spec.shared, list, Role::kSharedExpert);
  if (spec.shared_is_gated)
    list.add(prefix + "." + spec.shared + "_gate.weight", Shape{1, list.hidden()}, Role::kSharedExpert);
}

std::unique_ptr<Mixer> make_mixer(const MoeSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps) {
  return std::make_unique<Moe>(spec, prefix, parameters, norm_eps);
}

}  // namespace hone::model
