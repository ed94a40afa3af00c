// Random programs against finite differences, and against themselves with parts recomputed, and with
// gradients of weights in a side stream.
#include <cmath>

#include "base/rng.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "tests/ops/autograd_fixture.h"

namespace hone::ops {
namespace {

/// A random program over four parameters and a stream: residual additions, norms, products, gates, values
/// that are used often or never, and recomputed parts that may nest and that share parameters with the rest.
class RandomGraph {
 public:
  RandomGraph(Context& context, std::uint64_t seed) : context_(context), random_(seed, RngPurpose::kBench) {}
  Tensors parameters;

  Tensor build(const Tensor& input, bool recompute) {
    at_ = 0;
    return grow({input}, 3 + static_cast<int>(pick(8)), 2, recompute);
  }

 private:
  std::uint64_t pick(std::uint64_t n) { return random_.below(at_++, n); }

  Tensor grow(const Tensors& inputs, int length, int depth, bool recompute) {
    Tensors values = inputs;
    for (int i = 0; i < length; ++i) {
      const Tensor a = values[pick(values.size())];
      const Tensor b = values[pick(values.size())];
      const Tensor w = parameters[pick(2)];      // (6)
      const Tensor m = parameters[2 + pick(2)];  // (6, 6)
      switch (pick(depth > 0 ? 6 : 5)) {
        case 0:
          values.push_back(add(context_, a, b));
          break;
        case 1:
          values.push_back(rms_norm(context_, a, w, 1e-2F));
          break;
        case 2:
          values.push_back(linear(context_, a, m, w));
          break;
        case 3:
          values.push_back(linear(context_, a, m, {}, b, DType::kF32));
          break;
        case 4:
          values.push_back(gated(context_, a, b, Activation::kSilu));
          break;
        default:
          values.push_back(part({a, b}, depth, recompute));
          break;
      }
      if (pick(3) == 0)  // keep magnitudes near one
        values.back() = rms_norm(context_, values.back(), w, 1e-2F);
    }
    return rms_norm(context_, values.back(), parameters[0], 1e-2F);
  }

  /// The same part twice must be the same program: its choices start where they started.
  Tensor part(const Tensors& in, int depth, bool recompute) {
    const std::uint64_t start = at_;
    const auto body = [this, start, depth, recompute](const Tensors& inner) -> Tensors {
      at_ = start;
      return {grow(inner, 1 + static_cast<int>(pick(4)), depth - 1, recompute)};
    };
    const Tensor y = recompute ? checkpoint(context_, in, body)[0] : body(in)[0];
    return y;
  }

  Context& context_;
  CounterRng random_;
  std::uint64_t at_ = 0;
};

TEST_F(Autograd, RandomGraphsMatchFiniteDifferencesAndTheirRecomputation) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    RandomGraph graph(context_, seed);
    const Shape wide{3, 6};
    const std::vector<Shape> shapes{wide, {6}, {6}, {6, 6}, {6, 6}};
    const std::int64_t before = activations();
    // step: how far along a random direction in all of the parameters together; grad: the derivative there.
    const auto run = [&](double step, bool differentiate, bool recompute,
                         std::vector<std::vector<double>>* grads, SideStream* beside = nullptr) {
      Tensors leaves;
      int fired = 0;
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        Tensor t = random_tensor(context_, shapes[i], 100 * seed + i, 0.4, i == 0 ? 0 : 0.3);
        const auto direction = values_of(random_tensor(context_, shapes[i], 100 * seed + 50 + i));
        for (std::size_t j = 0; j < direction.size(); ++j)
          t.as<float>()[j] += static_cast<float>(step * direction[j]);
        if (differentiate) require_grad(t, DType::kF32)->set_hook([&fired] { ++fired; });
        leaves.push_back(t);
      }
      graph.parameters.assign(leaves.begin() + 1, leaves.end());
      const Tensor seed_grad = random_tensor(context_, wide, 100 * seed + 99);
      Tape tape;
      const TapeScope scope(context_, differentiate ? &tape : nullptr);
      const Tensor y = graph.build(leaves[0], recompute);
      double projection = 0;
      for (std::size_t j = 0; j < values_of(y).size(); ++j)
        projection += values_of(y)[j] * values_of(seed_grad)[j];
      if (!differentiate) return projection;
      tape.backward(context_, {{y, seed_grad}}, nullptr, beside);
      double derivative = 0;
      int with_gradient = 0;
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        const bool defined = leaves[i].grad_slot()->grad().defined();
        grads->push_back(defined ? grad_of(leaves[i]) : std::vector<double>());
        if (!defined) continue;
        ++with_gradient;
        const auto direction = values_of(random_tensor(context_, shapes[i], 100 * seed + 50 + i));
        for (std::size_t j = 0; j < direction.size(); ++j) derivative += direction[j] * grads->back()[j];
      }
      EXPECT_EQ(fired, with_gradient) << "each hook once";
      return derivative;
    };
    std::vector<std::vector<double>> plain;
    std::vector<std::vector<double>> recomputed;
    const double derivative = run(0, true, false, &plain);
    const double again = run(0, true, true, &recomputed);
    SideStream side(context_, 200);
    std::vector<std::vector<double>> beside;
    std::vector<std::vector<double>> recomputed_beside;
    (void)run(0, true, false, &beside, &side);
    (void)run(0, true, true, &recomputed_beside, &side);
    EXPECT_EQ(beside, plain);
    EXPECT_EQ(recomputed_beside, recomputed);
    graph.parameters.clear();
    EXPECT_EQ(activations(), before);
    constexpr double kStep = 1.0 / 2048;
    const double quotient =
        (8 * (run(kStep, false, false, nullptr) - run(-kStep, false, false, nullptr)) -
         (run(2 * kStep, false, false, nullptr) - run(-2 * kStep, false, false, nullptr))) /
        (12 * kStep);
    graph.parameters.clear();
    double scale = 0;
    for (const auto& g : plain)
      for (const double x : g) scale += x * x;
    // The direction is normal, so the derivative is about |gradient|.
    EXPECT_NEAR(derivative, quotient, 1e-3 * std::sqrt(scale));
    EXPECT_NEAR(derivative, again, 1e-4 * std::sqrt(scale));
  }
}

}  // namespace
}  // namespace hone::ops
