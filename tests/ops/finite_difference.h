// Checks a differentiable operation in every way it can be used: against finite differences, accumulated,
// frozen, shared, recomputed, in bf16, on the meta device and in memory, with each instruction set that this
// processor has.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ops/autograd.h"

namespace hone::test {

/// One argument of the operation under test.
struct Input {
  std::string name;
  Shape shape;
  double scale = 1;  // values are scale * normal + offset
  double offset = 0;
  bool is_f32 = false;     // f32 even where the compute dtype is bf16 (a residual, a gate, router logits)
  bool is_weight = false;  // a parameter: not an activation in the ledger, captured by a recomputed block
};

/// From inputs to differentiable outputs. Makes its integer arguments itself, on the context it is given.
using Program = std::function<std::vector<Tensor>(ops::Context&, const std::vector<Tensor>&)>;

struct OpCase {
  std::vector<Input> inputs;
  Program program;
  std::int64_t reduction = 16;  // length of the longest sum in it; sets the tolerance
  bool is_loss = false;         // its output's gradient must be 1
  bool has_bf16 = true;
  std::int64_t kept_bytes = 0;  // f32: activations that are kept for the gradient, by the header
  double step = 1.0 / 32;       // of the finite differences
};

/// All of the checks named above.
void check_op(const OpCase& op);

/// Tensor of scale * normal + offset, a function of the seed.
Tensor random_tensor(ops::Context& context, const Shape& shape, std::uint64_t seed, double scale = 1,
                     double offset = 0, DType dtype = DType::kF32,
                     device::Purpose purpose = device::Purpose::kActivations);
Tensor ints(ops::Context& context, const std::vector<std::int32_t>& values);
/// The elements, widened.
std::vector<double> values_of(const Tensor& t);
/// |a - b| / |b| in the 2-norm.
double relative_error(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace hone::test
