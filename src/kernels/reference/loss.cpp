// Reference: language-model head and cross-entropy.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

namespace {

double log_sum_exp(const std::vector<double>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

/// Turns a row of products into logits, calls row(logits), which turns them into their gradients, and these,
/// where a `gradient` is wanted, into those of the products.
template <typename Row>
void run_row(const HeadOperands& head, bool gradient, float* products, const Row& row) {
  const double scale = head.logit_scale, cap = head.softcap;
  std::vector<double> logits(products, products + head.weight.rows);
  for (double& logit : logits) {
    logit *= scale;
    if (cap > 0) logit = cap * std::tanh(logit / cap);
  }
  row(logits);
  for (std::size_t j = 0; gradient && j < logits.size(); ++j) {
    const double cosh = cap > 0 ? std::cosh(products[j] * scale / cap) : 1;
    products[j] = static_cast<float>(logits[j] * scale / (cosh * cosh));
  }
}

/// Runs chunks of rows; row(i, logits) is called for every row of hidden, in any order.
template <typename Row>
void run(const HeadOperands& head, const HeadGradients& to, Stream& stream, const Row& row) {
  constexpr std::int64_t kChunk = 256;
  const std::int64_t rows = head.hidden.rows, vocab = head.weight.rows, cols = head.weight.cols;
  std::vector<float> products(static_cast<std::size_t>(std::min(rows, kChunk) * vocab));
  if (to.wants_dweight && rows == 0 && !to.accumulate_dweight)
    for (std::int64_t i = 0; i < vocab * cols; ++i) store(to.dweight, to.dweight_dtype, i, 0);
  // The sum over chunks is kept in double and rounded once.
  std::vector<double> sums(to.wants_dweight && rows > 0 ? static_cast<std::size_t>(vocab * cols) : 0);
  std::vector<float> part(sums.size());
  for (std::int64_t begin = 0; begin < rows; begin += kChunk) {
    const std::int64_t count = std::min(kChunk, rows - begin);
    const Matrix chunk{products.data(), DType::kF32, count, vocab, vocab};
    const Matrix hidden = rows_of(head.hidden, begin, count);
    matmul({.a = hidden, .b = head.weight, .c = chunk, .transpose_b = true, .residual = {}}, stream);
    parallel_for(stream, count, [&](std::int64_t i) {
      run_row(head, to.wanted(), products.data() + i * vocab,
              [&](std::vector<double>& logits) { row(begin + i, logits); });
    });
    if (to.dhidden.given())
      matmul({.a = chunk, .b = head.weight, .c = rows_of(to.dhidden, begin, count), .residual = {}}, stream);
    if (!to.wants_dweight) continue;
    matmul({.a = chunk,
            .b = hidden,
            .c = {part.data(), DType::kF32, vocab, cols, cols},
            .transpose_a = true,
            .residual = {}},
           stream);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += part[i];
  }
  parallel_for(stream, static_cast<std::int64_t>(sums.size()), [&](std::int64_t i) {
    put(to.dweight, to.dweight_dtype, i, sums[static_cast<std::size_t>(i)], to.accumulate_dweight);
  });
}

/// The place of row i's target among the words of this head, or -1.
std::int64_t local_target(const HeadStatisticsArgs& a, std::int64_t i) {
  const std::int64_t at = a.targets[i] - a.vocab_begin;
  return at < a.head.weight.rows ? std::max<std::int64_t>(at, -1) : -1;
}

}  // namespace

void linear_cross_entropy(const LinearCrossEntropyArgs& a, Stream& stream) {
  const auto weight = [&](std::int64_t row) { return a.has_weights ? double{a.weights[row]} : 1.0; };
  run(a.head, a.gradients, stream, [&](std::int64_t i, std::vector<double>& logits) {
    const double lse = log_sum_exp(logits), scale = a.scale * weight(i);
    const auto target = static_cast<std::size_t>(a.targets[i]);
    a.nll[i] = static_cast<float>(lse - logits[target]);
    for (std::size_t j = 0; j < logits.size(); ++j)
      logits[j] = scale * (std::exp(logits[j] - lse) - (j == target ? 1 : 0));
  });
  double loss = 0;
  for (std::int64_t i = 0; i < a.head.hidden.rows; ++i) loss += weight(i) * a.nll[i];
  a.loss[0] = static_cast<float>(loss * a.scale);
}

void head_statistics(const HeadStatisticsArgs& a, Stream& stream) {
  run(a.head, {}, stream, [&](std::int64_t i, std::vector<double>& logits) {
    const std::int64_t target = local_target(a, i);
    a.lse[i] = static_cast<float>(log_sum_exp(logits));
    a.target_logit[i] = target < 0 ? 0 : static_cast<float>(logits[static_cast<std::size_t>(target)]);
  });
}

void head_grad(const HeadGradArgs& a, Stream& stream) {
  const HeadStatisticsArgs& f = a.forward;
  run(f.head, a.gradients, stream, [&](std::int64_t i, std::vector<double>& logits) {
    const std::int64_t target = local_target(f, i);
    const double dlse = a.has_dlse ? double{a.dlse[i]} : 0, lse = f.lse[i];
    for (double& logit : logits) logit = dlse * std::exp(logit - lse);
    if (target >= 0 && a.has_dtarget_logit)
      logits[static_cast<std::size_t>(target)] += double{a.dtarget_logit[i]};
  });
}

}  // namespace hone::kernels::reference
