// What each kernel costs. Floating-point operations: a multiply-add is two; transcendental functions and
// divisions are one each (they never decide). Bytes: every operand read once and every result written once,
// accumulated results also read: the least a kernel can move when nothing is in a cache. On the meta device
// every pointer is null, so what is absent is told by its shape, never by its pointer; a vector whose
// presence only a pointer tells (bias, bf16 copy of a master weight) is then left out.
#include "kernels/kernels.h"

namespace hone::kernels {

namespace {

double real(std::int64_t n) {
  return static_cast<double>(n);
}
double bytes_of(DType dtype) {
  return dtype == DType::kBF16 ? 2 : 4;
}
double elements(const Matrix& m) {
  return real(m.rows) * real(m.cols);
}
double bytes(const Matrix& m) {
  return elements(m) * bytes_of(m.dtype);
}
/// A result that is only written, or read as well when accumulating.
double written(double size, bool accumulate) {
  return accumulate ? 2 * size : size;
}

double expert_flops(const ExpertsArgs& a) {
  return 6 * real(a.x.rows) * real(a.top_k) * real(a.ffn) * real(a.x.cols);  // gate, up and down
}
double expert_weight_elements(const ExpertsArgs& a) {
  return 3 * real(a.experts) * real(a.ffn) * real(a.x.cols);
}
double pre_activation_bytes(const ExpertsArgs& a) {
  return real(a.x.rows) * real(a.top_k) * 2 * real(a.ffn) * bytes_of(a.x.dtype);
}
double plan_bytes(const ExpertsArgs& a) {
  return real(a.x.rows) * real(a.top_k) * 12;  // weight, permutation, inverse
}

}  // namespace

std::int64_t attended_pairs(std::int64_t queries, std::int64_t keys, std::int64_t window) {
  const std::int64_t first = keys - queries + 1;  // keys that the first query could see
  if (window <= 0 || window >= keys) return queries * (first + keys) / 2;
  if (window <= first) return queries * window;
  const std::int64_t growing = window - first + 1;  // queries that see less than the window, and one more
  return growing * (first + window) / 2 + (queries - growing) * window;
}

Cost cost(const MatmulArgs& a) {
  const double k = real(a.transpose_a ? a.a.rows : a.a.cols);
  const double bias = a.bias != nullptr ? real(a.c.cols) * bytes_of(a.a.dtype) : 0;
  return {2 * elements(a.c) * k,
          bytes(a.a) + bytes(a.b) + bias + bytes(a.residual) + written(bytes(a.c), a.accumulate), a.a.dtype};
}

Cost cost(const EmbeddingArgs& a) {
  return {0, real(a.rows) * (real(a.hidden) * (bytes_of(a.dtype) + bytes_of(a.out_dtype)) + 4)};
}

Cost cost(const EmbeddingGradArgs& a) {
  const double table = real(a.vocab) * real(a.hidden) * bytes_of(a.dtable_dtype);
  const double rows = real(a.rows) * real(a.hidden);
  const double touched = a.accumulate ? 2 * rows * bytes_of(a.dtable_dtype) : table;
  return {rows, rows * bytes_of(a.dout_dtype) + real(a.rows) * 4 + touched};
}

Cost cost(const RmsNormArgs& a) {
  return {4 * elements(a.x), bytes(a.x) + bytes(a.y) + real(a.x.rows) * 4};
}

Cost cost(const RmsNormGradArgs& a) {
  return {10 * elements(a.x),
          bytes(a.dy) + bytes(a.x) + written(bytes(a.dx), a.accumulate_dx) + real(a.x.rows) * 4};
}

Cost cost(const HeadNormRopeArgs& a) {
  return {10 * elements(a.x), bytes(a.x) + bytes(a.y)};
}

Cost cost(const HeadNormRopeGradArgs& a) {
  const double x = a.x.rows > 0 ? bytes(a.x) : 0;
  return {18 * elements(a.dy), bytes(a.dy) + x + written(bytes(a.dx), a.accumulate_dx)};
}

Cost cost(const AttentionArgs& a) {
  const double pairs = real(a.pairs) * real(a.heads);
  return {(4 * real(a.head_dim) + 5) * pairs,
          bytes(a.q) + bytes(a.k) + bytes(a.v) + bytes(a.out) + real(a.q.rows * a.heads) * 4, a.q.dtype};
}

Cost cost(const AttentionGradArgs& a) {
  const AttentionArgs& f = a.forward;
  const double pairs = real(f.pairs) * real(f.heads);
  return {(10 * real(f.head_dim) + 10) * pairs,
          cost(f).bytes + bytes(a.dout) + bytes(a.dq) + bytes(a.dk) + bytes(a.dv), f.q.dtype};
}

Cost cost(const SiluMulArgs& a) {
  return {5 * elements(a.y), bytes(a.gate) + bytes(a.up) + bytes(a.y)};
}

Cost cost(const SiluMulGradArgs& a) {
  return {12 * elements(a.dy), bytes(a.gate) + bytes(a.up) + bytes(a.dy) + bytes(a.dgate) + bytes(a.dup)};
}

Cost cost(const RowGateArgs& a) {
  return {2 * elements(a.y), bytes(a.x) + bytes(a.y) + bytes(a.residual)};
}

Cost cost(const RowGateGradArgs& a) {
  return {4 * elements(a.dy), bytes(a.dy) + bytes(a.x) + written(bytes(a.dx), a.accumulate_dx)};
}

Cost cost(const CopyArgs& a) {
  return {elements(a.y), bytes(a.x) + written(bytes(a.y), a.accumulate)};
}

Cost cost(const ClampGradArgs& a) {
  return {elements(a.dy), bytes(a.dy) + bytes(a.x) + written(bytes(a.dx), a.accumulate)};
}

Cost cost(const TakeRowsArgs& a) {
  return {0, elements(a.y) * bytes_of(a.x.dtype) + bytes(a.y)};
}

Cost cost(const PutRowsArgs& a) {
  const double result = a.accumulate ? 2 * elements(a.dy) * bytes_of(a.dx.dtype) : bytes(a.dx);
  return {elements(a.dy), bytes(a.dy) + result};
}

Cost cost(const ColumnSumArgs& a) {
  return {elements(a.x), bytes(a.x)};
}

Cost cost(const RouterArgs& a) {
  const double all = real(a.tokens) * real(a.experts);
  return {4 * all, all * 8 + real(a.tokens * a.top_k) * 8};
}

Cost cost(const RouterGradArgs& a) {
  const double all = real(a.tokens) * real(a.experts);
  return {4 * all, all * (4 + bytes_of(a.dlogits_dtype)) + real(a.tokens * a.top_k) * 12};
}

Cost cost(const MoePlanArgs& a) {
  return {0, real(a.tokens * a.top_k) * 16};
}

Cost cost(const ExpertsArgs& a) {
  return {expert_flops(a),
          bytes(a.x) + expert_weight_elements(a) * bytes_of(a.x.dtype) + plan_bytes(a) +
              pre_activation_bytes(a) + bytes(a.residual) + bytes(a.y),
          a.x.dtype};
}

Cost cost(const ExpertsGradArgs& a) {
  const ExpertsArgs& f = a.forward;
  const double weights = expert_weight_elements(f);
  const double gradients = written(weights * 2 / 3 * bytes_of(a.dgate_up_dtype), a.accumulate_dgate_up) +
                           written(weights / 3 * bytes_of(a.ddown_dtype), a.accumulate_ddown);
  return {2 * expert_flops(f),
          bytes(f.x) + bytes(a.dy) + weights * bytes_of(f.x.dtype) + gradients + plan_bytes(f) +
              pre_activation_bytes(f) + written(bytes(a.dx), a.accumulate_dx),
          f.x.dtype};
}

Cost cost(const LoadBalancingArgs& a) {
  return {3 * real(a.layers * a.experts), real(a.layers * a.experts) * 8};
}

Cost cost(const LinearCrossEntropyArgs& a) {
  const double product = 2 * real(a.hidden.rows) * elements(a.weight);
  const bool hidden_grad = a.dhidden.rows > 0;
  const bool weight_grad = a.dweight != nullptr || a.counts_dweight;
  return {
      product * (1 + (hidden_grad ? 1 : 0) + (weight_grad ? 1 : 0)),
      bytes(a.hidden) + bytes(a.weight) * (hidden_grad ? 2 : 1) + bytes(a.dhidden) +
          (weight_grad ? written(elements(a.weight) * bytes_of(a.dweight_dtype), a.accumulate_dweight) : 0),
      a.hidden.dtype};
}

Cost cost(const SumOfSquaresArgs& a) {
  return {2 * real(a.n), real(a.n) * bytes_of(a.dtype)};
}

Cost cost(const FinishNormArgs&) {
  return {};
}

Cost cost(const AdamWArgs& a) {
  // master and both moments are read and written; the gradient is read; a bf16 copy is written
  return {12 * real(a.n), real(a.n) * (24 + bytes_of(a.grad_dtype) + (a.weight != nullptr ? 2 : 0))};
}

Cost cost(const SgdArgs& a) {
  const double buffer = a.momentum != 0 ? (a.first ? 4 : 8) : 0;
  return {4 * real(a.n), real(a.n) * (8 + bytes_of(a.grad_dtype) + buffer + (a.weight != nullptr ? 2 : 0))};
}

}  // namespace hone::kernels
