// The fast matrix product against the reference.
#include <fmt/format.h>

#include "base/error.h"
#include "tests/kernels/against_reference.h"
#include "tests/tolerance.h"

namespace hone {
namespace {

using kernels::KernelTable;
using kernels::MatmulArgs;
using kernels::Matrix;
using test::Arena;
using test::expect_matches_reference;

struct Problem {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
  DType dtype = DType::kF32, c_dtype = DType::kF32;
  bool accumulate = false, bias = false;
  const char* residual = "none";  // f32, same
  std::int64_t pad = 0;           // of every row

  std::string name() const {
    return fmt::format("m={} n={} k={} ta={} tb={} {} c={} acc={} bias={} residual={} pad={}", m, n, k,
                       transpose_a, transpose_b, name_of(dtype), name_of(c_dtype), accumulate, bias, residual,
                       pad);
  }
};

void run(const Problem& p, Arena& arena, const KernelTable& table, device::Stream& stream) {
  MatmulArgs args;
  args.transpose_a = p.transpose_a;
  args.transpose_b = p.transpose_b;
  args.a = p.transpose_a ? arena.input(p.k, p.m, p.dtype, p.pad) : arena.input(p.m, p.k, p.dtype, p.pad);
  args.b = p.transpose_b ? arena.input(p.n, p.k, p.dtype, p.pad) : arena.input(p.k, p.n, p.dtype, p.pad);
  args.has_bias = p.bias;
  if (p.bias) args.bias = arena.input(1, p.n, p.dtype).data;
  if (p.residual != std::string("none")) {
    args.residual = arena.input(p.m, p.n, p.residual == std::string("f32") ? DType::kF32 : p.dtype, p.pad);
  }
  args.accumulate = p.accumulate;
  args.c = arena.output("c", p.m, p.n, p.c_dtype, p.accumulate, test::tolerance(p.c_dtype, p.k), p.pad);
  table.matmul(args, stream);
}

void check(const Problem& p) {
  expect_matches_reference([&](Arena& a, const KernelTable& t, device::Stream& s) { run(p, a, t, s); },
                           p.name());
}

struct Types {
  DType dtype, c_dtype;
};
constexpr Types kTypes[] = {
    {DType::kF32, DType::kF32}, {DType::kBF16, DType::kF32}, {DType::kBF16, DType::kBF16}};
constexpr bool kForms[][2] = {{false, true}, {false, false}, {true, false}, {true, true}};

TEST(Matmul, MatchesTheReferenceForRaggedShapes) {
  const std::int64_t shapes[][3] = {{1, 1, 1},     {1, 33, 7},   {2, 5, 64},    {3, 100, 31},
                                    {4, 31, 257},  {5, 17, 3},   {6, 16, 16},   {13, 32, 33},
                                    {14, 33, 32},  {15, 1, 65},  {16, 48, 2},   {29, 63, 40},
                                    {43, 129, 17}, {57, 2, 130}, {100, 96, 15}, {113, 65, 66}};
  for (const auto& [m, n, k] : shapes) {
    for (const Types& t : kTypes) {
      for (const auto& form : kForms) {
        check({m, n, k, form[0], form[1], t.dtype, t.c_dtype, (m + n) % 2 == 0, false, "none", k % 3});
        if (HasFailure()) return;
      }
    }
  }
}

// A tile of AMX is 16 or 32 rows, 16 columns, 32 of k: every remainder on either side of those.
TEST(Matmul, MatchesTheReferenceAroundTheSizesOfTiles) {
  constexpr Types kBf16[] = {{DType::kBF16, DType::kF32}, {DType::kBF16, DType::kBF16}};
  const std::int64_t columns[] = {1, 15, 16, 17, 31, 32, 33, 49, 64}, ks[] = {1, 31, 32, 33, 63, 64, 95};
  for (std::int64_t m = 1; m <= 66; m++) {
    const std::int64_t n = columns[m % 9], k = ks[m % 7];
    for (const Types& t : kBf16) {
      for (const auto& form : kForms) {
        check({m, n, k, form[0], form[1], t.dtype, t.c_dtype, m % 2 == 0, m % 3 == 0, "none", m % 4});
        if (HasFailure()) return;
      }
    }
  }
}

// Left operands that are read in place and, like those of 2,048 bf16, copied first.
TEST(Matmul, MatchesTheReferenceWhereverTheRowsOfTheLeftOperandLie) {
  for (const std::int64_t k : {64, 2048}) {
    for (const std::int64_t pad : {0, 1, 31, 32}) {
      check({67, 150, k, false, true, DType::kBF16, DType::kF32, false, false, "none", pad});
      if (HasFailure()) return;
    }
  }
}

// More rows are other tiles and other blocks, but no other result.
TEST(Matmul, OfARowDoesNotDependOnTheOtherRows) {
  constexpr std::int64_t kRows = 200, kColumns = 160;
  for (const auto& [name, table] : test::matrix_tables()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const std::int64_t k : {33, 1100}) {
        for (const bool transpose_a : {false, true}) {
          Arena arena;
          device::CpuStream stream = test::make_stream(2);
          MatmulArgs args;
          args.a = transpose_a ? arena.input(k, kRows, dtype, 7) : arena.input(kRows, k, dtype, 7);
          args.b = arena.input(k, kColumns, dtype);
          args.transpose_a = transpose_a;
          args.c = arena.output("all", kRows, kColumns, DType::kF32, false, 0);
          table.matmul(args, stream);
          const auto all = test::values_of(args.c);
          for (const std::int64_t rows : {5, 16, 17, 33, 100}) {
            Matrix& a = args.a;
            (transpose_a ? a.cols : a.rows) = rows;
            args.c = arena.output("some", rows, kColumns, DType::kF32, false, 0);
            table.matmul(args, stream);
            const auto some = test::values_of(args.c);
            EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()))
                << name << ", " << name_of(dtype) << ", k " << k << ", " << rows << " rows";
          }
        }
      }
    }
  }
}

TEST(Matmul, AddsBiasResidualAndTheOldResult) {
  for (const std::int64_t m : {1, 3, 20}) {
    for (const Types& t : kTypes) {
      for (const char* residual : {"none", "f32", "same"}) {
        for (const bool bias : {false, true}) {
          for (const bool accumulate : {false, true}) {
            check({m, 45, 19, false, true, t.dtype, t.c_dtype, accumulate, bias, residual, 5});
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST(Matmul, SumsALongKInPieces) {
  for (const std::int64_t k : {1025, 2049, 4097}) {
    for (const Types& t : kTypes) {
      for (const auto& form : kForms) {
        check({17, 40, k, form[0], form[1], t.dtype, t.c_dtype, k % 2 == 0, false, "none", 1});
        if (HasFailure()) return;
      }
    }
  }
}

TEST(Matmul, CutsLargeProductsIntoBlocks) {
  for (const auto& form : kForms) {
    check({600, 700, 20, form[0], form[1]});
    check({600, 300, 33, form[0], form[1], DType::kBF16, DType::kBF16});
    check({530, 290, 2050, form[0], form[1], DType::kBF16});
    if (HasFailure()) return;
  }
}

TEST(Matmul, OfNothingIsNothingAndOverNothingIsZero) {
  for (const auto& form : kForms) {
    check({0, 5, 3, form[0], form[1]});
    check({5, 0, 3, form[0], form[1]});
    check({5, 40, 0, form[0], form[1]});
    check({5, 40, 0, form[0], form[1], DType::kBF16, DType::kBF16, true, true, "same"});
  }
}

}  // namespace
}  // namespace hone
