// Reference: language-model head and cross-entropy.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

namespace {

/// Turns one row of logits into its gradient and returns the row's loss.
double softmax_row(float* logits, std::int64_t vocab, std::int32_t target, double scale) {
  const double largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (std::int64_t j = 0; j < vocab; ++j) sum += std::exp(logits[j] - largest);
  const double nll = largest + std::log(sum) - logits[target];
  for (std::int64_t j = 0; j < vocab; ++j)
    logits[j] = static_cast<float>(scale * (std::exp(logits[j] - largest) / sum - (j == target ? 1 : 0)));
  return nll;
}

}  // namespace

void linear_cross_entropy(const LinearCrossEntropyArgs& a, Stream& stream) {
  constexpr std::int64_t kChunk = 256;
  const std::int64_t rows = a.hidden.rows, vocab = a.weight.rows;
  const auto weight = [&](std::int64_t row) { return a.has_weights ? double{a.weights[row]} : 1.0; };
  std::vector<float> logits(static_cast<std::size_t>(std::min(rows, kChunk) * vocab));
  if (a.wants_dweight && rows == 0 && !a.accumulate_dweight)
    for (std::int64_t i = 0; i < vocab * a.weight.cols; ++i) store(a.dweight, a.dweight_dtype, i, 0);
  // The sum over chunks is kept in double and rounded once.
  std::vector<double> sums(a.wants_dweight && rows > 0 ? static_cast<std::size_t>(vocab * a.weight.cols) : 0);
  std::vector<float> part(sums.size());
  for (std::int64_t begin = 0; begin < rows; begin += kChunk) {
    const std::int64_t count = std::min(kChunk, rows - begin);
    const Matrix chunk{logits.data(), DType::kF32, count, vocab, vocab};
    const Matrix hidden = rows_of(a.hidden, begin, count);
    matmul({.a = hidden, .b = a.weight, .c = chunk, .transpose_b = true, .residual = {}}, stream);
    parallel_for(stream, count, [&](std::int64_t i) {
      float* row = logits.data() + i * vocab;
      for (std::int64_t j = 0; j < vocab; ++j) row[j] *= a.logit_scale;
      const double scale = double{a.scale} * a.logit_scale * weight(begin + i);
      a.nll[begin + i] = static_cast<float>(softmax_row(row, vocab, a.targets[begin + i], scale));
    });
    if (a.dhidden.given())
      matmul({.a = chunk, .b = a.weight, .c = rows_of(a.dhidden, begin, count), .residual = {}}, stream);
    if (!a.wants_dweight) continue;
    matmul({.a = chunk,
            .b = hidden,
            .c = {part.data(), DType::kF32, vocab, a.weight.cols, a.weight.cols},
            .transpose_a = true,
            .residual = {}},
           stream);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += part[i];
  }
  parallel_for(stream, static_cast<std::int64_t>(sums.size()), [&](std::int64_t i) {
    put(a.dweight, a.dweight_dtype, i, sums[static_cast<std::size_t>(i)], a.accumulate_dweight);
  });
  double loss = 0;
  for (std::int64_t i = 0; i < rows; ++i) loss += weight(i) * a.nll[i];
  a.loss[0] = static_cast<float>(loss * a.scale);
}

}  // namespace hone::kernels::reference
