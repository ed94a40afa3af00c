#include "tests/ops/finite_difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "ops/elementwise.h"

namespace hone::test {

namespace {

using device::Purpose;
using Values = std::vector<double>;

constexpr double kRoundOff = 0x1p-24;  // of f32, relative

double norm_of(const Values& a) {
  double sum = 0;
  for (const double x : a) sum += x * x;
  return std::sqrt(sum);
}

Values plus(const Values& a, const Values& b) {
  Values sum(a);
  for (std::size_t i = 0; i < b.size(); ++i) sum[i] += b[i];
  return sum;
}

Values input_values(const OpCase& op, std::size_t i) {
  const CounterRng rng(17, RngPurpose::kBench, i);
  Values v(static_cast<std::size_t>(op.inputs[i].shape.numel()));
  for (std::size_t j = 0; j < v.size(); ++j) v[j] = op.inputs[i].scale * rng.normal(j) + op.inputs[i].offset;
  return v;
}

Tensor tensor_of(ops::Context& context, const Values& values, const Shape& shape, DType dtype,
                 Purpose purpose = Purpose::kActivations) {
  if (dtype == DType::kBF16) {
    std::vector<BFloat16> v;
    for (const double x : values) v.emplace_back(static_cast<float>(x));
    return Tensor::from<BFloat16>(context.stream(), v, shape, purpose);
  }
  std::vector<float> v;
  for (const double x : values) v.push_back(static_cast<float>(x));
  return Tensor::from<float>(context.stream(), v, shape, purpose);
}

/// The linear functional of the outputs that is differentiated.
Values projection(const OpCase& op, const Shape& shape, std::size_t output, std::uint64_t which) {
  const CounterRng rng(100 + which, RngPurpose::kBench, output);
  Values v(static_cast<std::size_t>(shape.numel()));
  for (std::size_t j = 0; j < v.size(); ++j) v[j] = op.is_loss ? 1 : rng.normal(j);
  return v;
}

/// One way of running the operation and its gradient.
struct Run {
  std::vector<bool> wanted = {};              // empty: all
  std::vector<std::uint64_t> projections{0};  // several: so many micro-batches
  bool one_tape = false;                      // … in one tape, through a value that is not a leaf
  bool recompute = false;
  DType dtype = DType::kF32;
  DType seed_dtype = DType::kF32;
  bool round_inputs = false;  // to bf16, whatever the dtype
};

struct Outcome {
  std::vector<Values> outputs, grads;  // a gradient that was not wanted is empty
  std::int64_t forward_peak = 0;       // of activations
  std::int64_t forward_bytes = 0;      // activations after forward, inputs and outputs included
  std::int64_t kept_bytes = 0;         // activations after forward once inputs and outputs are let go
  std::int64_t peak_bytes = 0;
  std::int64_t left_bytes = 0;  // activations after backward
};

class Runner {
 public:
  Runner(const OpCase& op, ops::Context& context, const Run& run) : op_(op), context_(context), run_(run) {}

  Outcome execute() {
    const std::int64_t before = activations();
    context_.ledger().reset_peak();
    make_inputs();
    std::vector<ops::Tape> tapes(run_.one_tape ? 1 : run_.projections.size());
    std::vector<Tensor> sources = inputs_;
    if (run_.one_tape) {
      const ops::TapeScope scope(context_, tapes.data());
      for (Tensor& t : sources) t = through_a_node(t);
    }
    std::vector<std::vector<std::pair<Tensor, Tensor>>> seeds(tapes.size());
    for (std::size_t i = 0; i < run_.projections.size(); ++i) {
      const std::size_t at = run_.one_tape ? 0 : i;
      const ops::TapeScope scope(context_, &tapes[at]);
      const std::vector<Tensor> outputs =
          run_.recompute ? recomputed(sources) : op_.program(context_, sources);
      for (std::size_t j = 0; j < outputs.size(); ++j) {
        const Values p = projection(op_, outputs[j].shape(), j, run_.projections[i]);
        if (i == 0) outcome_.outputs.push_back(values_of(outputs[j]));
        Tensor seed = op_.is_loss
                          ? context_.one()
                          : tensor_of(context_, p, outputs[j].shape(), seed_of(outputs[j]), Purpose::kData);
        seeds[at].emplace_back(outputs[j], std::move(seed));
      }
    }
    sources.clear();
    outcome_.forward_peak = context_.ledger().peak(Purpose::kActivations) - before;
    outcome_.forward_bytes = activations() - before;
    std::vector<std::shared_ptr<ops::GradSlot>> slots;
    for (const Tensor& t : inputs_) slots.push_back(t.grad_slot());
    measure_kept(tapes, seeds, before);
    for (std::size_t i = 0; i < tapes.size(); ++i) tapes[i].backward(context_, std::move(seeds[i]));
    for (const auto& slot : slots)
      outcome_.grads.push_back(slot && slot->grad().defined() ? values_of(slot->grad()) : Values());
    outcome_.peak_bytes = context_.ledger().peak(Purpose::kActivations) - before;
    outcome_.left_bytes = activations() - before;
    return std::move(outcome_);
  }

 private:
  std::int64_t activations() const { return context_.ledger().current(Purpose::kActivations); }

  void make_inputs() {
    for (std::size_t i = 0; i < op_.inputs.size(); ++i) {
      const Input& input = op_.inputs[i];
      Values values = input_values(op_, i);
      if (run_.round_inputs && !input.is_f32)
        for (double& x : values) x = static_cast<float>(BFloat16(static_cast<float>(x)));
      Tensor t = tensor_of(context_, values, input.shape, input.is_f32 ? DType::kF32 : run_.dtype,
                           input.is_weight ? Purpose::kWeights : Purpose::kActivations);
      if (run_.wanted.empty() || run_.wanted[i]) ops::require_grad(t, DType::kF32);
      inputs_.push_back(std::move(t));
    }
  }

  /// x + 0: the same value, but not a leaf.
  Tensor through_a_node(const Tensor& x) {
    const Tensor zero = Tensor::zeros(context_.stream(), x.shape(), x.dtype());
    return ops::needs_grad(context_, {&x}) ? ops::add(context_, x, zero) : x;
  }

  /// Weights are captured, activations go in, as in a model.
  std::vector<Tensor> recomputed(const std::vector<Tensor>& inputs) {
    std::vector<Tensor> activations;
    std::vector<Tensor> weights = inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (op_.inputs[i].is_weight) continue;
      activations.push_back(inputs[i]);
      weights[i] = Tensor();
    }
    return ops::checkpoint(context_, activations,
                           [this, weights](ops::Context& context, const std::vector<Tensor>& cut) {
                             std::vector<Tensor> all = weights;
                             std::size_t next = 0;
                             for (std::size_t i = 0; i < all.size(); ++i)
                               if (!op_.inputs[i].is_weight) all[i] = cut.at(next++);
                             return op_.program(context, all);
                           });
  }

  DType seed_of(const Tensor& output) const {
    return output.dtype() == DType::kBF16 ? run_.seed_dtype : DType::kF32;
  }

  /// Lets go of everything but the tapes; the seeds then name their values by slot alone.
  void measure_kept(const std::vector<ops::Tape>&, std::vector<std::vector<std::pair<Tensor, Tensor>>>& seeds,
                    std::int64_t before) {
    inputs_.clear();
    for (auto& batch : seeds) {
      for (auto& [output, grad] : batch) {
        Tensor name = grad.detach();  // any tensor of that shape will do: only its slot is read
        name.set_grad_slot(output.grad_slot());
        output = std::move(name);
      }
    }
    outcome_.kept_bytes = activations() - before;
  }

  const OpCase& op_;
  ops::Context& context_;
  const Run& run_;
  std::vector<Tensor> inputs_;
  Outcome outcome_;
};

Outcome execute(const OpCase& op, ops::Context& context, const Run& run = {}) {
  return Runner(op, context, run).execute();
}

/// The projection of the outputs for given inputs, in double.
double evaluate(const OpCase& op, ops::Context& context, const std::vector<Values>& inputs,
                double* magnitude = nullptr) {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    tensors.push_back(tensor_of(context, inputs[i], op.inputs[i].shape, DType::kF32));
  const std::vector<Tensor> outputs = op.program(context, tensors);
  double sum = 0;
  double squares = 0;
  for (std::size_t j = 0; j < outputs.size(); ++j) {
    const Values y = values_of(outputs[j]);
    const Values p = projection(op, outputs[j].shape(), j, 0);
    for (std::size_t i = 0; i < y.size(); ++i) {
      sum += p[i] * y[i];
      squares += p[i] * y[i] * p[i] * y[i];
    }
  }
  if (magnitude != nullptr) *magnitude = std::sqrt(squares);
  return sum;
}

/// Every element of every gradient against the five-point difference quotient. Tolerance: what f32 round-off
/// in the outputs does to the quotient, plus 2e-4 of the largest element for the quotient's truncation.
void check_finite_differences(const OpCase& op, ops::Context& context, const std::vector<Values>& grads) {
  std::vector<Values> inputs;
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    inputs.push_back(input_values(op, i));
    for (double& x : inputs.back()) x = static_cast<float>(x);
  }
  double magnitude = 0;
  evaluate(op, context, inputs, &magnitude);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    double largest = 0;
    for (const double g : grads[i]) largest = std::max(largest, std::abs(g));
    const double noise = 8 * kRoundOff * std::sqrt(static_cast<double>(op.reduction)) * magnitude / op.step;
    const double tolerance = noise + 2e-4 * largest;
    EXPECT_GT(largest, 20 * tolerance) << op.inputs[i].name << ": too small a gradient to prove anything";
    for (std::size_t j = 0; j < inputs[i].size(); ++j) {
      const double x = inputs[i][j];
      const auto at = [&](double steps) {
        inputs[i][j] = static_cast<float>(x + steps * op.step);
        return evaluate(op, context, inputs);
      };
      const double quotient = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * op.step);
      inputs[i][j] = x;
      ASSERT_NEAR(grads[i][j], quotient, tolerance) << op.inputs[i].name << " element " << j;
    }
  }
}

/// Round-off of two ways to sum the same terms.
double same_sum_tolerance(const OpCase& op) {
  return 8 * kRoundOff * std::sqrt(static_cast<double>(op.reduction));
}

void check_accumulation(const OpCase& op, ops::Context& context, const std::vector<Values>& grads) {
  const auto second = execute(op, context, {.projections = {1}}).grads;
  const auto micro_batches = execute(op, context, {.projections = {0, 1}}).grads;
  const auto shared = execute(op, context, {.projections = {0, 1}, .one_tape = true}).grads;
  for (std::size_t i = 0; i < grads.size(); ++i) {
    const Values sum = plus(grads[i], second[i]);
    EXPECT_LT(relative_error(micro_batches[i], sum), same_sum_tolerance(op)) << op.inputs[i].name;
    EXPECT_LT(relative_error(shared[i], sum), same_sum_tolerance(op)) << op.inputs[i].name << ", shared";
  }
}

void check_frozen(const OpCase& op, ops::Context& context, const std::vector<Values>& grads) {
  const std::size_t n = op.inputs.size();
  for (std::size_t mask = 1; mask + 1 < (std::size_t{1} << n); ++mask) {
    Run run;
    for (std::size_t i = 0; i < n; ++i) run.wanted.push_back((mask >> i & 1) != 0);
    const auto some = execute(op, context, run).grads;
    for (std::size_t i = 0; i < n; ++i) {
      if (run.wanted[i])
        EXPECT_LE(relative_error(some[i], grads[i]), same_sum_tolerance(op))
            << op.inputs[i].name << " of wanted set " << mask;
      else
        EXPECT_TRUE(some[i].empty()) << op.inputs[i].name << " is frozen in set " << mask;
    }
  }
}

void check_recompute(const OpCase& op, ops::Context& context, const Outcome& plain) {
  const Outcome again = execute(op, context, {.recompute = true});
  EXPECT_EQ(again.outputs, plain.outputs);
  EXPECT_EQ(again.grads, plain.grads);
  EXPECT_EQ(again.left_bytes, 0);
  const Outcome inference = execute(op, context, {.wanted = std::vector<bool>(op.inputs.size(), false)});
  EXPECT_EQ(again.forward_peak, inference.forward_peak) << "the first pass makes nothing for a gradient";
  std::int64_t inputs = 0;
  for (const Input& input : op.inputs)
    inputs += input.is_weight ? 0 : input.shape.numel() * std::int64_t{sizeof(float)};
  EXPECT_EQ(again.kept_bytes, inputs) << "a recomputed block keeps its inputs, no less and no more";
}

void check_bf16(const OpCase& op, ops::Context& context) {
  const Outcome exact = execute(op, context, {.round_inputs = true});
  for (const DType seed : {DType::kF32, DType::kBF16}) {
    const Outcome rounded =
        execute(op, context, {.dtype = DType::kBF16, .seed_dtype = seed, .round_inputs = true});
    // Outputs round once, gradients at most thrice (the seed, a value in between, the result): 2^-9 each at
    // most, times two.
    for (std::size_t i = 0; i < exact.outputs.size(); ++i)
      EXPECT_LT(relative_error(rounded.outputs[i], exact.outputs[i]), 0x1p-8);
    for (std::size_t i = 0; i < exact.grads.size(); ++i)
      EXPECT_LT(relative_error(rounded.grads[i], exact.grads[i]), 6 * 0x1p-9)
          << op.inputs[i].name << ", seed " << name_of(seed);
  }
}

void check_meta(const OpCase& op, const kernels::KernelTable& table, DType dtype) {
  for (const bool recompute : {false, true}) {
    const Run run{.recompute = recompute, .dtype = dtype};
    ops::Context cpu({}, 1);
    cpu.set_kernels(table);
    ops::Context meta(device::Device{device::DeviceType::kMeta, 0});
    const Outcome real = execute(op, cpu, run);
    const Outcome forecast = execute(op, meta, run);
    EXPECT_EQ(forecast.forward_bytes, real.forward_bytes);
    EXPECT_EQ(forecast.kept_bytes, real.kept_bytes);
    EXPECT_EQ(forecast.peak_bytes, real.peak_bytes);
    EXPECT_EQ(forecast.left_bytes, real.left_bytes);
    EXPECT_FALSE(meta.stream().costs().empty());
  }
}

}  // namespace

void check_op(const OpCase& op) {
  for (const kernels::CpuIsa isa : kernels::available_cpu_isas()) {
    SCOPED_TRACE(kernels::name_of(isa));
    ops::Context context({}, 1);
    context.set_kernels(kernels::cpu_kernels(isa));
    const Outcome plain = execute(op, context);
    EXPECT_EQ(plain.kept_bytes, op.kept_bytes);
    EXPECT_EQ(plain.left_bytes, 0) << "backward frees what was kept";
    check_finite_differences(op, context, plain.grads);
    check_accumulation(op, context, plain.grads);
    check_frozen(op, context, plain.grads);
    check_recompute(op, context, plain);
    check_meta(op, context.kernels(), DType::kF32);
    if (!op.has_bf16) continue;
    check_bf16(op, context);
    check_meta(op, context.kernels(), DType::kBF16);
  }
}

Tensor random_tensor(ops::Context& context, const Shape& shape, std::uint64_t seed, double scale,
                     double offset, DType dtype, Purpose purpose) {
  const CounterRng rng(seed, RngPurpose::kBench);
  Values v(static_cast<std::size_t>(shape.numel()));
  for (std::size_t j = 0; j < v.size(); ++j) v[j] = scale * rng.normal(j) + offset;
  return tensor_of(context, v, shape, dtype, purpose);
}

Tensor ints(ops::Context& context, const std::vector<std::int32_t>& values) {
  return Tensor::from<std::int32_t>(context.stream(), values, {static_cast<std::int64_t>(values.size())},
                                    Purpose::kData);
}

std::vector<double> values_of(const Tensor& t) {
  Values v;
  if (t.data() == nullptr) return v;
  v.reserve(static_cast<std::size_t>(t.numel()));
  if (t.dtype() == DType::kBF16)
    for (const BFloat16 x : t.span<BFloat16>()) v.push_back(static_cast<float>(x));
  else
    for (const float x : t.span<float>()) v.push_back(x);
  return v;
}

double relative_error(const Values& a, const Values& b) {
  if (a.size() != b.size()) return INFINITY;
  Values difference(a);
  for (std::size_t i = 0; i < b.size(); ++i) difference[i] -= b[i];
  const double scale = norm_of(b);
  const double error = norm_of(difference);
  return error == 0 ? 0 : error / scale;
}

}  // namespace hone::test
