// Reference: RMS norm, and the norm of heads with rotary position embedding.
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

namespace {

/// What a norm multiplies element j by.
template <typename Args>
double norm_weight(const Args& a, std::int64_t j) {
  return (a.unit_offset ? 1.0 : 0.0) + static_cast<double>(load(a.weight, a.weight_dtype, j));
}

}  // namespace

void rms_norm(const RmsNormArgs& a, Stream& stream) {
  parallel_for(stream, a.x.rows, [&](std::int64_t i) {
    double squares = 0;
    for (std::int64_t j = 0; j < a.x.cols; ++j)
      squares += static_cast<double>(load(a.x, i, j)) * load(a.x, i, j);
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(a.x.cols) + a.eps);
    if (a.wants_rstd) a.rstd[i] = static_cast<float>(rstd);
    for (std::int64_t j = 0; j < a.x.cols; ++j)
      store(a.y, i, j,
            (a.residual.given() ? load(a.residual, i, j) : 0) + load(a.x, i, j) * rstd * norm_weight(a, j));
  });
}

void rms_norm_grad(const RmsNormGradArgs& a, Stream& stream) {
  const std::int64_t rows = a.x.rows, cols = a.x.cols;
  // With n = x * rstd and y = n * weight: dx = rstd * (weight * dy - n * mean(n * weight * dy)).
  if (a.dx.given())
    parallel_for(stream, rows, [&](std::int64_t i) {
      const double rstd = a.rstd[i];
      double mean = 0;
      for (std::int64_t j = 0; j < cols; ++j)
        mean += load(a.x, i, j) * rstd * norm_weight(a, j) * load(a.dy, i, j);
      mean /= static_cast<double>(cols);
      for (std::int64_t j = 0; j < cols; ++j) {
        const double dn = norm_weight(a, j) * load(a.dy, i, j);
        put(a.dx, i, j, rstd * (dn - load(a.x, i, j) * rstd * mean), a.accumulate_dx);
      }
    });
  if (a.wants_dweight)
    parallel_for(stream, cols, [&](std::int64_t j) {
      double sum = 0;
      for (std::int64_t i = 0; i < rows; ++i)
        sum += static_cast<double>(load(a.x, i, j)) * a.rstd[i] * load(a.dy, i, j);
      put(a.dweight, a.dweight_dtype, j, sum, a.accumulate_dweight);
    });
}

namespace {

/// The elements of a head that pair i turns together.
template <typename Args>
std::pair<std::int64_t, std::int64_t> pair_at(const Args& a, std::int64_t i) {
  if (a.interleaved) return {a.rotary_begin + 2 * i, a.rotary_begin + 2 * i + 1};
  return {a.rotary_begin + i, a.rotary_begin + a.rotary_dim / 2 + i};
}
template <typename Args>
bool is_turned(const Args& a, std::int64_t j) {
  return j >= a.rotary_begin && j < a.rotary_begin + a.rotary_dim;
}

}  // namespace

void head_norm_rope(const HeadNormRopeArgs& a, Stream& stream) {
  const std::int64_t half = a.rotary_dim / 2;
  parallel_for(stream, a.x.rows, [&](std::int64_t t) {
    std::vector<double> n(static_cast<std::size_t>(a.head_dim));
    const float* cos = a.cos + a.positions[t] * half;
    const float* sin = a.sin + a.positions[t] * half;
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t begin = h * a.head_dim;
      double squares = 0;
      for (std::int64_t j = 0; j < a.head_dim; ++j) {
        const double x = n[static_cast<std::size_t>(j)] = load(a.x, t, begin + j);
        squares += x * x;
      }
      if (a.has_weight) {
        const double rstd = 1 / std::sqrt(squares / static_cast<double>(a.head_dim) + a.eps);
        for (std::int64_t j = 0; j < a.head_dim; ++j)
          n[static_cast<std::size_t>(j)] *= rstd * norm_weight(a, j);
      }
      for (std::int64_t i = 0; i < half; ++i) {
        const auto [j1, j2] = pair_at(a, i);
        const double x1 = n[static_cast<std::size_t>(j1)], x2 = n[static_cast<std::size_t>(j2)];
        store(a.y, t, begin + j1, x1 * cos[i] - x2 * sin[i]);
        store(a.y, t, begin + j2, x2 * cos[i] + x1 * sin[i]);
      }
      for (std::int64_t j = 0; j < a.head_dim; ++j)
        if (!is_turned(a, j)) store(a.y, t, begin + j, n[static_cast<std::size_t>(j)]);
    }
  });
}

namespace {

/// The gradient before the rotation: the rotation's transpose applied to one head of dy.
void unrotate(const HeadNormRopeGradArgs& a, std::int64_t token, std::int64_t head, std::vector<double>& dn) {
  const std::int64_t half = a.rotary_dim / 2, begin = head * a.head_dim;
  const float* cos = a.cos + a.positions[token] * half;
  const float* sin = a.sin + a.positions[token] * half;
  for (std::int64_t i = 0; i < half; ++i) {
    const auto [j1, j2] = pair_at(a, i);
    const double d1 = load(a.dy, token, begin + j1), d2 = load(a.dy, token, begin + j2);
    dn[static_cast<std::size_t>(j1)] = d1 * cos[i] + d2 * sin[i];
    dn[static_cast<std::size_t>(j2)] = d2 * cos[i] - d1 * sin[i];
  }
  for (std::int64_t j = 0; j < a.head_dim; ++j)
    if (!is_turned(a, j)) dn[static_cast<std::size_t>(j)] = load(a.dy, token, begin + j);
}

double head_rstd(const HeadNormRopeGradArgs& a, std::int64_t token, std::int64_t head) {
  double squares = 0;
  for (std::int64_t j = 0; j < a.head_dim; ++j) {
    const double x = load(a.x, token, head * a.head_dim + j);
    squares += x * x;
  }
  return 1 / std::sqrt(squares / static_cast<double>(a.head_dim) + a.eps);
}

/// Sums over tokens and heads in order; called before dx is written, which may lie where dy does.
void head_weight_grad(const HeadNormRopeGradArgs& a) {
  std::vector<double> sum(static_cast<std::size_t>(a.head_dim)), dn(static_cast<std::size_t>(a.head_dim));
  for (std::int64_t t = 0; t < a.dy.rows; ++t)
    for (std::int64_t h = 0; h < a.heads; ++h) {
      unrotate(a, t, h, dn);
      const double rstd = head_rstd(a, t, h);
      for (std::int64_t j = 0; j < a.head_dim; ++j)
        sum[static_cast<std::size_t>(j)] +=
            dn[static_cast<std::size_t>(j)] * load(a.x, t, h * a.head_dim + j) * rstd;
    }
  for (std::int64_t j = 0; j < a.head_dim; ++j)
    put(a.dweight, a.dweight_dtype, j, sum[static_cast<std::size_t>(j)], a.accumulate_dweight);
}

}  // namespace

void head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream) {
  if (a.wants_dweight) head_weight_grad(a);
  if (!a.dx.given()) return;
  parallel_for(stream, a.dy.rows, [&](std::int64_t t) {
    std::vector<double> dn(static_cast<std::size_t>(a.head_dim));
    for (std::int64_t h = 0; h < a.heads; ++h) {
      unrotate(a, t, h, dn);
      double rstd = 1, mean = 0;
      if (a.has_weight) {
        rstd = head_rstd(a, t, h);
        for (std::int64_t j = 0; j < a.head_dim; ++j) {
          dn[static_cast<std::size_t>(j)] *= norm_weight(a, j);
          mean += dn[static_cast<std::size_t>(j)] * load(a.x, t, h * a.head_dim + j) * rstd;
        }
        mean /= static_cast<double>(a.head_dim);
      }
      for (std::int64_t j = 0; j < a.head_dim; ++j) {
        double dx = dn[static_cast<std::size_t>(j)];
        if (a.has_weight) dx = rstd * (dx - load(a.x, t, h * a.head_dim + j) * rstd * mean);
        put(a.dx, t, h * a.head_dim + j, dx, a.accumulate_dx);
      }
    }
  });
}

}  // namespace hone::kernels::reference
