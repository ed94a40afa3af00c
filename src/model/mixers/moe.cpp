#include "model/mixers/moe.h"

#include "model/mixers/dense.h"
#include "model/parameters.h"
#include "moe/experts.h"
#include "ops/elementwise.h"
#include "ops/linear.h"

namespace hone::model {

namespace {

class Moe final : public Mixer {
 public:
  Moe(const MoeSpec& spec, const std::string& prefix, const ParameterSet& parameters, double norm_eps)
      : spec_(spec),
        router_(parameters.find(prefix + "." + spec.router + ".weight")),
        gate_up_(parameters.find(prefix + ".experts.gate_up_proj")),
        down_(parameters.find(prefix + ".experts.down_proj")),
        shared_gate_(parameters.find(prefix + ".shared_expert_gate.weight")) {
    if (spec.shared_ffn > 0)
      shared_ =
          make_mixer(DenseSpec{.ffn = spec.shared_ffn}, prefix + ".shared_expert", parameters, norm_eps);
  }

  Tensor forward(ops::Context& context, const Tensor& h, const Tensor& residual, const Pass& pass,
                 std::vector<Tensor>& statistics) const override {
    const Tensor logits = ops::linear(context, h, router_->value, {}, {}, DType::kF32);
    const moe::Routing routing = moe::route(context, logits, spec_.top_k, spec_.rule);
    statistics.push_back(routing.counts);
    statistics.push_back(routing.probability_sums);
    const Tensor y = moe::experts(
        context, h, {.gate_up = gate_up_->value, .down = down_->value, .gate_up_bias = {}, .down_bias = {}},
        {}, routing, residual);
    if (!shared_) return y;
    const Tensor gate = ops::linear(context, h, shared_gate_->value, {}, {}, DType::kF32);
    return ops::row_gate(context, shared_->forward(context, h, {}, pass, statistics), gate, y);
  }

 private:
  MoeSpec spec_;
  const Parameter* router_;
  const Parameter* gate_up_;
  const Parameter* down_;
  const Parameter* shared_gate_;
  std::unique_ptr<Mixer> shared_;  // null: none
};

}  // namespace

void list_parameters(const MoeSpec& spec, const std::string& prefix, ParameterList& list) {
  list.add(prefix + "." + spec.router + ".weight", Shape{spec.experts, list.hidden()}, Role::kRouter);
  list.add(prefix + ".experts.gate_up_proj", Shape{spec.experts, 2 * spec.ffn, list.hidden()}, Role::kExpert);
  list.add(prefix + ".experts.down_proj", Shape{spec.experts, list.hidden(), spec.ffn}, Role::kExpert);
  if (spec.shared_ffn == 0) return;
  list_parameters(DenseSpec{.ffn = spec.shared_ffn}, prefix + ".shared_expert", list, Role::kSharedExpert);
  list.add(prefix + ".shared_expert_gate.weight", Shape{1, list.hidden()}, Role::kSharedExpert);
}

std::unique_ptr<Mixer> make_mixer(const MoeSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps) {
  return std::make_unique<Moe>(spec, prefix, parameters, norm_eps);
}

}  // namespace hone::model
