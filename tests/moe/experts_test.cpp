// moe::experts against the definition in double, for every shape of routing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "base/small_floats.h"
#include "moe/experts.h"
#include "tensor/transfer.h"
#include "tests/moe/naive_moe.h"
#include "tests/ops/finite_difference.h"

namespace hone::moe {
namespace {

using device::Purpose;
using ops::Tape;
using ops::TapeScope;
using test::NaiveMoe;
using test::random_tensor;
using test::relative_error;
using test::values_of;

struct Sizes {
  std::int64_t tokens, hidden, ffn, experts, top_k;
  std::int64_t used = 0;  // experts that get any token; 0: all may
};

/// The routing of given choices, its weights in a leaf.
Routing routing_of(Context& context, const Tensor& weights, const std::vector<std::int32_t>& experts_of,
                   std::int64_t experts) {
  const std::int64_t pairs = weights.numel();
  const auto i32 = [&](std::int64_t n) { return context.empty({n}, DType::kI32, Purpose::kData); };
  Routing r{.weights = weights,
            .experts_of = test::ints(context, experts_of).reshape(weights.shape()),
            .offsets = i32(experts + 1),
            .permutation = i32(pairs),
            .inverse = i32(pairs),
            .statistics = {.counts = i32(experts), .probability_sums = {}}};
  context.kernels().moe_plan({.experts_of = r.experts_of.as<std::int32_t>(),
                              .tokens = weights.size(0),
                              .top_k = weights.size(1),
                              .experts = experts,
                              .counts = r.statistics.counts.as<std::int32_t>(),
                              .offsets = r.offsets.as<std::int32_t>(),
                              .permutation = r.permutation.as<std::int32_t>(),
                              .inverse = r.inverse.as<std::int32_t>()},
                             context.stream());
  return r;
}

Tensor swiglu(Context& context, const Tensor& x, const Tensor& gate_up, const Tensor& down,
              const Routing& routing, const Tensor& residual) {
  return experts(context, x, {.gate_up = gate_up, .down = down, .gate_up_bias = {}, .down_bias = {}}, {},
                 routing, residual);
}

/// top_k different experts for every token; of `used` experts, so spread that empty ones lie between them.
std::vector<std::int32_t> choose(const Sizes& sizes, std::uint64_t seed) {
  const CounterRng random(seed, RngPurpose::kBench);
  const std::int64_t among = sizes.used > 0 ? sizes.used : sizes.experts;
  const std::int64_t gap = sizes.experts / among;
  std::vector<std::int32_t> chosen;
  std::uint64_t at = 0;
  for (std::int64_t t = 0; t < sizes.tokens; ++t) {
    std::vector<std::int32_t> mine;
    while (static_cast<std::int64_t>(mine.size()) < sizes.top_k) {
      const auto pick = static_cast<std::int64_t>(random.below(at++, static_cast<std::uint64_t>(among)));
      const auto expert = static_cast<std::int32_t>(pick * gap + gap / 2);
      if (std::find(mine.begin(), mine.end(), expert) == mine.end()) mine.push_back(expert);
    }
    chosen.insert(chosen.end(), mine.begin(), mine.end());
  }
  return chosen;
}

void check_against_definition(kernels::CpuIsa isa, const Sizes& s, DType dtype, double tolerance) {
  SCOPED_TRACE(fmt::format("{} {}: {} tokens, {} of {} experts", kernels::name_of(isa), name_of(dtype),
                           s.tokens, s.top_k, s.experts));
  Context context({}, 2);
  context.set_kernels(kernels::cpu_kernels(isa));
  const auto leaf = [&](const Shape& shape, std::uint64_t seed, double scale, DType type) {
    Tensor t = random_tensor(context, shape, seed, scale, 0, type);
    ops::require_grad(t, DType::kF32);
    return t;
  };
  const Tensor x = leaf({s.tokens, s.hidden}, 1, 1, dtype);
  const Tensor gate_up = leaf({s.experts, 2 * s.ffn, s.hidden}, 2, 0.5, dtype);
  const Tensor down = leaf({s.experts, s.hidden, s.ffn}, 3, 0.5, dtype);
  const Tensor weights = leaf({s.tokens, s.top_k}, 4, 0.7, DType::kF32);
  const Tensor residual = leaf({s.tokens, s.hidden}, 5, 1, DType::kF32);
  const auto experts_of = choose(s, 6);
  const Routing routing = routing_of(context, weights, experts_of, s.experts);
  const Tensor dy = random_tensor(context, {s.tokens, s.hidden}, 7);

  NaiveMoe naive{.tokens = static_cast<std::size_t>(s.tokens),
                 .hidden = static_cast<std::size_t>(s.hidden),
                 .ffn = static_cast<std::size_t>(s.ffn),
                 .experts = static_cast<std::size_t>(s.experts),
                 .top_k = static_cast<std::size_t>(s.top_k),
                 .x = values_of(x),
                 .gate_up = values_of(gate_up),
                 .down = values_of(down),
                 .weights = values_of(weights),
                 .residual = values_of(residual),
                 .experts_of = experts_of,
                 .y = {},
                 .dx = {},
                 .dgate_up = {},
                 .ddown = {},
                 .dweights = {}};
  naive.forward();
  naive.backward(values_of(dy));

  Tape tape;
  const TapeScope scope(context, &tape);
  const Tensor y = swiglu(context, x, gate_up, down, routing, residual);
  tape.backward(context, {{y, dy}});
  const auto grad = [](const Tensor& t) { return values_of(t.grad_slot()->grad()); };
  EXPECT_LE(relative_error(values_of(y), naive.y), tolerance);
  EXPECT_LE(relative_error(grad(x), naive.dx), tolerance);
  EXPECT_LE(relative_error(grad(gate_up), naive.dgate_up), tolerance);
  EXPECT_LE(relative_error(grad(down), naive.ddown), tolerance);
  EXPECT_LE(relative_error(grad(weights), naive.dweights), tolerance);
  EXPECT_EQ(grad(residual), values_of(dy));
  const std::size_t expert_size = naive.ddown.size() / naive.experts;
  for (std::size_t e = 0; e < naive.experts; ++e) {  // exactly zero, not nearly
    if (std::find(experts_of.begin(), experts_of.end(), static_cast<std::int32_t>(e)) != experts_of.end())
      continue;
    const auto d = grad(down);
    EXPECT_TRUE(std::all_of(d.begin() + static_cast<std::ptrdiff_t>(e * expert_size),
                            d.begin() + static_cast<std::ptrdiff_t>((e + 1) * expert_size),
                            [](double v) { return v == 0; }))
        << "expert " << e << " saw no token";
  }
}

void check_all(const Sizes& sizes) {
  for (const auto isa : kernels::available_cpu_isas()) {
    // f32: round-off of sums as long as the longest dimension here, times a small constant. bf16: the
    // pre-activation is rounded when it is kept, the activation before the second product, the routing
    // weight's product with dy before the third.
    check_against_definition(isa, sizes, DType::kF32, 16 * 0x1p-24);
    check_against_definition(isa, sizes, DType::kBF16, 3 * 0x1p-9);
  }
}

TEST(Experts, MatchTheirDefinition) {
  check_all({.tokens = 23, .hidden = 10, .ffn = 7, .experts = 6, .top_k = 2});
}
TEST(Experts, MatchTheirDefinitionAtSizesOfWholeTiles) {
  check_all({.tokens = 64, .hidden = 64, .ffn = 32, .experts = 8, .top_k = 4});
}
TEST(Experts, MatchTheirDefinitionWithEmptyExperts) {
  check_all({.tokens = 9, .hidden = 17, .ffn = 5, .experts = 40, .top_k = 2, .used = 5});
}
TEST(Experts, MatchTheirDefinitionWithOneExpert) {
  check_all({.tokens = 11, .hidden = 9, .ffn = 6, .experts = 1, .top_k = 1});
}
TEST(Experts, MatchTheirDefinitionWhereEveryTokenSeesEveryExpert) {
  check_all({.tokens = 5, .hidden = 9, .ffn = 6, .experts = 4, .top_k = 4});
}
TEST(Experts, MatchTheirDefinitionForOneToken) {
  check_all({.tokens = 1, .hidden = 33, .ffn = 12, .experts = 16, .top_k = 3});
}
TEST(Experts, MatchTheirDefinitionWhereOneExpertHasAllTokens) {
  check_all({.tokens = 70, .hidden = 20, .ffn = 9, .experts = 5, .top_k = 1, .used = 1});
}

TEST(Experts, NoTokensGiveNoOutputAndZeroGradients) {
  for (const auto isa : kernels::available_cpu_isas()) {
    Context context({}, 1);
    context.set_kernels(kernels::cpu_kernels(isa));
    Tensor gate_up = random_tensor(context, {3, 8, 5}, 1);
    Tensor down = random_tensor(context, {3, 5, 4}, 2);
    ops::require_grad(gate_up, DType::kF32);
    ops::require_grad(down, DType::kF32);
    const Tensor x = context.empty({0, 5}, DType::kF32);
    const Routing routing = routing_of(context, context.empty({0, 2}, DType::kF32), {}, 3);
    Tape tape;
    const TapeScope scope(context, &tape);
    const Tensor y = swiglu(context, x, gate_up, down, routing, {});
    EXPECT_EQ(y.shape(), (Shape{0, 5}));
    tape.backward(context, {{y, context.empty({0, 5}, DType::kF32)}});
    EXPECT_THAT(values_of(gate_up.grad_slot()->grad()), testing::Each(0.0));
    EXPECT_THAT(values_of(down.grad_slot()->grad()), testing::Each(0.0));
  }
}

TEST(Experts, KeepThePreActivationOnlyWhereItsGradientIsWanted) {
  Context context({}, 1);
  const std::int64_t before = context.ledger().current(Purpose::kActivations);
  const Tensor x = random_tensor(context, {6, 8}, 1, 1, 0, DType::kF32, Purpose::kData);
  const Tensor gate_up = random_tensor(context, {3, 8, 8}, 2, 1, 0, DType::kF32, Purpose::kWeights);
  const Tensor down = random_tensor(context, {3, 8, 4}, 3, 1, 0, DType::kF32, Purpose::kWeights);
  const Tensor weights = random_tensor(context, {6, 2}, 4, 1, 0, DType::kF32, Purpose::kData);
  const Routing routing = routing_of(context, weights, {0, 1, 1, 2, 2, 0, 0, 2, 1, 0, 2, 1}, 3);
  Tensor residual = random_tensor(context, {6, 8}, 5, 1, 0, DType::kF32, Purpose::kData);
  const auto activations = [&] { return context.ledger().peak(Purpose::kActivations) - before; };
  swiglu(context, x, gate_up, down, routing, residual);
  EXPECT_EQ(activations(), 6 * 8 * 4) << "inference";
  ops::require_grad(residual, DType::kF32);
  Tape tape;
  const TapeScope scope(context, &tape);
  const Tensor y = swiglu(context, x, gate_up, down, routing, residual);
  EXPECT_EQ(activations(), 6 * 8 * 4) << "only the residual learns";
  tape.backward(context, {{y, y.detach()}});
  EXPECT_EQ(values_of(residual.grad_slot()->grad()), values_of(y));
}

TEST(Experts, GradMatchesFiniteDifference) {
  constexpr std::int64_t kTokens = 4;
  test::check_op({.inputs = {{.name = "x", .shape = {kTokens, 5}},
                             {.name = "gate_up", .shape = {4, 6, 5}, .scale = 0.5, .is_weight = true},
                             {.name = "down", .shape = {4, 5, 3}, .scale = 0.5, .is_weight = true},
                             {.name = "weights", .shape = {kTokens, 2}, .scale = 0.7, .is_f32 = true},
                             {.name = "residual", .shape = {kTokens, 5}, .is_f32 = true}},
                  .program = [](Context& c, const std::vector<Tensor>& in) -> std::vector<Tensor> {
                    const Routing routing = routing_of(c, in[3], {3, 0, 0, 1, 1, 0, 3, 1}, 4);
                    return {swiglu(c, in[0], in[1], in[2], routing, in[4])};
                  },
                  .kept_bytes = (kTokens * 5 + kTokens * 2 * 6 + kTokens * 2) * 4});
}

TEST(Experts, GradMatchesFiniteDifferenceInOtherForms) {
  constexpr std::int64_t kTokens = 4;
  using kernels::Activation;
  // Smooth: differences that step over a kink prove nothing (those of the kernels do not).
  const ExpertFunction functions[] = {{Activation::kClampedSilu, true, 1.702F, 7.0F},
                                      {Activation::kGelu, false}};
  for (const ExpertFunction& function : functions)
    for (const DType out : {DType::kF32, DType::kBF16}) {
      const std::int64_t inner = function.gated ? 6 : 3;
      test::check_op({.inputs = {{.name = "x", .shape = {kTokens, 5}},
                                 {.name = "gate_up", .shape = {4, inner, 5}, .scale = 0.5, .is_weight = true},
                                 {.name = "down", .shape = {4, 5, 3}, .scale = 0.5, .is_weight = true},
                                 {.name = "gate_up_bias", .shape = {4, inner}, .is_weight = true},
                                 {.name = "down_bias", .shape = {4, 5}, .is_weight = true},
                                 {.name = "weights", .shape = {kTokens, 2}, .scale = 0.7, .is_f32 = true},
                                 {.name = "residual", .shape = {kTokens, 5}, .is_f32 = true}},
                      .program = [=](Context& c, const std::vector<Tensor>& in) -> std::vector<Tensor> {
                        const Routing routing = routing_of(c, in[5], {3, 0, 0, 1, 1, 0, 3, 1}, 4);
                        const ExpertWeights weights{in[1], in[2], in[3], in[4]};
                        const DType dtype = out == DType::kBF16 ? in[0].dtype() : out;  // T, or f32
                        return {experts(c, in[0], weights, function, routing, in[6], dtype)};
                      },
                      .kept_bytes = (kTokens * 5 + kTokens * 2 * inner + kTokens * 2) * 4});
    }
}

TEST(Experts, GradientsOfWeightsThatWaitHaveTheSameBits) {
  const Sizes s{.tokens = 37, .hidden = 24, .ffn = 20, .experts = 5, .top_k = 2};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Context context({}, 2);
    std::vector<Tensor> leaves;
    const auto leaf = [&](const Shape& shape, std::uint64_t seed, DType type) {
      Tensor t = random_tensor(context, shape, seed, 0.5, 0, type);
      ops::require_grad(t, type);
      leaves.push_back(t);
      return t;
    };
    const Tensor x = leaf({s.tokens, s.hidden}, 1, dtype);
    const Tensor weights = leaf({s.tokens, s.top_k}, 4, DType::kF32);
    const ExpertWeights own{.gate_up = leaf({s.experts, 2 * s.ffn, s.hidden}, 2, dtype),
                            .down = leaf({s.experts, s.hidden, s.ffn}, 3, dtype),
                            .gate_up_bias = leaf({s.experts, 2 * s.ffn}, 5, dtype),
                            .down_bias = leaf({s.experts, s.hidden}, 6, dtype)};
    const Routing routing = routing_of(context, weights, choose(s, 7), s.experts);
    const Tensor dy = random_tensor(context, {s.tokens, s.hidden}, 8);
    const auto run = [&](ops::DeferredGradients* deferred) {
      for (const auto& t : leaves) t.grad_slot()->reset();
      Tape tape;
      const TapeScope scope(context, &tape);
      std::vector<std::pair<Tensor, Tensor>> seeds{{experts(context, x, own, {}, routing, {}), dy}};
      tape.backward(context, std::move(seeds), deferred);
    };
    const auto gradients = [&] {
      std::vector<std::vector<double>> all;
      for (const auto& t : leaves) all.push_back(values_of(t.grad_slot()->grad()));
      return all;
    };
    run(nullptr);
    const auto at_once = gradients();
    ops::DeferredGradients deferred;
    run(&deferred);
    EXPECT_EQ(values_of(x.grad_slot()->grad()), at_once[0]);
    EXPECT_EQ(values_of(weights.grad_slot()->grad()), at_once[1]);
    EXPECT_FALSE(own.gate_up.elements.grad_slot()->grad().defined());
    EXPECT_EQ(deferred.size(), 1U);
    deferred.run(context);
    EXPECT_EQ(gradients(), at_once);
  }
}

// Where they are asked for: of the last contribution to a gradient, however many there are.
TEST(Experts, BringTheSquaresOfTheirGradients) {
  const Sizes s{.tokens = 37, .hidden = 24, .ffn = 20, .experts = 5, .top_k = 2, .used = 3};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Context context({}, 2);
    Tensor gate_up = random_tensor(context, {s.experts, 2 * s.ffn, s.hidden}, 2, 0.5, 0, dtype),
           down = random_tensor(context, {s.experts, s.hidden, s.ffn}, 3, 0.5, 0, dtype);
    Tensor weights = random_tensor(context, {s.tokens, s.top_k}, 4);
    const std::shared_ptr<ops::GradSlot> slots[] = {ops::require_grad(gate_up, dtype),
                                                    ops::require_grad(down, dtype)};
    const Tensor x = random_tensor(context, {s.tokens, s.hidden}, 1, 0.5, 0, dtype),
                 dy = random_tensor(context, {s.tokens, s.hidden}, 8);
    const Routing routing = routing_of(context, weights, choose(s, 7), s.experts);
    const auto run = [&](ops::DeferredGradients* deferred) {
      Tape tape;
      const TapeScope scope(context, &tape);
      std::vector<std::pair<Tensor, Tensor>> seeds;
      for (int use = 0; use < 2; ++use)
        seeds.emplace_back(swiglu(context, x, gate_up, down, routing, {}), dy);
      tape.backward(context, std::move(seeds), deferred);
    };
    const auto expect_squares = [&] {
      for (const auto& slot : slots) {
        double wanted = 0, said = 0;
        for (const double g : values_of(slot->grad())) wanted += g * g;
        const Tensor squares = slot->take_squares();
        ASSERT_TRUE(squares.defined());
        const HostCopy parts(context.stream(), squares);
        for (const double part : parts.values<double>()) said += part;
        EXPECT_NEAR(said, wanted, 1e-12 * wanted);
        EXPECT_FALSE(slot->take_squares().defined()) << "it was taken";
      }
    };
    run(nullptr);
    for (const auto& slot : slots) EXPECT_FALSE(slot->take_squares().defined()) << "nobody asked";
    for (const auto& slot : slots) slot->ask_for_squares(true);
    run(nullptr);  // added to what is there
    expect_squares();
    ops::DeferredGradients deferred;
    run(&deferred);
    deferred.run(context);
    expect_squares();
    // not of gradients that grow, are forgotten or have gone
    run(nullptr);
    ops::GradTarget::of(context, *slots[0]);
    EXPECT_FALSE(slots[0]->take_squares().defined());
    slots[1]->reset();
    EXPECT_FALSE(slots[1]->take_squares().defined());
    run(nullptr);
    (void)slots[1]->take_grad();
    EXPECT_FALSE(slots[1]->take_squares().defined());
  }
}

/// A matrix of every expert in a quantised form, and its values in T. rows: of each part.
struct Quantised {
  ExpertMatrix matrix;
  Tensor values;
};
Quantised quantised(Context& context, WeightKind kind, const Shape& parts_rows_k, std::int64_t experts,
                    DType t, std::uint64_t seed) {
  const auto parts = parts_rows_k[0], rows = parts_rows_k[1], k = parts_rows_k[2];
  const CounterRng random(seed, RngPurpose::kBench);
  std::uint64_t at = 0;
  const auto bytes = [&](std::int64_t n, std::uint64_t below, std::uint64_t from) {
    std::vector<std::uint8_t> all;
    for (std::int64_t i = 0; i < n; ++i)
      all.push_back(static_cast<std::uint8_t>(from + random.below(at++, below)));
    return all;
  };
  const auto upload = [&](const auto& values, const Shape& shape, DType dtype) {
    const Tensor tensor = context.empty(shape, dtype, Purpose::kWeights);
    upload_bytes(context.stream(), std::as_bytes(std::span(values)), tensor);
    return tensor;
  };
  const bool is_mx = kind == WeightKind::kMxfp4;
  const std::int64_t n = experts * parts * rows * k, row_blocks = (rows + 127) / 128,
                     k_blocks = (k + 127) / 128;
  auto elements = bytes(is_mx ? n / 2 : n, 256, 0);
  if (!is_mx)  // below 2: no NaN
    for (auto& e : elements) e &= 0xbf;
  const auto exponents = bytes(is_mx ? n / 32 : 0, 3, 123);
  std::vector<float> scales;
  for (std::int64_t i = 0; i < experts * parts * row_blocks * k_blocks && !is_mx; ++i)
    scales.push_back(static_cast<float>(0.05 + 0.2 * random.uniform(at++)));
  std::vector<float> values;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto u = static_cast<std::size_t>(i);
    if (is_mx) {
      Float4E2M1 element;
      element.bits = static_cast<std::uint8_t>(elements[u / 2] >> (u % 2 * 4) & 0xf);
      Float8E8M0 scale;
      scale.bits = exponents[u / 32];
      values.push_back(static_cast<float>(element) * static_cast<float>(scale));
    } else {
      Float8E4M3 element;
      element.bits = elements[u];
      const std::int64_t part = i / k / rows, row = i / k % rows;
      const std::int64_t block = (part * row_blocks + row / 128) * k_blocks + i % k / 128;
      values.push_back(static_cast<float>(element) * scales[static_cast<std::size_t>(block)]);
    }
  }
  const Shape shape{experts, parts * rows, k};
  Tensor dense = context.empty(shape, t, Purpose::kWeights);
  std::vector<std::byte> stored(dense.size_bytes());
  convert(DType::kF32, values.data(), t, stored.data(), values.size());
  upload_bytes(context.stream(), stored, dense);
  if (is_mx)
    return {{kind, upload(elements, {experts, parts * rows, k / 2}, DType::kU8),
             upload(exponents, {experts, parts * rows, k / 32}, DType::kU8)},
            dense};
  return {{kind, upload(elements, shape, DType::kF8E4M3),
           upload(scales, {experts, parts * row_blocks, k_blocks}, DType::kF32)},
          dense};
}

// Frozen and quantised, beside biases and a router that learn: as their values would do, which are decoded
// nowhere but inside the kernel.
TEST(Experts, QuantisedAreTheirDecodedValues) {
  const Sizes s{.tokens = 41, .hidden = 160, .ffn = 96, .experts = 4, .top_k = 2};
  for (const auto isa : kernels::available_cpu_isas())
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const WeightKind kind : {WeightKind::kMxfp4, WeightKind::kFp8Block})
        for (const bool gated : {true, false}) {
          SCOPED_TRACE(fmt::format("{} {} kind {}{}", kernels::name_of(isa), name_of(dtype),
                                   static_cast<int>(kind), gated ? " gated" : ""));
          Context context({}, 2);
          context.set_kernels(kernels::cpu_kernels(isa));
          const std::int64_t parts = gated ? 2 : 1;
          const Quantised gate_up = quantised(context, kind, {parts, s.ffn, s.hidden}, s.experts, dtype, 1);
          const Quantised down = quantised(context, kind, {1, s.hidden, s.ffn}, s.experts, dtype, 2);
          const ExpertFunction function{gated ? kernels::Activation::kSilu : kernels::Activation::kRelu2,
                                        gated};
          const auto choice = choose(s, 3);
          const auto run = [&](const ExpertMatrix& inner, const ExpertMatrix& outer) {
            const auto leaf = [&](const Shape& shape, std::uint64_t seed, DType type) {
              Tensor t = random_tensor(context, shape, seed, 0.7, 0, type);
              ops::require_grad(t, DType::kF32);
              return t;
            };
            const Tensor x = leaf({s.tokens, s.hidden}, 4, dtype);
            const Tensor weights = leaf({s.tokens, s.top_k}, 5, DType::kF32);
            const Tensor inner_bias = leaf({s.experts, parts * s.ffn}, 6, dtype);
            const Tensor outer_bias = leaf({s.experts, s.hidden}, 7, dtype);
            Tape tape;
            const TapeScope scope(context, &tape);
            const Tensor y = experts(context, x, {inner, outer, inner_bias, outer_bias}, function,
                                     routing_of(context, weights, choice, s.experts), {});
            std::vector<std::vector<double>> all{values_of(y)};
            tape.backward(context, {{y, random_tensor(context, {s.tokens, s.hidden}, 8)}});
            for (const Tensor* t : {&x, &weights, &inner_bias, &outer_bias})
              all.push_back(values_of(t->grad_slot()->grad()));
            return all;
          };
          const auto of_values = run(gate_up.values, down.values);
          const auto of_codes = run(gate_up.matrix, down.matrix);
          for (std::size_t i = 0; i < of_values.size(); ++i)
            EXPECT_LE(relative_error(of_codes[i], of_values[i]), dtype == DType::kF32 ? 4 * 0x1p-24 : 0x1p-8)
                << i;
        }
}

TEST(Experts, QuantisedHaveNoGradient) {
  Context context({}, 1);
  Quantised gate_up = quantised(context, WeightKind::kMxfp4, {2, 32, 32}, 3, DType::kF32, 1);
  const Quantised down = quantised(context, WeightKind::kFp8Block, {1, 32, 32}, 3, DType::kF32, 2);
  const Routing routing =
      routing_of(context, Tensor::zeros(context.stream(), {2, 1}, DType::kF32), {0, 2}, 3);
  const Tensor x = random_tensor(context, {2, 32}, 1);
  const auto message = [&](const ExpertMatrix& inner, const ExpertMatrix& outer) {
    try {
      experts(context, x, {inner, outer, {}, {}}, {}, routing, {});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  using testing::StartsWith;
  EXPECT_EQ(message(gate_up.matrix, down.matrix), "no error");
  EXPECT_THAT(message(gate_up.matrix, {WeightKind::kFp8Block, down.matrix.elements, {}}),
              StartsWith("[moe.experts] down's scales is undefined"));
  EXPECT_THAT(message({WeightKind::kMxfp4, gate_up.matrix.elements,
                       Tensor::zeros(context.stream(), {3, 64, 2}, DType::kU8)},
                      down.matrix),
              StartsWith("[moe.experts] gate_up's scales is (3, 64, 2), the weight (3, 64, 32)"));
  Tensor trained = ops::HeldWeight(context, gate_up.matrix.elements).value();
  ops::require_grad(trained, DType::kF32);
  EXPECT_THAT(message({WeightKind::kMxfp4, trained, gate_up.matrix.scales}, down.matrix),
              StartsWith("[moe.experts] gate_up is quantised: it has no gradient"));
}

TEST(Experts, ArgumentsAreChecked) {
  Context context({}, 1);
  const auto zeros = [&](Shape shape) {
    return Tensor::zeros(context.stream(), std::move(shape), DType::kF32);
  };
  const Routing routing = routing_of(context, zeros({2, 1}), {0, 2}, 3);
  const auto message = [&](const Tensor& x, const Tensor& gate_up, const Tensor& down,
                           const Tensor& residual) {
    try {
      swiglu(context, x, gate_up, down, routing, residual);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  using testing::StartsWith;
  EXPECT_THAT(message(zeros({2, 4}), zeros({3, 6, 4}), zeros({3, 4, 2}), {}),
              StartsWith("[moe.experts] gate_up is (3, 6, 4), down (3, 4, 2), x (2, 4)"));
  EXPECT_THAT(message(zeros({3, 4}), zeros({3, 4, 4}), zeros({3, 4, 2}), {}),
              StartsWith("[moe.experts] routing of 2 tokens, x (3, 4)"));
  EXPECT_THAT(message(zeros({2, 4}), zeros({2, 4, 4}), zeros({2, 4, 2}), {}),
              StartsWith("[moe.experts] routing to 3 experts, down (2, 4, 2)"));
  EXPECT_THAT(message(zeros({2, 4}), zeros({3, 4, 4}), zeros({3, 4, 2}), zeros({4, 2})),
              StartsWith("[moe.experts] residual is (4, 2), x (2, 4)"));
  EXPECT_THAT(message(zeros({2, 4}), zeros({12, 4}), zeros({3, 4, 2}), {}),
              StartsWith("[moe.experts] gate_up is f32 (12, 4), wanted rank 3, f32"));
  const auto message_of = [&](const ExpertWeights& weights, const ExpertFunction& function) {
    try {
      experts(context, zeros({2, 4}), weights, function, routing, {});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const ExpertWeights gated{zeros({3, 4, 4}), zeros({3, 4, 2}), zeros({3, 2}), {}};
  EXPECT_THAT(message_of(gated, {}), StartsWith("[moe.experts] gate_up_bias is (3, 2), wanted (3, 4)"));
  EXPECT_THAT(message_of(gated, {.gated = false}), StartsWith("[moe.experts] gate_up is (3, 4, 4)"));
}

}  // namespace
}  // namespace hone::moe
