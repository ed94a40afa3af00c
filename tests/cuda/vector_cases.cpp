// Cases: element by element, where all operands have rows at 16 bytes, or all but one; rows longer than what
// a block takes at once. (Those of tests/kernels have no two of the same alignment.)
#include <fmt/format.h>

#include "tests/cuda/card_cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Layout {
  std::int64_t rows, cols;
  DType dtype;
  int odd;  // the operand whose rows begin anywhere
  std::int64_t pad(int operand) const { return operand == odd ? 1 : 0; }
};

void add(std::vector<Case>& cases, Layout l, bool flag) {
  const DType t = l.dtype;
  const auto name =
      fmt::format(" {}x{} {}, operand {} odd{}", l.rows, l.cols, name_of(t), l.odd, flag ? " +" : "");
  const auto output = [=](Arena& arena, const char* of, int operand, bool accumulate) {
    return arena.output(of, l.rows, l.cols, t, accumulate, tolerance(t, 2), l.pad(operand));
  };
  const auto input = [=](Arena& arena, int operand) {
    return arena.input(l.rows, l.cols, t, l.pad(operand));
  };
  cases.push_back({"copy", "copy" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::CopyArgs a{
                         .x = input(arena, 0), .y = output(arena, "y", 1, flag), .alpha = 1.5F};
                     a.accumulate = flag;
                     table.copy(a, stream);
                     return arena.outputs();
                   }});
  cases.push_back({"clamp_grad", "clamp_grad" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::ClampGradArgs a;
                     a.dy = input(arena, 0);
                     a.x = input(arena, 1);
                     a.dx = output(arena, "dx", 2, flag);
                     a.limit = 0.8F;
                     a.accumulate = flag;
                     table.clamp_grad(a, stream);
                     return arena.outputs();
                   }});
  cases.push_back({"row_gate", "row_gate" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::RowGateArgs a;
                     a.x = input(arena, 0);
                     a.gate = arena.input(l.rows, 1, DType::kF32, 1, 3);
                     if (flag) a.residual = arena.input(l.rows, l.cols, DType::kF32, l.pad(1));
                     a.y = output(arena, "y", 2, false);
                     table.row_gate(a, stream);
                     return arena.outputs();
                   }});
  cases.push_back({"row_gate_grad", "row_gate_grad" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::RowGateGradArgs a;
                     a.dy = input(arena, 0);
                     a.x = input(arena, 1);
                     a.gate = arena.input(l.rows, 1, DType::kF32, 0, 3);
                     a.dx = output(arena, "dx", 2, flag);
                     a.accumulate_dx = flag;
                     a.dgate =
                         arena.output("dgate", l.rows, 1, DType::kF32, false, tolerance(DType::kF32, l.cols));
                     table.row_gate_grad(a, stream);
                     return arena.outputs();
                   }});
  const std::int64_t all = 2 * l.rows + 1;
  cases.push_back({"take_rows", "take_rows" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::TakeRowsArgs a;
                     a.x = arena.input(all, l.cols, t, l.pad(0));
                     a.index = arena.integers(arena.random_indices(l.rows, all, true));
                     const DType y = flag ? DType::kF32 : t;
                     a.y = arena.output("y", l.rows, l.cols, y, false, tolerance(y, 1), l.pad(1));
                     table.take_rows(a, stream);
                     return arena.outputs();
                   }});
  cases.push_back({"put_rows", "put_rows" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::PutRowsArgs a;
                     a.dy = input(arena, 0);
                     a.index = arena.integers(arena.random_indices(l.rows, all, true));
                     a.accumulate = flag;
                     a.dx = arena.output("dx", all, l.cols, t, flag, tolerance(t, 2), l.pad(1));
                     table.put_rows(a, stream);
                     return arena.outputs();
                   }});
  cases.push_back(
      {"column_sum", "column_sum" + name, [=](const KernelTable& table, Stream& stream) {
         Arena arena;
         kernels::ColumnSumArgs a;
         a.x = input(arena, 0);
         a.accumulate = flag;
         a.out = arena.output("out", 1, l.cols, DType::kF32, flag, tolerance(DType::kF32, l.rows)).data;
         table.column_sum(a, stream);
         return arena.outputs();
       }});
}

/// Operands 3 and 4 are of the second factor.
void add_activation_grad(std::vector<Case>& cases, Layout l, bool gated) {
  const auto input = [=](Arena& arena, int operand) {
    return arena.input(l.rows, l.cols, l.dtype, l.pad(operand));
  };
  const auto output = [=](Arena& arena, const char* of, int operand) {
    return arena.output(of, l.rows, l.cols, l.dtype, false, tolerance(l.dtype, 2), l.pad(operand));
  };
  cases.push_back({"activation_grad",
                   fmt::format("activation_grad {}x{} {}, operand {} odd{}", l.rows, l.cols, name_of(l.dtype),
                               l.odd, gated ? "" : ", no up"),
                   [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::ActivationGradArgs a;
                     a.activation = kernels::Activation::kSilu;
                     a.gate = input(arena, 0);
                     a.dy = input(arena, 1);
                     a.dgate = output(arena, "dgate", 2);
                     if (gated) a.up = input(arena, 3);
                     if (gated) a.dup = output(arena, "dup", 4);
                     table.activation_grad(a, stream);
                     return arena.outputs();
                   }});
}

/// Rows that are a multiple of 16 bytes apart, the first of which begins at none.
void add_shifted_rows(std::vector<Case>& cases, DType dtype) {
  cases.push_back({"take_rows", fmt::format("take_rows 5x16 {}, one number on", name_of(dtype)),
                   [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::TakeRowsArgs a;
                     const Matrix wide = arena.input(5, 24, dtype);
                     a.x = {static_cast<std::byte*>(wide.data) + size_of(dtype), dtype, 5, 16, wide.stride};
                     a.index = arena.integers({4, 0, 2});
                     a.y = arena.output("y", 3, 16, dtype, false, tolerance(dtype, 1));
                     table.take_rows(a, stream);
                     return arena.outputs();
                   }});
}

/// Sums over more rows than one block takes.
void add_tall_column_sum(std::vector<Case>& cases, DType dtype) {
  cases.push_back({"column_sum", fmt::format("column_sum 700x20 {}", name_of(dtype)),
                   [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::ColumnSumArgs a;
                     a.x = arena.input(700, 20, dtype);
                     a.out = arena.output("out", 1, 20, DType::kF32, false, tolerance(DType::kF32, 700)).data;
                     table.column_sum(a, stream);
                     return arena.outputs();
                   }});
}

/// More words than a block of threads reads at once, the largest logits first or last: what was summed up
/// before a larger one came is scaled.
void add_wide_head(std::vector<Case>& cases, bool rising) {
  cases.push_back(
      {"head_statistics", fmt::format("head_statistics of 5,000 words, {}", rising ? "rising" : "falling"),
       [=](const KernelTable& table, Stream& stream) {
         constexpr std::int64_t kRows = 3, kWords = 5'000, kHidden = 8;
         Arena arena;
         kernels::HeadStatisticsArgs a;
         std::vector<double> hidden(kRows * kHidden, 0.25), weight(kWords * kHidden, -0.5);
         for (std::size_t row = 0; row < kRows; ++row) hidden[row * kHidden] = 1;
         for (std::size_t word = 0; word < kWords; ++word)
           weight[word * kHidden] = 4e-3 * static_cast<double>(rising ? word : kWords - word);
         a.head.hidden = {arena.floats(hidden), DType::kF32, kRows, kHidden, kHidden};
         a.head.weight = {arena.floats(weight), DType::kF32, kWords, kHidden, kHidden};
         a.targets = arena.integers({17, 4'999, -1});
         const double tol = tolerance(DType::kF32, kHidden);
         a.lse = static_cast<float*>(arena.output("lse", 1, kRows, DType::kF32, false, tol).data);
         a.target_logit =
             static_cast<float*>(arena.output("target_logit", 1, kRows, DType::kF32, false, tol).data);
         table.head_statistics(a, stream);
         return arena.outputs();
       }});
}

/// A loss of more rows than one block has threads.
void add_tall_head(std::vector<Case>& cases) {
  cases.push_back({"linear_cross_entropy", "linear_cross_entropy of 1,500 rows",
                   [](const KernelTable& table, Stream& stream) {
                     constexpr std::int64_t kRows = 1'500, kWords = 9, kHidden = 8;
                     Arena arena;
                     kernels::LinearCrossEntropyArgs a;
                     a.head.hidden = arena.input(kRows, kHidden, DType::kF32);
                     a.head.weight = arena.input(kWords, kHidden, DType::kF32);
                     std::vector<std::int32_t> targets(kRows);
                     for (std::size_t row = 0; row < targets.size(); ++row)
                       targets[row] = static_cast<std::int32_t>(row % kWords);
                     a.targets = arena.integers(targets);
                     const double tol = tolerance(DType::kF32, kHidden);
                     a.nll = static_cast<float*>(arena.output("nll", 1, kRows, DType::kF32, false, tol).data);
                     a.loss = static_cast<float*>(
                         arena.output("loss", 1, 1, DType::kF32, false, tolerance(DType::kF32, kRows)).data);
                     table.linear_cross_entropy(a, stream);
                     return arena.outputs();
                   }});
}

}  // namespace

std::vector<Case> vector_cases() {
  std::vector<Case> cases;
  add_tall_head(cases);
  for (const DType dtype : kBothDtypes) {
    add_tall_column_sum(cases, dtype);
    add_shifted_rows(cases, dtype);
  }
  for (const bool rising : {false, true}) add_wide_head(cases, rising);
  for (const DType dtype : kBothDtypes)
    for (const int odd : {-1, 0, 1, 2, 3, 4}) {
      add_activation_grad(cases, {5, 40, dtype, odd}, true);
      if (odd < 3) add_activation_grad(cases, {5, 40, dtype, odd}, false);
    }
  for (const DType dtype : kBothDtypes)
    for (const int odd : {-1, 0, 1, 2})
      for (const bool flag : {false, true}) {
        add(cases, {5, 40, dtype, odd}, flag);
        add(cases, {2, 2'120, dtype, odd}, flag);  // 2,048 are 8 for each of 256 threads
        if (odd < 0) add(cases, {9, 44, dtype, odd}, flag);
      }
  return cases;
}

}  // namespace hone::test
