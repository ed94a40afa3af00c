// Cases: products at the thresholds of kernels/cuda/matmul.cu.
#include <fmt/format.h>

#include "tests/cuda/card_cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Product {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
  std::int64_t offset = 0;  // of each operand, in numbers from 64 bytes
  bool more = false;        // bias, residual, accumulate
};

/// The matrix without its first `offset` columns.
Matrix without(Matrix m, std::int64_t offset) {
  m.data = static_cast<char*>(m.data) + offset * static_cast<std::int64_t>(size_of(m.dtype));
  m.cols -= offset;
  return m;
}

Outputs run_product(const KernelTable& table, Stream& stream, const Product& p, DType dtype, DType out) {
  Arena arena;
  kernels::MatmulArgs a;
  const auto operand = [&](bool transposed, std::int64_t rows, std::int64_t cols) {
    if (transposed) std::swap(rows, cols);
    return without(arena.input(rows, cols + p.offset, dtype), p.offset);
  };
  a.transpose_a = p.transpose_a;
  a.transpose_b = p.transpose_b;
  a.a = operand(p.transpose_a, p.m, p.k);
  a.b = operand(p.transpose_b, p.k, p.n);
  a.has_bias = p.more;
  if (p.more) {
    a.bias = without(arena.input(1, p.n + p.offset, dtype), p.offset).data;
    a.residual = without(arena.input(p.m, p.n + p.offset, DType::kF32), p.offset);
  }
  a.accumulate = p.more;
  a.c = arena.output("c", p.m, p.n, out, p.more, tolerance(out, p.k));
  table.matmul(a, stream);
  return arena.outputs();
}

}  // namespace

std::vector<Case> product_cases() {
  const Product products[] = {// large tiles: nine rows of them (a group of eight and one) and eleven columns,
                              // k no multiple of anything
                              {1100, 1283, 77, false, true, 0, true},
                              {1100, 1288, 72, false, false},
                              {1096, 1288, 40, true, false},
                              {1096, 1288, 33, true, true},
                              {1100, 1283, 70, false, true, 1},
                              {1100, 1283, 70, false, false, 3, true},
                              // few tiles and a long k
                              {1, 70, 1024, false, true},
                              {5, 72, 1000, false, true, 0, true},
                              {33, 65, 3001, true, false, 0, true},
                              {40, 56, 4099, true, false},
                              {63, 130, 777, false, false, 1},
                              {16, 24, 9000, false, true},
                              // as many tiles as make it whole
                              {500, 509, 515, false, true},
                              {512, 1024, 513, false, true},
                              // aligned rows of no whole 16 bytes of numbers
                              {64, 64, 8, false, true},
                              {64, 64, 4, false, false},
                              {130, 66, 34, true, true, 8}};
  std::vector<Case> cases;
  for (const Product& p : products)
    for (const DType dtype : kBothDtypes)
      for (const DType out : kBothDtypes) {
        if (dtype == DType::kF32 && (out != dtype || p.m * p.n > 700000)) continue;
        if (p.m * p.n > 700000 && (out == DType::kF32) != p.more) continue;
        cases.push_back(
            {"matmul",
             fmt::format("matmul {}x{}x{} {}->{}{}{} offset {}{}", p.m, p.n, p.k, name_of(dtype),
                         name_of(out), p.transpose_a ? " at" : "", p.transpose_b ? " bt" : "", p.offset,
                         p.more ? " and more" : ""),
             [=](const KernelTable& t, Stream& st) { return run_product(t, st, p, dtype, out); }});
      }
  return cases;
}

}  // namespace hone::test
