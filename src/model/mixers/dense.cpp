#include "model/mixers/dense.h"

#include "model/mixers/linear.h"
#include "model/parameters.h"
#include "ops/elementwise.h"
#include "ops/slices.h"

namespace hone::model {

namespace {

class Dense final : public Mixer {
 public:
  Dense(const DenseSpec& spec, const std::string& prefix, const ParameterSet& parameters)
      : spec_(spec),
        gate_up_(Linear::find(parameters, prefix + ".gate_up_proj")),
        gate_(Linear::find(parameters, prefix + ".gate_proj")),
        up_(Linear::find(parameters, prefix + ".up_proj")),
        down_(Linear::find(parameters, prefix + ".down_proj")) {}

  Tensor forward(ops::Context& context, const Tensor& h, const Tensor& residual, const Pass& /*pass*/,
                 std::vector<moe::RoutingStatistics>& /*statistics*/) const override {
    return down_.apply(context, activation(context, h), residual);
  }

 private:
  Tensor activation(ops::Context& context, const Tensor& h) const {
    if (!spec_.gated) return ops::activate(context, up_.apply(context, h), spec_.activation);
    if (!spec_.fused_gate_up)
      return ops::gated(context, gate_.apply(context, h), up_.apply(context, h), spec_.activation);
    const auto parts = ops::split_columns(context, gate_up_.apply(context, h), {spec_.ffn, spec_.ffn});
    return ops::gated(context, parts[0], parts[1], spec_.activation);
  }

  DenseSpec spec_;
  Linear gate_up_, gate_, up_, down_;
};

}  // namespace

void list_parameters(const DenseSpec& spec, const std::string& prefix, ParameterList& list, Role role) {
  if (spec.fused_gate_up) {
    list.linear(prefix + ".gate_up_proj", 2 * spec.ffn, list.hidden(), spec.bias, role);
  } else {
    if (spec.gated) list.linear(prefix + ".gate_proj", spec.ffn, list.hidden(), spec.bias, role);
    list.linear(prefix + ".up_proj", spec.ffn, list.hidden(), spec.bias, role);
  }
  list.linear(prefix + ".down_proj", list.hidden(), spec.ffn, spec.bias, role);
}

void list_parameters(const DenseSpec& spec, const std::string& prefix, ParameterList& list) {
  list_parameters(spec, prefix, list, Role::kDense);
}

std::unique_ptr<Mixer> make_mixer(const DenseSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double /*norm_eps*/) {
  return std::make_unique<Dense>(spec, prefix, parameters);
}

}  // namespace hone::model
