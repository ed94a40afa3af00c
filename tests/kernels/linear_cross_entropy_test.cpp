// The fast language-model head against the reference where it comes in chunks and pieces, and where the model
// is sure. (parity_test.cpp sweeps the small shapes.)
#include <fmt/format.h>

#include "base/error.h"
#include "tests/kernels/against_reference.h"
#include "tests/tolerance.h"

namespace hone {
namespace {

using kernels::KernelTable;
using kernels::LinearCrossEntropyArgs;
using test::Arena;
using test::expect_matches_reference;

struct Problem {
  std::int64_t rows, vocab, hidden;
  DType dtype = DType::kF32, dweight = DType::kF32;
  bool gradients = true, accumulate = false;
  std::vector<double> weights = {};  // of the rows, again and again; empty: none
  float scale = 0.125F;

  std::string name() const {
    return fmt::format("{} rows, {} words, {} wide, {} dweight {} gradients {} acc {} weights {}", rows,
                       vocab, hidden, name_of(dtype), name_of(dweight), gradients, accumulate,
                       weights.size());
  }
};

void run(const Problem& p, Arena& arena, const KernelTable& table, device::Stream& stream) {
  const auto tolerance = [&](DType out, std::int64_t length) {
    return test::tolerance(p.dtype == DType::kBF16 ? p.dtype : out, length);
  };
  LinearCrossEntropyArgs args;
  args.head.hidden = arena.input(p.rows, p.hidden, p.dtype, 3);
  args.head.weight = arena.input(p.vocab, p.hidden, p.dtype, 1, 0.3);
  args.targets = arena.integers(arena.random_indices(p.rows, p.vocab, false));
  args.scale = p.scale;
  std::vector<double> weights;
  for (std::int64_t i = 0; i < p.rows && !p.weights.empty(); ++i)
    weights.push_back(p.weights[static_cast<std::size_t>(i) % p.weights.size()]);
  args.has_weights = !weights.empty();
  if (args.has_weights) args.weights = arena.floats(weights);
  args.nll = static_cast<float*>(
      arena.output("nll", 1, p.rows, DType::kF32, false, test::tolerance(DType::kF32, p.hidden)).data);
  args.loss = static_cast<float*>(
      arena.output("loss", 1, 1, DType::kF32, false, test::tolerance(DType::kF32, p.hidden)).data);
  if (p.gradients) {
    args.gradients.dhidden = arena.output("dhidden", p.rows, p.hidden, DType::kF32, false,
                                          tolerance(DType::kF32, p.vocab + p.hidden), 2);
    args.gradients.wants_dweight = true;
    args.gradients.dweight_dtype = p.dweight;
    args.gradients.accumulate_dweight = p.accumulate;
    args.gradients.dweight = arena
                                 .output("dweight", p.vocab, p.hidden, p.dweight, p.accumulate,
                                         tolerance(p.dweight, p.rows + p.hidden))
                                 .data;
  }
  table.linear_cross_entropy(args, stream);
}

void check(const Problem& p) {
  expect_matches_reference([&](Arena& a, const KernelTable& t, device::Stream& s) { run(p, a, t, s); },
                           p.name());
}

TEST(LinearCrossEntropy, ComesInChunksWhereTheVocabularyIsLarge) {
  // Of 33,000 logits 254 rows take 32 MiB: the fewest of a chunk, 256, are more.
  check({300, 33000, 4});
  check({300, 33000, 4, DType::kF32, DType::kF32, true, false, {0.5, 3, 0}});
}

// A bf16 gradient of the weight is not summed over chunks: the logits are made again, by columns. Everything
// else has the bits that it has beside an f32 gradient, which is.
TEST(LinearCrossEntropy, MakesLogitsAgainForABf16GradientOfALargeVocabulary) {
  Problem p{1500, 230000, 3, DType::kBF16, DType::kBF16, true, true, {0.5, 3, 0}};
  const auto outputs = [&](const KernelTable& table, DType dweight, int threads) {
    Arena arena;
    device::CpuStream stream = test::make_stream(threads);
    p.dweight = dweight;
    run(p, arena, table, stream);
    return arena.outputs();
  };
  const KernelTable& table = kernels::cpu_kernels(kernels::choose_cpu_isa());
  const auto again = outputs(table, DType::kBF16, 2);
  auto once = outputs(table, DType::kF32, 2);
  ASSERT_EQ(once.back().name, "dweight");
  EXPECT_LT(test::relative_distance(again.back().values, once.back().values),
            test::tolerance(DType::kBF16, p.rows));
  once.back() = again.back();
  test::expect_equal(again, once, "again");
  test::expect_equal(outputs(table, DType::kBF16, 3), again, "3 threads");
}

TEST(LinearCrossEntropy, SumsAWideHiddenInPieces) {
  check({20, 70, 4200});
  check({20, 70, 4200, DType::kBF16});
}

// Rows 4 KiB apart are copied first; AMX copies rows that straddle cache lines, too.
TEST(LinearCrossEntropy, ReadsHiddenRowsWhereverTheyLie) {
  check({70, 200, 1024});
  check({70, 200, 2048, DType::kBF16});
  check({70, 200, 2049, DType::kBF16, DType::kBF16, true, true});
}

TEST(LinearCrossEntropy, WithoutGradientsOnlyMeasures) {
  check({530, 300, 33, DType::kF32, DType::kF32, false});
  check({530, 300, 33, DType::kBF16, DType::kF32, false});
}

// Nothing but a power of two between them: every product is exact.
TEST(LinearCrossEntropy, WeightsThatAreAllTheSameChangeNoBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const auto& [name, table] : test::matrix_tables()) {
      const auto outputs = [&, &kernels = table](const std::vector<double>& weights, float scale) {
        Arena arena;
        device::CpuStream stream = test::make_stream(2);
        run({37, 300, 33, dtype, dtype, true, true, weights, scale}, arena, kernels, stream);
        return arena.outputs();
      };
      const auto without = outputs({}, 0.1F);
      test::expect_equal(outputs({1}, 0.1F), without, fmt::format("{} 1", name));
      test::expect_equal(outputs({0.25}, 0.4F), without, fmt::format("{} 1/4", name));
    }
  }
}

// A stored bf16 probability cannot tell 0.999 from 1; the gradient of a sure and right prediction must still
// point the right way and have the right size.
TEST(LinearCrossEntropy, KeepsTheGradientOfASureAndRightPrediction) {
  for (const auto& [name, table] : test::matrix_tables()) {
    Arena arena;
    device::CpuStream stream = test::make_stream(1);
    LinearCrossEntropyArgs args;
    args.head.hidden = arena.input(1, 2, DType::kBF16);
    args.head.weight = arena.input(2, 2, DType::kBF16);
    const double hidden[2] = {1, 0}, weight[2][2] = {{8, 0}, {0, 4}};
    for (std::int64_t i = 0; i < 2; i++) {
      test::set(args.head.hidden, 0, i, hidden[i]);
      for (std::int64_t j = 0; j < 2; j++) test::set(args.head.weight, i, j, weight[i][j]);
    }
    args.targets = arena.integers({0});
    args.nll = static_cast<float*>(arena.output("nll", 1, 1, DType::kF32, false, 0).data);
    args.loss = static_cast<float*>(arena.output("loss", 1, 1, DType::kF32, false, 0).data);
    args.gradients.dhidden = arena.output("dhidden", 1, 2, DType::kF32, false, 0);
    table.linear_cross_entropy(args, stream);
    const double miss = 1 / (1 + std::exp(8.0));  // the probability of the wrong word: the logits are 8 and 0
    EXPECT_NEAR(test::get(args.gradients.dhidden, 0, 0), -8 * miss, 8 * miss * 0.005) << name;
    EXPECT_NEAR(test::get(args.gradients.dhidden, 0, 1), 4 * miss, 4 * miss * 0.01) << name;
    EXPECT_NEAR(args.nll[0], miss, 1e-6) << name;
  }
}

}  // namespace
}  // namespace hone
