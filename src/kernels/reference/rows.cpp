// Reference: element by element — SwiGLU, gates, copies, clamps.
#include <algorithm>
#include <cmath>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

void silu_mul(const SiluMulArgs& a, Stream& stream) {
  parallel_for(stream, a.y.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.y.cols; ++j) {
      const double g = load(a.gate, i, j);
      store(a.y, i, j, g * sigmoid(g) * load(a.up, i, j));
    }
  });
}

void silu_mul_grad(const SiluMulGradArgs& a, Stream& stream) {
  parallel_for(stream, a.dy.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.dy.cols; ++j) {
      const double g = load(a.gate, i, j), u = load(a.up, i, j), dy = load(a.dy, i, j);
      const double s = sigmoid(g);
      store(a.dgate, i, j, dy * u * s * (1 + g * (1 - s)));
      store(a.dup, i, j, dy * g * s);
    }
  });
}

void row_gate(const RowGateArgs& a, Stream& stream) {
  parallel_for(stream, a.y.rows, [&](std::int64_t i) {
    const double s = sigmoid(load(a.gate, i, 0));
    for (std::int64_t j = 0; j < a.y.cols; ++j) {
      const double residual = a.residual.given() ? load(a.residual, i, j) : 0;
      store(a.y, i, j, residual + s * load(a.x, i, j));
    }
  });
}

void row_gate_grad(const RowGateGradArgs& a, Stream& stream) {
  parallel_for(stream, a.dy.rows, [&](std::int64_t i) {
    const double s = sigmoid(load(a.gate, i, 0));
    double dot = 0;
    for (std::int64_t j = 0; j < a.dy.cols; ++j) {
      const double dy = load(a.dy, i, j);
      dot += dy * load(a.x, i, j);
      if (a.dx.given()) put(a.dx, i, j, s * dy, a.accumulate_dx);
    }
    if (a.dgate.given()) store(a.dgate, i, 0, dot * s * (1 - s));
  });
}

void copy(const CopyArgs& a, Stream& stream) {
  parallel_for(stream, a.y.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.y.cols; ++j) {
      const float x = load(a.x, i, j);
      if (a.clamp > 0)
        store(a.y, i, j, std::isnan(x) ? x : std::min(std::max(x, -a.clamp), a.clamp));
      else
        put(a.y, i, j, static_cast<double>(a.alpha) * x, a.accumulate);
    }
  });
}

void clamp_grad(const ClampGradArgs& a, Stream& stream) {
  parallel_for(stream, a.dy.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.dy.cols; ++j)
      put(a.dx, i, j, std::fabs(load(a.x, i, j)) <= a.clamp ? load(a.dy, i, j) : 0.0F, a.accumulate);
  });
}

}  // namespace hone::kernels::reference
