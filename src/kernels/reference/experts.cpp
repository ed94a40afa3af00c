// Reference: the experts of one layer, expert by expert, on gathered rows.
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

namespace {

/// A dense f32 matrix of its own.
struct Rows {
  Rows(std::int64_t rows, std::int64_t cols)
      : values(static_cast<std::size_t>(rows * cols)), matrix{values.data(), DType::kF32, rows, cols, cols} {}
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  std::vector<float> values;
  Matrix matrix;
};

/// Expert e's slice of a (experts, rows, cols) stack.
Matrix slice(const void* stack, DType dtype, std::int64_t e, std::int64_t rows, std::int64_t cols) {
  const Matrix all{const_cast<void*>(stack), dtype, rows, cols, cols};
  return rows_of(all, e * rows, rows);
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
  Rows x(count, hidden), pre(count, 2 * a.ffn), act(count, a.ffn), out(count, hidden);
  gather(a, a.x, begin, x.matrix);
  matmul({.a = x.matrix,
          .b = slice(a.gate_up, a.x.dtype, e, 2 * a.ffn, hidden),
          .c = pre.matrix,
          .transpose_b = true,
          .residual = {}},
         stream);
  for (std::int64_t r = 0; r < count; ++r) {
    if (a.wants_pre_activation)
      for (std::int64_t j = 0; j < 2 * a.ffn; ++j)
        store(a.pre_activation, a.x.dtype, (begin + r) * 2 * a.ffn + j, load(pre.matrix, r, j));
    for (std::int64_t j = 0; j < a.ffn; ++j) {
      const double g = load(pre.matrix, r, j);
      store(act.matrix, r, j,
            a.weights[a.permutation[begin + r]] * g * sigmoid(g) * load(pre.matrix, r, a.ffn + j));
    }
  }
  matmul({.a = act.matrix,
          .b = slice(a.down, a.x.dtype, e, hidden, a.ffn),
          .c = out.matrix,
          .transpose_b = true,
          .residual = {}},
         stream);
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
void activation_grad(const ExpertsGradArgs& g, std::int64_t begin, const Matrix& dact, const Matrix& dpre,
                     const Matrix& act) {
  const ExpertsArgs& a = g.forward;
  for (std::int64_t r = 0; r < dact.rows; ++r) {
    const std::int64_t pair = a.permutation[begin + r];
    const double weight = a.weights[pair];
    double dweight = 0;
    for (std::int64_t j = 0; j < a.ffn; ++j) {
      const double gate = load(a.pre_activation, a.x.dtype, (begin + r) * 2 * a.ffn + j);
      const double up = load(a.pre_activation, a.x.dtype, (begin + r) * 2 * a.ffn + a.ffn + j);
      const double s = sigmoid(gate), d = load(dact, r, j);
      dweight += d * gate * s * up;
      store(act, r, j, weight * gate * s * up);
      store(dpre, r, j, weight * d * up * s * (1 + gate * (1 - s)));
      store(dpre, r, a.ffn + j, weight * d * gate * s);
    }
    if (g.wants_dweights) g.dweights[pair] = static_cast<float>(dweight);
  }
}

void backward_expert(const ExpertsGradArgs& g, std::int64_t e, std::vector<double>& dx, Stream& stream) {
  const ExpertsArgs& a = g.forward;
  const std::int64_t begin = a.offsets[e], count = a.offsets[e + 1] - begin, hidden = a.x.cols;
  Rows dy(count, hidden), dact(count, a.ffn), dpre(count, 2 * a.ffn), act(count, a.ffn);
  gather(a, g.dy, begin, dy.matrix);
  matmul({.a = dy.matrix, .b = slice(a.down, a.x.dtype, e, hidden, a.ffn), .c = dact.matrix, .residual = {}},
         stream);
  activation_grad(g, begin, dact.matrix, dpre.matrix, act.matrix);
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
            .c = slice(g.dgate_up, g.dgate_up_dtype, e, 2 * a.ffn, hidden),
            .transpose_a = true,
            .residual = {},
            .accumulate = g.accumulate_dgate_up},
           stream);
  }
  if (g.dx.given()) {
    Rows drow(count, hidden);
    matmul({.a = dpre.matrix,
            .b = slice(a.gate_up, a.x.dtype, e, 2 * a.ffn, hidden),
            .c = drow.matrix,
            .residual = {}},
           stream);
    scatter_add(a, begin, drow.matrix, dx);
  }
}

}  // namespace

void experts_grad(const ExpertsGradArgs& g, Stream& stream) {
  const Matrix& x = g.forward.x;
  std::vector<double> dx(g.dx.given() ? static_cast<std::size_t>(x.rows * x.cols) : 0);
  for (std::int64_t e = 0; e < g.forward.experts; ++e) backward_expert(g, e, dx, stream);
  if (!g.dx.given()) return;
  parallel_for(stream, x.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < x.cols; ++j)
      put(g.dx, i, j, dx[static_cast<std::size_t>(i * x.cols + j)], g.accumulate_dx);
  });
}

}  // namespace hone::kernels::reference
