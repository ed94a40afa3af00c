// What the tests of the tape share: a context, and leaves that are quickly made.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <vector>

#include "ops/autograd.h"
#include "tests/ops/finite_difference.h"

namespace hone::ops {

using device::Purpose;
using test::ints;
using test::random_tensor;
using test::values_of;
using testing::ElementsAre;
using Tensors = std::vector<Tensor>;

/// A block that uses the context of its test.
inline Tensors checkpoint(Context& context, const Tensors& inputs,
                          std::function<Tensors(const Tensors&)> block) {
  return checkpoint(context, inputs,
                    [block = std::move(block)](Context&, const Tensors& in) { return block(in); });
}

class Autograd : public testing::Test {
 protected:
  Tensor leaf(std::initializer_list<float> values) {
    Tensor t = constant(values);
    require_grad(t, DType::kF32);
    return t;
  }
  Tensor constant(std::initializer_list<float> values) {
    const std::vector<float> v(values);
    return Tensor::from<float>(context_.stream(), v, {static_cast<std::int64_t>(v.size())},
                               Purpose::kWeights);
  }
  Tensor random_leaf(const Shape& shape, std::uint64_t seed, double scale = 1) {
    Tensor t = random_tensor(context_, shape, seed, scale, 0, DType::kF32, Purpose::kWeights);
    require_grad(t, DType::kF32);
    return t;
  }
  static std::vector<double> grad_of(const Tensor& t) { return values_of(t.grad_slot()->grad()); }
  std::int64_t activations() const { return context_.ledger().current(Purpose::kActivations); }

  Context context_{{}, 1};
};

}  // namespace hone::ops
