// The fast experts against the reference, at sizes where blocks, pieces of a sum and the ways of sharing work
// among threads matter. (parity_test.cpp sweeps the small shapes.)
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "kernels/reference/expert_weight.h"
#include "tests/kernels/against_reference.h"
#include "tests/kernels/expert_forms.h"
#include "tests/tolerance.h"

namespace hone {
namespace {

using kernels::ExpertsArgs;
using kernels::ExpertsGradArgs;
using kernels::KernelTable;
using test::Arena;
using test::expect_matches_reference;

struct Problem {
  std::int64_t tokens, experts, top_k, hidden, ffn;
  double skew = 0;  // the share of tokens whose first choice is expert 0
  DType dtype = DType::kF32, dweight = DType::kF32, dy = DType::kF32;
  bool accumulate = false;
  test::ExpertForm form = {};

  std::string name() const {
    return fmt::format(
        "{} tokens, {} experts top {}, hidden {}, ffn {}, skew {}, {} dweight {} dy {} acc {}, {}", tokens,
        experts, top_k, hidden, ffn, skew, name_of(dtype), name_of(dweight), name_of(dy), accumulate,
        form.name());
  }
  double tolerance(DType out) const {
    const DType narrowest = dtype == DType::kBF16 ? dtype : out;
    return 2 * test::tolerance(narrowest, hidden + ffn + tokens);
  }
};

/// Random experts for every token, no expert twice, and the plan that follows.
void make_plan(const Problem& p, Arena& arena, ExpertsArgs& args) {
  const auto rows = static_cast<std::size_t>(p.tokens * p.top_k),
             experts = static_cast<std::size_t>(p.experts);
  std::vector<std::int32_t> expert_of(rows), order(experts), offsets(experts + 1), permutation(rows),
      inverse(rows);
  std::vector<double> weights;
  std::uniform_real_distribution<double> uniform(0, 1);
  for (std::size_t t = 0; t < static_cast<std::size_t>(p.tokens); t++) {
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), arena.random());
    if (uniform(arena.random()) < p.skew)
      std::iter_swap(order.begin(), std::find(order.begin(), order.end(), 0));
    for (std::size_t s = 0; s < static_cast<std::size_t>(p.top_k); s++) {
      expert_of[t * static_cast<std::size_t>(p.top_k) + s] = order[s];
      weights.push_back(uniform(arena.random()));
    }
  }
  for (const std::int32_t e : expert_of) offsets[static_cast<std::size_t>(e) + 1]++;
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  std::vector<std::int32_t> next(offsets.begin(), offsets.end() - 1);
  for (std::size_t i = 0; i < rows; i++) {
    const std::int32_t row = next[static_cast<std::size_t>(expert_of[i])]++;
    inverse[i] = row;
    permutation[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(i);
  }
  args.weights = arena.floats(weights);
  args.offsets = arena.integers(offsets);
  args.permutation = arena.integers(permutation);
  args.inverse = arena.integers(inverse);
}

ExpertsArgs make_forward(const Problem& p, Arena& arena) {
  ExpertsArgs args;
  make_plan(p, arena, args);
  args.x = arena.input(p.tokens, p.hidden, p.dtype, 3);
  set_form(args, arena, p.form, p.dtype, p.experts, p.hidden, p.ffn);
  args.top_k = p.top_k;
  return args;
}

void run_forward(const Problem& p, Arena& arena, const KernelTable& table, device::Stream& stream) {
  ExpertsArgs args = make_forward(p, arena);
  args.residual = arena.input(p.tokens, p.hidden, DType::kF32, 1);
  args.y = arena.output("y", p.tokens, p.hidden, DType::kF32, false, p.tolerance(DType::kF32), 2);
  args.wants_pre_activation = true;
  args.pre_activation = arena
                            .output("pre_activation", p.tokens * p.top_k, args.inner(), p.dtype, false,
                                    test::tolerance(p.dtype, p.hidden))
                            .data;
  table.experts(args, stream);
}

void run_backward(const Problem& p, Arena& arena, const KernelTable& table, device::Stream& stream) {
  ExpertsGradArgs args;
  args.forward = make_forward(p, arena);
  args.forward.pre_activation = arena.input(p.tokens * p.top_k, args.forward.inner(), p.dtype).data;
  args.forward.wants_pre_activation = true;
  args.dy = arena.input(p.tokens, p.hidden, p.dy, 5);
  args.dx = arena.output("dx", p.tokens, p.hidden, DType::kF32, p.accumulate, p.tolerance(DType::kF32), 1);
  args.wants_dweights = true;
  args.wants_dgate_up = args.wants_ddown = p.form.dense();
  args.wants_dgate_up_bias = args.wants_ddown_bias = p.form.biases;
  args.dweights = static_cast<float*>(
      arena.output("dweights", p.tokens, p.top_k, DType::kF32, false, p.tolerance(DType::kF32)).data);
  args.dgate_up_dtype = args.ddown_dtype = p.dweight;
  args.dgate_up_bias_dtype = args.ddown_bias_dtype = p.dweight;
  args.accumulate_dx = args.accumulate_dgate_up = args.accumulate_ddown = p.accumulate;
  args.accumulate_dgate_up_bias = args.accumulate_ddown_bias = p.accumulate;
  const auto gradient = [&](const char* name, bool wanted, std::int64_t rows, std::int64_t cols) {
    return wanted ? arena.output(name, rows, cols, p.dweight, p.accumulate, p.tolerance(p.dweight)).data
                  : nullptr;
  };
  args.dgate_up = gradient("dgate_up", args.wants_dgate_up, p.experts * args.forward.inner(), p.hidden);
  args.ddown = gradient("ddown", args.wants_ddown, p.experts * p.hidden, p.ffn);
  args.dgate_up_bias = gradient("dgate_up_bias", p.form.biases, p.experts, args.forward.inner());
  args.ddown_bias = gradient("ddown_bias", p.form.biases, p.experts, p.hidden);
  table.experts_grad(args, stream);
}

void check(const Problem& p) {
  expect_matches_reference(
      [&](Arena& a, const KernelTable& t, device::Stream& s) { run_forward(p, a, t, s); },
      "forward, " + p.name());
  expect_matches_reference(
      [&](Arena& a, const KernelTable& t, device::Stream& s) { run_backward(p, a, t, s); },
      "backward, " + p.name());
}

constexpr DType kF = DType::kF32, kB = DType::kBF16;

TEST(Experts, ShareWorkByExpertsWhereTheseAreMany) {
  check({200, 16, 2, 48, 40});
  check({150, 24, 3, 34, 20, 0, kB, kF, kF, true});
  check({150, 24, 3, 33, 19, 0, kB, kB, kB});
}

TEST(Experts, ShareWorkByStagesWhereExpertsAreFew) {
  check({300, 1, 1, 70, 33});
  check({400, 3, 2, 40, 50, 0.9});
  check({260, 2, 2, 64, 300, 0.5, kB, kB, kF, true});
}

TEST(Experts, OfFewTokensReadTheirWeightsStraight) {
  for (const std::int64_t tokens : {1, 2, 7}) {
    check({tokens, 8, 2, 100, 37});
    check({tokens, 8, 2, 65, 48, 0, kB, kF, kB});
  }
}

TEST(Experts, SumManyRowsInPieces) {
  check({2500, 4, 1, 16, 8, 0.95});
  check({2500, 2, 1, 17, 9, 0.99, kB, kB, kF, true});
}

TEST(Experts, WithoutRowsHaveZeroGradients) {
  check({30, 40, 1, 24, 16, 1.0, kF, kF, kF});
}

test::ExpertForm form_of(test::Activation activation, bool gated, bool biases,
                         test::WeightKind kind = test::WeightKind::kDense) {
  return {activation, gated, biases, kind, kind};
}

TEST(Experts, ComeInOtherFormsHoweverTheWorkIsShared) {
  using test::Activation;
  for (const auto& form :
       {form_of(Activation::kClampedSilu, true, true), form_of(Activation::kRelu2, false, true)}) {
    check({200, 16, 2, 48, 40, 0, kF, kF, kF, false, form});
    check({150, 24, 3, 33, 19, 0, kB, kB, kB, true, form});
    check({400, 3, 2, 40, 350, 0.9, kF, kF, kF, true, form});
    check({260, 2, 2, 300, 64, 0.5, kB, kF, kB, false, form});
    check({2500, 4, 1, 16, 8, 0.95, kF, kF, kF, false, form});
    check({7, 8, 2, 65, 48, 0, kB, kF, kF, false, form});
  }
}

/// Expert weights as they are decoded, in T.
test::ExpertWeight dense_of(Arena& arena, const test::ExpertWeight& w, DType t, std::int64_t experts,
                            std::int64_t parts, std::int64_t rows, std::int64_t k) {
  const kernels::Matrix all = arena.input(experts * parts * rows, k, t);
  for (std::int64_t e = 0; e < experts; e++) {
    const kernels::reference::ExpertMatrix of(w, t, e, parts, rows, k);
    for (std::int64_t r = 0; r < parts * rows; r++)
      for (std::int64_t c = 0; c < k; c++)
        test::set(all, e * parts * rows + r, c, of.values[static_cast<std::size_t>(r * k + c)]);
  }
  return {all.data};
}

/// Runs both directions; dense: on the decoded weights.
void run_quantised(const Problem& p, bool dense, Arena& arena, const KernelTable& table,
                   device::Stream& stream) {
  Arena others(7);
  ExpertsGradArgs args;
  ExpertsArgs& f = args.forward = make_forward(p, others);
  if (dense) {
    f.gate_up = dense_of(others, f.gate_up, p.dtype, p.experts, f.parts(), p.ffn, p.hidden);
    f.down = dense_of(others, f.down, p.dtype, p.experts, 1, p.hidden, p.ffn);
  }
  f.y = arena.output("y", p.tokens, p.hidden, DType::kF32, false, 1);
  f.wants_pre_activation = true;
  f.pre_activation = arena.output("pre_activation", p.tokens * p.top_k, f.inner(), p.dtype, false, 1).data;
  table.experts(f, stream);
  args.dy = f.x;
  args.dx = arena.output("dx", p.tokens, p.hidden, DType::kF32, false, 1);
  args.wants_dweights = true;
  args.dweights = static_cast<float*>(arena.output("dweights", p.tokens, p.top_k, kF, false, 1).data);
  table.experts_grad(args, stream);
}

TEST(Experts, OfQuantisedWeightsAreThoseOfTheDecodedOnesBitForBit) {
  using test::Activation;
  constexpr auto kFp4 = test::WeightKind::kMxfp4, kFp8 = test::WeightKind::kFp8Block;
  const auto gated4 = form_of(Activation::kClampedSilu, true, true, kFp4);
  const auto gated8 = form_of(Activation::kSilu, true, false, kFp8);
  const auto ungated4 = form_of(Activation::kRelu2, false, false, kFp4);
  const auto ungated8 = form_of(Activation::kRelu2, false, true, kFp8);
  const Problem problems[] = {{60, 4, 2, 96, 64, 0, kF, kF, kF, false, gated4},
                              {60, 4, 2, 96, 64, 0, kB, kF, kF, false, gated4},
                              {3, 4, 2, 160, 96, 0, kF, kF, kF, false, gated4},  // read straight
                              {3, 4, 2, 160, 96, 0, kB, kF, kF, false, gated4},
                              {40, 2, 1, 4160, 32, 0, kF, kF, kF, false, gated4},  // pieces of an odd length
                              {40, 2, 1, 4160, 32, 0, kB, kF, kF, false, gated4},
                              {50, 3, 2, 32, 2080, 0, kF, kF, kF, false, ungated4},
                              {60, 4, 2, 97, 135, 0, kF, kF, kF, false, gated8},
                              {60, 4, 2, 97, 135, 0, kB, kF, kF, false, gated8},
                              {3, 4, 2, 97, 135, 0, kB, kF, kF, false, gated8},
                              {40, 2, 1, 4161, 33, 0, kF, kF, kF, false, ungated8},
                              {50, 3, 2, 261, 300, 0, kB, kF, kF, false, ungated8}};
  for (const Problem& p : problems) {
    for (const auto& [name, table] : test::fast_tables()) {
      const auto run = [&](bool dense) {
        return test::run_case(
            [&](Arena& a, const KernelTable& t, device::Stream& s) { run_quantised(p, dense, a, t, s); },
            table, 2, 1);
      };
      test::expect_equal(run(false), run(true), name + " " + p.name());
    }
  }
}

}  // namespace
}  // namespace hone
