// Reference: the experts of one layer, expert by expert, on gathered rows.
#include <algorithm>
#include <vector>

#include "kernels/reference/activation.h"
#include "kernels/reference/expert_weight.h"
#include "kernels/reference/fp8.h"
#include "kernels/reference/reference.h"

namespace hone::kernels::reference {

namespace {

/// Expert e's slice of a (experts, rows, cols) stack.
Matrix slice(void* stack, DType dtype, std::int64_t e, std::int64_t rows, std::int64_t cols) {
  const Matrix all{stack, dtype, rows, cols, cols};
  return rows_of(all, e * rows, rows);
}
ExpertMatrix gate_up_of(const ExpertsArgs& a, std::int64_t e) {
  return {a.gate_up, a.x.dtype, e, a.parts(), a.ffn, a.x.cols};
}
ExpertMatrix down_of(const ExpertsArgs& a, std::int64_t e) {
  return {a.down, a.x.dtype, e, 1, a.x.cols, a.ffn};
}
/// Columns begin … begin+count-1 of a matrix.
Matrix columns_of(const Matrix& m, std::int64_t begin, std::int64_t count) {
  return {static_cast<char*>(m.data) + begin * static_cast<std::int64_t>(size_of(m.dtype)), m.dtype, m.rows,
          count, m.stride};
}

// With fp8 (ExpertsArgs):
void round_rows(const ExpertsArgs& a, const Matrix& rows) {
  if (a.fp8) round_blocks(rows, 1, kFp8Side);
}
/// A weight, part by part.
void round_weight(const ExpertsArgs& a, const Matrix& weight, std::int64_t parts) {
  const std::int64_t rows = weight.rows / parts;
  for (std::int64_t part = 0; a.fp8 && part < parts; ++part)
    round_blocks(rows_of(weight, part * rows, rows), kFp8Side, kFp8Side);
}
/// What is stored in T before it is rounded.
void round_to_t(const ExpertsArgs& a, const Matrix& m) {
  for (std::int64_t i = 0; a.fp8 && a.x.dtype == DType::kBF16 && i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.cols; ++j)
      store(m, i, j, static_cast<double>(static_cast<float>(BFloat16(load(m, i, j)))));
}

/// Element j of expert e's bias; 0 where there is none.
double bias_of(const void* bias, bool given, DType dtype, std::int64_t e, std::int64_t n, std::int64_t j) {
  return given ? load(bias, dtype, e * n + j) : 0;
}
double down_bias(const ExpertsArgs& a, std::int64_t e, std::int64_t j) {
  return bias_of(a.down_bias, a.has_down_bias, a.x.dtype, e, a.x.cols, j);
}

/// Row r is row token(r) of x, for the rows begin … begin+count-1 of the plan.
void gather(const ExpertsArgs& a, const Matrix& x, std::int64_t begin, const Matrix& out) {
  for (std::int64_t r = 0; r < out.rows; ++r)
    for (std::int64_t j = 0; j < out.cols; ++j)
      store(out, r, j, load(x, a.permutation[begin + r] / a.top_k, j));
}

/// y at each row's token += the row, in the order of rows.
void scatter_add(const ExpertsArgs& a, std::int64_t begin, const Matrix& rows, std::vector<double>& y) {
  for (std::int64_t r = 0; r < rows.rows; ++r)
    for (std::int64_t j = 0; j < rows.cols; ++j)
      y[static_cast<std::size_t>(a.permutation[begin + r] / a.top_k * rows.cols + j)] += load(rows, r, j);
}

void forward_expert(const ExpertsArgs& a, std::int64_t e, std::vector<double>& y, Stream& stream) {
  const std::int64_t begin = a.offsets[e], count = a.offsets[e + 1] - begin, hidden = a.x.cols;
  Rows x(count, hidden), pre(count, a.inner()), act(count, a.ffn), out(count, hidden);
  gather(a, a.x, begin, x.matrix);
  round_rows(a, x.matrix);
  const ExpertMatrix gate_up = gate_up_of(a, e), down = down_of(a, e);
  round_weight(a, gate_up.matrix, a.parts());
  round_weight(a, down.matrix, 1);
  matmul({.a = x.matrix, .b = gate_up.matrix, .c = pre.matrix, .transpose_b = true, .residual = {}}, stream);
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t j = 0; j < a.inner(); ++j)
      put(pre.matrix, r, j, bias_of(a.gate_up_bias, a.has_gate_up_bias, a.x.dtype, e, a.inner(), j), true);
    if (a.wants_pre_activation)
      for (std::int64_t j = 0; j < a.inner(); ++j)
        store(a.pre_activation, a.x.dtype, (begin + r) * a.inner() + j, load(pre.matrix, r, j));
    for (std::int64_t j = 0; j < a.ffn; ++j) {
      const double up = a.gated ? load(pre.matrix, r, a.ffn + j) : 1;
      const double weight = a.fp8 ? 1 : a.weights[a.permutation[begin + r]];
      store(act.matrix, r, j, weight * activated(a, load(pre.matrix, r, j), up).value);
    }
  }
  round_to_t(a, act.matrix);
  round_rows(a, act.matrix);
  matmul({.a = act.matrix, .b = down.matrix, .c = out.matrix, .transpose_b = true, .residual = {}}, stream);
  for (std::int64_t r = 0; r < count; ++r)
    for (std::int64_t j = 0; j < hidden; ++j) {
      const double weight = a.weights[a.permutation[begin + r]], bias = down_bias(a, e, j);
      const double sum = load(out.matrix, r, j);
      store(out.matrix, r, j, a.fp8 ? weight * (sum + bias) : sum + weight * bias);
    }
  scatter_add(a, begin, out.matrix, y);
}

}  // namespace

void experts(const ExpertsArgs& a, Stream& stream) {
  std::vector<double> y(static_cast<std::size_t>(a.x.rows * a.x.cols));
  for (std::int64_t e = 0; e < a.experts; ++e) forward_expert(a, e, y, stream);
  parallel_for(stream, a.x.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.x.cols; ++j) {
      const double residual = a.residual.given() ? load(a.residual, i, j) : 0;
      store(a.y, i, j, residual + y[static_cast<std::size_t>(i * a.x.cols + j)]);
    }
  });
}

namespace {

/// From the gradient of the unweighted activation (dact, before the routing weight) and the pre-activation:
/// the gradient of the pre-activation, the weighted activation, and the gradient of the routing weight.
void activation_grad(const ExpertsGradArgs& g, std::int64_t e, const Matrix& dy, const Matrix& dact,
                     const Matrix& dpre, const Matrix& act) {
  const ExpertsArgs& a = g.forward;
  const std::int64_t begin = a.offsets[e];
  for (std::int64_t r = 0; r < dact.rows; ++r) {
    const std::int64_t pair = a.permutation[begin + r];
    const double weight = a.weights[pair];
    double dweight = 0;
    for (std::int64_t j = 0; j < a.ffn; ++j) {
      const double gate = load(a.pre_activation, a.x.dtype, (begin + r) * a.inner() + j);
      const double up = a.gated ? load(a.pre_activation, a.x.dtype, (begin + r) * a.inner() + a.ffn + j) : 1;
      const double d = load(dact, r, j);
      const Activated h = activated(a, gate, up);
      dweight += d * h.value;
      store(act, r, j, weight * h.value);
      store(dpre, r, j, weight * d * h.of_gate);
      if (a.gated) store(dpre, r, a.ffn + j, weight * d * h.of_up);
    }
    for (std::int64_t j = 0; j < dy.cols; ++j) dweight += load(dy, r, j) * down_bias(a, e, j);
    if (g.wants_dweights) g.dweights[pair] = static_cast<float>(dweight);
  }
}

void bias_grads(const ExpertsGradArgs& g, std::int64_t e, const Matrix& dy, const Matrix& dpre) {
  const ExpertsArgs& a = g.forward;
  const auto sum = [&](const Matrix& rows, std::int64_t j, auto weight) {
    double total = 0;
    for (std::int64_t r = 0; r < rows.rows; ++r) total += weight(r) * load(rows, r, j);
    return total;
  };
  if (g.wants_dgate_up_bias)
    for (std::int64_t j = 0; j < a.inner(); ++j)
      put(g.dgate_up_bias, g.dgate_up_bias_dtype, e * a.inner() + j,
          sum(dpre, j, [](std::int64_t) { return 1.0; }), g.accumulate_dgate_up_bias);
  if (g.wants_ddown_bias)
    for (std::int64_t j = 0; j < dy.cols; ++j)
      put(g.ddown_bias, g.ddown_bias_dtype, e * dy.cols + j,
          sum(dy, j,
              [&](std::int64_t r) {
                return static_cast<double>(a.weights[a.permutation[a.offsets[e] + r]]);
              }),
          g.accumulate_ddown_bias);
}

void backward_expert(const ExpertsGradArgs& g, std::int64_t e, std::vector<double>& dx, Stream& stream) {
  const ExpertsArgs& a = g.forward;
  const std::int64_t begin = a.offsets[e], count = a.offsets[e + 1] - begin, hidden = a.x.cols;
  Rows dy(count, hidden), dact(count, a.ffn), dpre(count, a.inner()), act(count, a.ffn);
  gather(a, g.dy, begin, dy.matrix);
  round_to_t(a, dy.matrix);
  const ExpertMatrix down = down_of(a, e);
  round_weight(a, down.matrix, 1);
  const Operand rounded(dy.matrix, a.fp8, 1);
  matmul({.a = rounded.matrix, .b = down.matrix, .c = dact.matrix, .residual = {}}, stream);
  activation_grad(g, e, dy.matrix, dact.matrix, dpre.matrix, act.matrix);
  round_to_t(a, dpre.matrix);
  round_to_t(a, act.matrix);
  bias_grads(g, e, dy.matrix, dpre.matrix);
  if (g.wants_ddown)
    matmul({.a = dy.matrix,
            .b = act.matrix,
            .c = slice(g.ddown, g.ddown_dtype, e, hidden, a.ffn),
            .transpose_a = true,
            .residual = {},
            .accumulate = g.accumulate_ddown},
           stream);
  if (g.wants_dgate_up) {
    Rows x(count, hidden);
    gather(a, a.x, begin, x.matrix);
    matmul({.a = dpre.matrix,
            .b = x.matrix,
            .c = slice(g.dgate_up, g.dgate_up_dtype, e, a.inner(), hidden),
            .transpose_a = true,
            .residual = {},
            .accumulate = g.accumulate_dgate_up},
           stream);
  }
  if (g.dx.given()) {
    Rows drow(count, hidden);
    const ExpertMatrix gate_up = gate_up_of(a, e);
    round_weight(a, gate_up.matrix, a.parts());
    for (std::int64_t part = 0; part < a.parts(); ++part)
      round_rows(a, columns_of(dpre.matrix, part * a.ffn, a.ffn));
    matmul({.a = dpre.matrix, .b = gate_up.matrix, .c = drow.matrix, .residual = {}}, stream);
    scatter_add(a, begin, drow.matrix, dx);
  }
}

}  // namespace

void sum_expert_squares(const ExpertsGradArgs& g, Stream& stream) {
  const std::int64_t experts = g.forward.experts, matrix = g.forward.ffn * g.forward.x.cols;
  const auto sum = [&](const void* gradient, DType dtype, std::int64_t n, double* squares) {
    parallel_for(stream, experts, [&](std::int64_t e) {
      squares[e] = 0;
      for (std::int64_t i = e * n; i < (e + 1) * n; ++i) {
        const double x = load(gradient, dtype, i);
        squares[e] += x * x;
      }
    });
  };
  if (g.wants_dgate_up_squares)
    sum(g.dgate_up, g.dgate_up_dtype, g.forward.parts() * matrix, g.dgate_up_squares);
  if (g.wants_ddown_squares) sum(g.ddown, g.ddown_dtype, matrix, g.ddown_squares);
}

void experts_grad(const ExpertsGradArgs& g, Stream& stream) {
  const Matrix& x = g.forward.x;
  std::vector<double> dx(g.dx.given() ? static_cast<std::size_t>(x.rows * x.cols) : 0);
  if (g.wants_dweights)  // of slots that go nowhere
    std::fill_n(g.dweights, x.rows * g.forward.top_k, 0.0F);
  for (std::int64_t e = 0; e < g.forward.experts; ++e) backward_expert(g, e, dx, stream);
  sum_expert_squares(g, stream);
  if (!g.dx.given()) return;
  parallel_for(stream, x.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < x.cols; ++j)
      put(g.dx, i, j, dx[static_cast<std::size_t>(i * x.cols + j)], g.accumulate_dx);
  });
}

}  // namespace hone::kernels::reference
