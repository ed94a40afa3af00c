// The fast experts against the reference, at sizes where blocks, pieces of a sum and the ways of sharing work
// among threads matter. (parity_test.cpp sweeps the small shapes.)
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "tests/kernels/against_reference.h"
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

  std::string name() const {
    return fmt::format("{} tokens, {} experts top {}, hidden {}, ffn {}, skew {}, {} dweight {} dy {} acc {}",
                       tokens, experts, top_k, hidden, ffn, skew, name_of(dtype), name_of(dweight),
                       name_of(dy), accumulate);
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
  const auto scale = [](std::int64_t n) { return 1 / std::sqrt(static_cast<double>(n)); };
  args.x = arena.input(p.tokens, p.hidden, p.dtype, 3);
  args.gate_up = arena.input(p.experts * 2 * p.ffn, p.hidden, p.dtype, 0, scale(p.hidden)).data;
  args.down = arena.input(p.experts * p.hidden, p.ffn, p.dtype, 0, scale(p.ffn)).data;
  args.experts = p.experts;
  args.top_k = p.top_k;
  args.ffn = p.ffn;
  return args;
}

void run_forward(const Problem& p, Arena& arena, const KernelTable& table, device::Stream& stream) {
  ExpertsArgs args = make_forward(p, arena);
  args.residual = arena.input(p.tokens, p.hidden, DType::kF32, 1);
  args.y = arena.output("y", p.tokens, p.hidden, DType::kF32, false, p.tolerance(DType::kF32), 2);
  args.wants_pre_activation = true;
  args.pre_activation = arena
                            .output("pre_activation", p.tokens * p.top_k, 2 * p.ffn, p.dtype, false,
                                    test::tolerance(p.dtype, p.hidden))
                            .data;
  table.experts(args, stream);
}

void run_backward(const Problem& p, Arena& arena, const KernelTable& table, device::Stream& stream) {
  ExpertsGradArgs args;
  args.forward = make_forward(p, arena);
  args.forward.pre_activation = arena.input(p.tokens * p.top_k, 2 * p.ffn, p.dtype).data;
  args.forward.wants_pre_activation = true;
  args.dy = arena.input(p.tokens, p.hidden, p.dy, 5);
  args.dx = arena.output("dx", p.tokens, p.hidden, DType::kF32, p.accumulate, p.tolerance(DType::kF32), 1);
  args.wants_dweights = args.wants_dgate_up = args.wants_ddown = true;
  args.dweights = static_cast<float*>(
      arena.output("dweights", p.tokens, p.top_k, DType::kF32, false, p.tolerance(DType::kF32)).data);
  args.dgate_up_dtype = args.ddown_dtype = p.dweight;
  args.accumulate_dx = args.accumulate_dgate_up = args.accumulate_ddown = p.accumulate;
  args.dgate_up = arena
                      .output("dgate_up", p.experts * 2 * p.ffn, p.hidden, p.dweight, p.accumulate,
                              p.tolerance(p.dweight))
                      .data;
  args.ddown =
      arena.output("ddown", p.experts * p.hidden, p.ffn, p.dweight, p.accumulate, p.tolerance(p.dweight))
          .data;
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

}  // namespace
}  // namespace hone
