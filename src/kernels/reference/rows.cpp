// Reference: element by element — activations, gates, copies, clamps.
#include <algorithm>
#include <cmath>

#include "kernels/reference/activation.h"
#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

void activation(const ActivationArgs& a, Stream& stream) {
  parallel_for(stream, a.y.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.y.cols; ++j)
      store(a.y, i, j, activated(a, load(a.gate, i, j), a.up.given() ? load(a.up, i, j) : 1).value);
  });
}

void activation_grad(const ActivationGradArgs& a, Stream& stream) {
  parallel_for(stream, a.dy.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.dy.cols; ++j) {
      const Activated at = activated(a, load(a.gate, i, j), a.up.given() ? load(a.up, i, j) : 1);
      const double dy = load(a.dy, i, j);
      if (a.dgate.given()) store(a.dgate, i, j, dy * at.of_gate);
      if (a.dup.given()) store(a.dup, i, j, dy * at.of_up);
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
    const double gate = load(a.gate, i, 0), s = sigmoid(gate);
    double dot = 0;
    for (std::int64_t j = 0; j < a.dy.cols; ++j) {
      const double dy = load(a.dy, i, j);
      dot += dy * load(a.x, i, j);
      if (a.dx.given()) put(a.dx, i, j, s * dy, a.accumulate_dx);
    }
    if (a.dgate.given()) store(a.dgate, i, 0, dot * s * sigmoid(-gate));
  });
}

void copy(const CopyArgs& a, Stream& stream) {
  parallel_for(stream, a.y.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.y.cols; ++j)
      put(a.y, i, j, static_cast<double>(a.alpha) * load(a.x, i, j), a.accumulate);
  });
}

void clamp(const ClampArgs& a, Stream& stream) {
  parallel_for(stream, a.y.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.y.cols; ++j) {
      const float x = load(a.x, i, j);
      put(a.y, i, j, std::isnan(x) ? x : std::clamp(x, -a.limit, a.limit), a.accumulate);
    }
  });
}

void clamp_grad(const ClampGradArgs& a, Stream& stream) {
  parallel_for(stream, a.dy.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.dy.cols; ++j)
      put(a.dx, i, j, std::fabs(load(a.x, i, j)) <= a.limit ? load(a.dy, i, j) : 0.0F, a.accumulate);
  });
}

}  // namespace hone::kernels::reference
