#include "model/mixers/linear.h"

#include "model/parameters.h"
#include "ops/linear.h"

namespace hone::model {

Linear Linear::find(const ParameterSet& parameters, const std::string& name) {
  return {parameters.find(name + ".weight"), parameters.find(name + ".bias")};
}

Tensor Linear::apply(ops::Context& context, const Tensor& x, const Tensor& residual) const {
  return ops::linear(context, x, weight->handle(), bias != nullptr ? bias->handle() : ops::Weight(), residual,
                     residual.defined() ? DType::kF32 : x.dtype());
}

}  // namespace hone::model
