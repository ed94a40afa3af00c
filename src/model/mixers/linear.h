// Linear: the weight and bias of one product, found by name.
#pragma once

#include <string>

#include "tensor/tensor.h"

namespace hone::ops {
class Context;
}

namespace hone::model {

class ParameterSet;
struct Parameter;

struct Linear {
  const Parameter* weight = nullptr;
  const Parameter* bias = nullptr;  // null: none

  /// NAME.weight and NAME.bias, each null where there is none.
  static Linear find(const ParameterSet& parameters, const std::string& name);
  /// x: (rows, in) T. residual: (rows, out) f32, or undefined. Result: (rows, out), T without a residual,
  /// else f32.
  Tensor apply(ops::Context& context, const Tensor& x, const Tensor& residual = {}) const;
};

}  // namespace hone::model
