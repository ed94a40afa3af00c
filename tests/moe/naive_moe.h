// A mixture of experts as its definition reads: token by token, in double. The oracle of moe::experts.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace hone::test {

struct NaiveMoe {
  std::size_t tokens = 0, hidden = 0, ffn = 0, experts = 0, top_k = 0;
  std::vector<double> x, gate_up, down, weights, residual;  // as moe::experts takes them
  std::vector<std::int32_t> experts_of;

  // Results: the output, and for the gradient dy of it those of all inputs.
  std::vector<double> y, dx, dgate_up, ddown, dweights;

  void forward() {
    y = residual;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t s = 0; s < top_k; ++s) {
        const auto e = static_cast<std::size_t>(experts_of[t * top_k + s]);
        for (std::size_t f = 0; f < ffn; ++f) {
          const double g = gate(e, f, t);
          const double a = g / (1 + std::exp(-g)) * gate(e, ffn + f, t);
          for (std::size_t h = 0; h < hidden; ++h)
            y[t * hidden + h] += weights[t * top_k + s] * a * down[(e * hidden + h) * ffn + f];
        }
      }
    }
  }

  void backward(const std::vector<double>& dy) {
    dx.assign(x.size(), 0);
    dgate_up.assign(gate_up.size(), 0);
    ddown.assign(down.size(), 0);
    dweights.assign(weights.size(), 0);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t s = 0; s < top_k; ++s) {
        const auto e = static_cast<std::size_t>(experts_of[t * top_k + s]);
        const double w = weights[t * top_k + s];
        for (std::size_t f = 0; f < ffn; ++f) {
          const double g = gate(e, f, t);
          const double u = gate(e, ffn + f, t);
          const double sigmoid = 1 / (1 + std::exp(-g));
          const double a = g * sigmoid * u;
          double da = 0;  // of the activation, before the routing weight
          for (std::size_t h = 0; h < hidden; ++h) {
            da += dy[t * hidden + h] * down[(e * hidden + h) * ffn + f];
            ddown[(e * hidden + h) * ffn + f] += w * a * dy[t * hidden + h];
          }
          dweights[t * top_k + s] += da * a;
          add_row(e, f, t, w * da * u * sigmoid * (1 + g * (1 - sigmoid)));
          add_row(e, ffn + f, t, w * da * g * sigmoid);
        }
      }
    }
  }

 private:
  double gate(std::size_t e, std::size_t row, std::size_t t) const {
    double sum = 0;
    for (std::size_t h = 0; h < hidden; ++h)
      sum += gate_up[(e * 2 * ffn + row) * hidden + h] * x[t * hidden + h];
    return sum;
  }
  void add_row(std::size_t e, std::size_t row, std::size_t t, double d) {
    for (std::size_t h = 0; h < hidden; ++h) {
      dgate_up[(e * 2 * ffn + row) * hidden + h] += d * x[t * hidden + h];
      dx[t * hidden + h] += d * gate_up[(e * 2 * ffn + row) * hidden + h];
    }
  }
};

}  // namespace hone::test
