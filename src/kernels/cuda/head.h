// The language-model head's kernels with other limits than the table's, which tests give so that small
// operands are cut into many pieces.
#pragma once

#include "kernels/cuda/cuts.h"

namespace hone::kernels::cuda {

void linear_cross_entropy(const LinearCrossEntropyArgs& a, Stream& stream, const HeadLimits& limits);
void head_statistics(const HeadStatisticsArgs& a, Stream& stream, const HeadLimits& limits);
void head_grad(const HeadGradArgs& a, Stream& stream, const HeadLimits& limits);

std::int64_t scratch_bytes_of(const LinearCrossEntropyArgs& a, const HeadLimits& limits);
std::int64_t scratch_bytes_of(const HeadStatisticsArgs& a, const HeadLimits& limits);
std::int64_t scratch_bytes_of(const HeadGradArgs& a, const HeadLimits& limits);

}  // namespace hone::kernels::cuda
