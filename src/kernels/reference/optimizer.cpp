// Reference: gradient norm, AdamW, SGD.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "kernels/moments.h"
#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

void sum_of_squares(const SumOfSquaresArgs& a, Stream&) {
  double sum = 0;
  for (std::int64_t i = 0; a.has_parts && i < a.num_parts; ++i) sum += a.parts[i];
  for (std::int64_t i = 0; !a.has_parts && i < a.n; ++i) {
    const double x = load(a.x, a.dtype, i);
    sum += x * x;
  }
  a.scalars->sum_of_squares += sum;
  if (!std::isfinite(sum) && a.scalars->nonfinite == 0) a.scalars->nonfinite = a.index + 1;
}

void finish_norm(const FinishNormArgs& a, Stream&) {
  StepScalars& s = *a.scalars;
  s.grad_norm = static_cast<float>(std::sqrt(s.sum_of_squares));
  const bool finite = std::isfinite(s.grad_norm) && (!a.has_loss || std::isfinite(*a.loss));
  s.skip = finite ? 0 : 1;
  s.clip_factor = 1;
  const float norm = a.by_clip_norm ? s.clip_norm : s.grad_norm;
  if (a.max_norm > 0 && s.skip == 0 && a.max_norm < norm + 1e-6F) s.clip_factor = a.max_norm / (norm + 1e-6F);
}

void next_step(const NextStepArgs& a, Stream&) {
  const StepScalars before = *a.scalars;
  *a.scalars = a.next[before.skip == 0 ? 0 : 1];
  if (before.skip == 0) a.scalars->clip_norm = before.grad_norm;
}

namespace {

/// Masters of f32, or of bf16 that are rounded at random.
class Masters {
 public:
  template <typename Args>
  Masters(const Args& a)
      : data_(a.master),
        dtype_(a.master_dtype),
        key_(rounding_key(a.rounding_seed, a.scalars->step)),
        first_(a.first_index) {}
  float load(std::int64_t i) const { return reference::load(data_, dtype_, i); }
  void store(std::int64_t i, double value) const {
    const auto f = static_cast<float>(value);
    if (dtype_ == DType::kF32)
      static_cast<float*>(data_)[i] = f;
    else
      static_cast<std::uint16_t*>(data_)[i] =
          round_at_random(std::bit_cast<std::uint32_t>(f), rounding_bits(key_, first_ + i));
  }

 private:
  void* data_;
  DType dtype_;
  std::uint32_t key_;
  std::int64_t first_;
};

/// A block of AdamW's moments as numbers: from memory when made, back to it by store().
struct Moments {
  Moments(const AdamWArgs& args, std::int64_t block)
      : a(args), begin(block * kMomentBlock), count(std::min(kMomentBlock, a.n - begin)), index(block) {
    for (std::int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (a.moments == MomentKind::kF32) {
        avg[at] = static_cast<const float*>(a.exp_avg)[begin + i];
        avg_sq[at] = static_cast<const float*>(a.exp_avg_sq)[begin + i];
      } else {
        avg[at] = a.exp_avg_scales[index] *
                  first_moment(kMomentLevels, static_cast<const std::uint8_t*>(a.exp_avg)[begin + i]);
        avg_sq[at] = a.exp_avg_sq_scales[index] *
                     kMomentLevels.second[static_cast<const std::uint8_t*>(a.exp_avg_sq)[begin + i]];
      }
    }
  }
  void store() const {
    float largest = 0, largest_sq = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      largest = std::max(largest, std::fabs(avg[i]));
      largest_sq = std::max(largest_sq, avg_sq[i]);
    }
    const float scale = moment_scale(largest), scale_sq = moment_scale(largest_sq);
    if (a.moments == MomentKind::kDynamic8) {
      a.exp_avg_scales[index] = scale;
      a.exp_avg_sq_scales[index] = scale_sq;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (a.moments == MomentKind::kF32) {
        static_cast<float*>(a.exp_avg)[begin + i] = avg[at];
        static_cast<float*>(a.exp_avg_sq)[begin + i] = avg_sq[at];
      } else {
        static_cast<std::uint8_t*>(a.exp_avg)[begin + i] =
            first_moment_code(std::clamp(avg[at] * (1 / scale), -1.0F, 1.0F));
        static_cast<std::uint8_t*>(a.exp_avg_sq)[begin + i] =
            second_moment_code(std::min(avg_sq[at] * (1 / scale_sq), 1.0F));
      }
    }
  }

  const AdamWArgs& a;
  std::int64_t begin, count, index;
  std::array<float, kMomentBlock> avg{}, avg_sq{};
};

}  // namespace

void adamw(const AdamWArgs& a, Stream& stream) {
  const StepScalars& s = *a.scalars;
  if (s.skip != 0) return;
  const double beta1 = a.beta1, beta2 = a.beta2, rate = a.rate_scale * s.learning_rate;
  const Masters masters(a);
  parallel_for(stream, (a.n + kMomentBlock - 1) / kMomentBlock, [&](std::int64_t block) {
    Moments moments(a, block);
    for (std::int64_t j = 0; j < moments.count; ++j) {
      const std::int64_t i = moments.begin + j;
      const auto at = static_cast<std::size_t>(j);
      const double grad = static_cast<double>(load(a.grad, a.grad_dtype, i)) * s.clip_factor;
      const double avg = beta1 * moments.avg[at] + (1 - beta1) * grad;
      const double avg_sq = beta2 * moments.avg_sq[at] + (1 - beta2) * grad * grad;
      const double denominator =
          std::sqrt(avg_sq) / std::sqrt(static_cast<double>(s.bias_correction2)) + a.eps;
      const double decayed = masters.load(i) * (1 - rate * a.weight_decay);
      moments.avg[at] = static_cast<float>(avg);
      moments.avg_sq[at] = static_cast<float>(avg_sq);
      masters.store(i, decayed - rate / s.bias_correction1 * avg / denominator);
      if (a.has_weight) store(a.weight, DType::kBF16, i, masters.load(i));
    }
    moments.store();
  });
}

void sgd(const SgdArgs& a, Stream& stream) {
  const StepScalars& s = *a.scalars;
  if (s.skip != 0) return;
  const Masters masters(a);
  parallel_for(stream, a.n, [&](std::int64_t i) {
    double step = static_cast<double>(load(a.grad, a.grad_dtype, i)) * s.clip_factor +
                  static_cast<double>(a.weight_decay) * masters.load(i);
    if (a.momentum != 0) {
      if (!a.first) step += static_cast<double>(a.momentum) * a.momentum_buffer[i];
      a.momentum_buffer[i] = static_cast<float>(step);
    }
    masters.store(i, masters.load(i) - a.rate_scale * s.learning_rate * step);
    if (a.has_weight) store(a.weight, DType::kBF16, i, masters.load(i));
  });
}

}  // namespace hone::kernels::reference
