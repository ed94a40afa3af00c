// Cases: element by element and row by row.
#include <fmt/format.h>

#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Shape {
  std::int64_t rows, cols;
};
// The last two have the 16,384 elements that threads_for asks for.
const Shape kShapes[] = {{0, 4},    {1, 1},    {3, 7},   {5, 16},   {2, 33},  {64, 31},
                         {65, 128}, {130, 70}, {7, 600}, {300, 70}, {40, 600}};

const kernels::Activation kActivations[] = {
    kernels::Activation::kIdentity, kernels::Activation::kSilu,       kernels::Activation::kGelu,
    kernels::Activation::kGeluTanh, kernels::Activation::kRelu2,      kernels::Activation::kSigmoid,
    kernels::Activation::kTanh,     kernels::Activation::kClampedSilu};

/// Gates of about 4: both tails, and where the clamped ones (limit 3) have no slope.
void add_activation(std::vector<Case>& cases, Shape s, DType t, DType dy, kernels::Activation activation,
                    bool gated, bool partly) {
  if (!gated && activation == kernels::Activation::kClampedSilu) return;
  const auto name =
      fmt::format(" {} {}x{} {} dy {}{}{}", static_cast<int>(activation), s.rows, s.cols, name_of(t),
                  name_of(dy), gated ? "" : ", no up", partly ? ", dgate only" : "");
  const auto set = [=](Arena& arena, auto& a) {
    a.activation = activation;
    a.alpha = 1.7F;
    a.limit = 3;
    a.gate = arena.input(s.rows, s.cols, t, partly ? 0 : 5, 4);
    if (gated) a.up = arena.input(s.rows, s.cols, t, partly ? 0 : 5, 2);
  };
  cases.push_back({"activation", "activation" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::ActivationArgs a;
                     set(arena, a);
                     a.y = arena.output("y", s.rows, s.cols, t, false, tolerance(t, 1), partly ? 0 : 2);
                     table.activation(a, stream);
                     return arena.outputs();
                   }});
  cases.push_back(
      {"activation_grad", "activation_grad" + name, [=](const KernelTable& table, Stream& stream) {
         Arena arena;
         kernels::ActivationGradArgs a;
         set(arena, a);
         a.dy = arena.input(s.rows, s.cols, dy, partly ? 0 : 3);
         a.dgate = arena.output("dgate", s.rows, s.cols, t, false, tolerance(t, 4));
         if (gated && !partly) a.dup = arena.output("dup", s.rows, s.cols, t, false, tolerance(t, 4), 1);
         table.activation_grad(a, stream);
         return arena.outputs();
       }});
}

void add_gate(std::vector<Case>& cases, Shape s, DType x, DType y, bool flag) {
  const auto name = fmt::format(" {}x{} x {} y {}{}", s.rows, s.cols, name_of(x), name_of(y),
                                flag ? " residual/accumulate" : "");
  cases.push_back({"row_gate", "row_gate" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::RowGateArgs a;
                     a.x = arena.input(s.rows, s.cols, x, 1);
                     a.gate = arena.input(s.rows, 1, DType::kF32, 2, 3);
                     if (flag) a.residual = arena.input(s.rows, s.cols, DType::kF32);
                     a.y = arena.output("y", s.rows, s.cols, y, false, tolerance(y, 2), 4);
                     table.row_gate(a, stream);
                     return arena.outputs();
                   }});
  cases.push_back({"row_gate_grad", "row_gate_grad" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::RowGateGradArgs a;
                     a.dy = arena.input(s.rows, s.cols, y);
                     a.x = arena.input(s.rows, s.cols, x, 1);
                     a.gate = arena.input(s.rows, 1, DType::kF32, 0, 3);
                     a.dx = arena.output("dx", s.rows, s.cols, x, flag, tolerance(x, 2), 3);
                     a.accumulate_dx = flag;
                     a.dgate = arena.output("dgate", s.rows, 1, DType::kF32, false,
                                            tolerance(DType::kF32, s.cols), 2);
                     table.row_gate_grad(a, stream);
                     return arena.outputs();
                   }});
}

void add_copy(std::vector<Case>& cases, Shape s, DType x, DType y, bool accumulate) {
  const auto name =
      fmt::format(" {}x{} {}->{}{}", s.rows, s.cols, name_of(x), name_of(y), accumulate ? " +" : "");
  for (const float alpha : {1.0F, -0.75F})
    cases.push_back(
        {"copy", fmt::format("copy{} alpha {}", name, alpha), [=](const KernelTable& table, Stream& stream) {
           Arena arena;
           kernels::CopyArgs a;
           a.x = arena.input(s.rows, s.cols, x, 1);
           a.alpha = alpha;
           a.accumulate = accumulate;
           a.y = arena.output("y", s.rows, s.cols, y, accumulate, tolerance(y, 2), 2);
           table.copy(a, stream);
           return arena.outputs();
         }});
  cases.push_back({"clamp", "clamp" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::ClampArgs a;
                     a.x = arena.input(s.rows, s.cols, x, 1);
                     a.limit = 0.8F;
                     a.accumulate = accumulate;
                     a.y = arena.output("y", s.rows, s.cols, y, accumulate, tolerance(y, 2), 2);
                     table.clamp(a, stream);
                     return arena.outputs();
                   }});
  for (const DType dx : kBothDtypes)
    cases.push_back({"clamp_grad", fmt::format("clamp_grad{} dx {}", name, name_of(dx)),
                     [=](const KernelTable& table, Stream& stream) {
                       Arena arena;
                       kernels::ClampGradArgs a;
                       a.dy = arena.input(s.rows, s.cols, y, 2);
                       a.x = arena.input(s.rows, s.cols, x, 1);
                       a.limit = 0.8F;
                       a.accumulate = accumulate;
                       a.dx = arena.output("dx", s.rows, s.cols, dx, accumulate, tolerance(dx, 2));
                       table.clamp_grad(a, stream);
                       return arena.outputs();
                     }});
}

void add_rows_by_index(std::vector<Case>& cases, Shape s, DType x, DType y, bool accumulate) {
  const auto name =
      fmt::format(" {}x{} {}->{}{}", s.rows, s.cols, name_of(x), name_of(y), accumulate ? " +" : "");
  const std::int64_t all = 2 * s.rows + 1;
  // each row once; and fewer rows than are taken, so that they repeat
  for (const std::int64_t from : {all, std::int64_t{5}})
    cases.push_back({"take_rows", fmt::format("take_rows{} of {}", name, from),
                     [=](const KernelTable& table, Stream& stream) {
                       Arena arena;
                       kernels::TakeRowsArgs a;
                       a.x = arena.input(from, s.cols, x, 1);
                       a.index = arena.integers(arena.random_indices(s.rows, from, from == all));
                       a.y = arena.output("y", s.rows, s.cols, y, false, tolerance(y, 1));
                       table.take_rows(a, stream);
                       return arena.outputs();
                     }});
  cases.push_back({"put_rows", "put_rows" + name, [=](const KernelTable& table, Stream& stream) {
                     Arena arena;
                     kernels::PutRowsArgs a;
                     a.dy = arena.input(s.rows, s.cols, y, 1);
                     a.index = arena.integers(arena.random_indices(s.rows, all, true));
                     a.accumulate = accumulate;
                     a.dx = arena.output("dx", all, s.cols, x, accumulate, tolerance(x, 2), 2);
                     table.put_rows(a, stream);
                     return arena.outputs();
                   }});
}

void add_embedding_grad(std::vector<Case>& cases, Shape s, DType table_dtype, DType out, bool accumulate) {
  // few words for many rows, so that ids repeat; and many words, so that most rows have none
  for (const std::int64_t vocab : {std::int64_t{5}, s.rows * 4 + 1}) {
    const auto name = fmt::format(" {}x{} of {} {}->{}{}", s.rows, s.cols, vocab, name_of(table_dtype),
                                  name_of(out), accumulate ? " +" : "");
    for (const std::int64_t padding : {std::int64_t{-1}, std::min<std::int64_t>(3, vocab - 1)})
      cases.push_back({"embedding_grad", fmt::format("embedding_grad{} padding {}", name, padding),
                       [=](const KernelTable& table, Stream& stream) {
                         Arena arena;
                         kernels::EmbeddingGradArgs a;
                         a.rows = s.rows;
                         a.hidden = s.cols;
                         a.vocab = vocab;
                         a.padding_id = padding;
                         a.dout_dtype = out;
                         a.dtable_dtype = table_dtype;
                         a.dout = arena.input(s.rows, s.cols, out).data;
                         a.ids = arena.integers(arena.random_indices(s.rows, vocab, false));
                         a.accumulate = accumulate;
                         a.dtable = arena
                                        .output("dtable", vocab, s.cols, table_dtype, accumulate,
                                                tolerance(table_dtype, s.rows))
                                        .data;
                         table.embedding_grad(a, stream);
                         return arena.outputs();
                       }});
  }
}

}  // namespace

std::vector<Case> row_cases() {
  std::vector<Case> cases;
  for (const Shape& s : kShapes)
    for (const DType a : kBothDtypes)
      for (const DType b : kBothDtypes) {
        if (a == b || b == DType::kF32)
          for (const kernels::Activation activation : kActivations) {
            // All shapes with one of them, a few with the others: one small, one ragged, one of many threads.
            const bool few = activation != kernels::Activation::kSilu;
            if (few && s.cols != 7 && s.cols != 31 && s.rows != 40) continue;
            for (const bool gated : {false, true}) {
              add_activation(cases, s, a, b, activation, gated, false);
              if (s.rows >= 40) add_activation(cases, s, a, b, activation, gated, true);
            }
          }
        for (const bool flag : {false, true}) {
          add_gate(cases, s, a, b, flag);
          add_copy(cases, s, a, b, flag);
          add_rows_by_index(cases, s, a, b, flag);
          add_embedding_grad(cases, s, a, b, flag);
        }
      }
  return cases;
}

}  // namespace hone::test
