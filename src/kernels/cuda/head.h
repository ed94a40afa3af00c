// The language-model head's kernels with other limits than the table's, which tests give so that small
// operands are cut into many pieces.
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels::cuda {

/// How much of the logits exists at once.
struct HeadLimits {
  /// Of f32 logits from which gradients are made. 640 MiB are 1,104 rows of Qwen 3's 151,936 words: the
  /// products' tiles are full, and a weight of 600 MB is read four times for 4,096 rows, in a tenth of the
  /// products' time.
  std::int64_t gradient_bytes = std::int64_t{640} << 20;
  /// Of logits that are only summed up: what stays in the L2 cache, or nearly.
  std::int64_t statistics_bytes = std::int64_t{64} << 20;
  /// Where fewer rows of all words than these fit gradient_bytes, words are cut as well, which makes the
  /// logits twice.
  std::int64_t least_rows = 256;
  /// Rows whose logits are summed up at once, and the fewest words of a range: products smaller than that
  /// would wait for launches.
  std::int64_t statistics_rows = 8192, least_words = 128;
};

void linear_cross_entropy(const LinearCrossEntropyArgs& a, Stream& stream, const HeadLimits& limits);
void head_statistics(const HeadStatisticsArgs& a, Stream& stream, const HeadLimits& limits);
void head_grad(const HeadGradArgs& a, Stream& stream, const HeadLimits& limits);

std::int64_t scratch_bytes_of(const LinearCrossEntropyArgs& a, const HeadLimits& limits);
std::int64_t scratch_bytes_of(const HeadStatisticsArgs& a, const HeadLimits& limits);
std::int64_t scratch_bytes_of(const HeadGradArgs& a, const HeadLimits& limits);

}  // namespace hone::kernels::cuda
