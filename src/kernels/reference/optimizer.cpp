// Reference: gradient norm, AdamW, SGD.
#include <cmath>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

void sum_of_squares(const SumOfSquaresArgs& a, Stream&) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.n; ++i) {
    const double x = load(a.x, a.dtype, i);
    sum += x * x;
  }
  a.scalars->sum_of_squares += sum;
}

void finish_norm(const FinishNormArgs& a, Stream&) {
  StepScalars& s = *a.scalars;
  s.grad_norm = static_cast<float>(std::sqrt(s.sum_of_squares));
  const bool finite = std::isfinite(s.grad_norm) && (!a.has_loss || std::isfinite(*a.loss));
  s.skip = finite ? 0 : 1;
  s.clip_factor = 1;
  if (a.max_norm > 0 && s.skip == 0 && a.max_norm < s.grad_norm + 1e-6F)
    s.clip_factor = a.max_norm / (s.grad_norm + 1e-6F);
}

void adamw(const AdamWArgs& a, Stream& stream) {
  const StepScalars& s = *a.scalars;
  if (s.skip != 0) return;
  const double beta1 = a.beta1, beta2 = a.beta2, rate = a.rate_scale * s.learning_rate;
  parallel_for(stream, a.n, [&](std::int64_t i) {
    const double grad = static_cast<double>(load(a.grad, a.grad_dtype, i)) * s.clip_factor;
    const double avg = beta1 * a.exp_avg[i] + (1 - beta1) * grad;
    const double avg_sq = beta2 * a.exp_avg_sq[i] + (1 - beta2) * grad * grad;
    const double denominator = std::sqrt(avg_sq) / std::sqrt(static_cast<double>(s.bias_correction2)) + a.eps;
    const double decayed = a.master[i] * (1 - rate * a.weight_decay);
    a.exp_avg[i] = static_cast<float>(avg);
    a.exp_avg_sq[i] = static_cast<float>(avg_sq);
    a.master[i] = static_cast<float>(decayed - rate / s.bias_correction1 * avg / denominator);
    if (a.has_weight) store(a.weight, DType::kBF16, i, a.master[i]);
  });
}

void sgd(const SgdArgs& a, Stream& stream) {
  const StepScalars& s = *a.scalars;
  if (s.skip != 0) return;
  parallel_for(stream, a.n, [&](std::int64_t i) {
    double step = static_cast<double>(load(a.grad, a.grad_dtype, i)) * s.clip_factor +
                  static_cast<double>(a.weight_decay) * a.master[i];
    if (a.momentum != 0) {
      if (!a.first) step += static_cast<double>(a.momentum) * a.momentum_buffer[i];
      a.momentum_buffer[i] = static_cast<float>(step);
    }
    a.master[i] = static_cast<float>(a.master[i] - a.rate_scale * s.learning_rate * step);
    if (a.has_weight) store(a.weight, DType::kBF16, i, a.master[i]);
  });
}

}  // namespace hone::kernels::reference
