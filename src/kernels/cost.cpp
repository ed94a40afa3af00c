// What each kernel costs. Floating-point operations: a multiply-add is two; transcendental functions and
// divisions are one each (they never decide). Bytes: every operand read once and every result written once,
// accumulated results also read: the least a kernel can move when nothing is in a cache. What is not wanted
// costs nothing; nor does rounding operands to FP8, which are read once all the same.
#include "kernels/kernels.h"
#include "kernels/moments.h"
#include "kernels/sizes.h"

namespace hone::kernels {

namespace {

using sizes::bytes, sizes::bytes_of, sizes::elements, sizes::real, sizes::weight_bytes, sizes::written;

double lse_bytes(const AttentionArgs& a) {
  return real(a.q.rows) * real(a.heads) * 4;
}

/// Of the routed rows by one of an expert's matrices (gate, up, down), or of its gradient.
double expert_product_flops(const ExpertsArgs& a) {
  return 2 * real(a.x.rows) * real(a.top_k) * real(a.ffn) * real(a.x.cols);
}
/// Of one of them, of all experts.
double expert_matrix_elements(const ExpertsArgs& a) {
  return real(a.experts) * real(a.ffn) * real(a.x.cols);
}
double pre_activation_bytes(const ExpertsArgs& a) {
  return real(a.x.rows) * real(a.top_k) * real(a.inner()) * bytes_of(a.x.dtype);
}
double gate_up_bias_elements(const ExpertsArgs& a) {
  return real(a.experts) * real(a.inner());
}
double down_bias_elements(const ExpertsArgs& a) {
  return real(a.experts) * real(a.x.cols);
}
double plan_bytes(const ExpertsArgs& a) {
  return real(a.x.rows) * real(a.top_k) * 12;  // weight, permutation, inverse
}

/// Of the head: the logits, and the gradients that are wanted. row_bytes: what else is moved for each row.
Cost head_cost(const HeadOperands& head, const HeadGradients& to, double row_bytes) {
  const double product = 2 * real(head.hidden.rows) * elements(head.weight);
  double moved = bytes(head.hidden) + bytes(head.weight) * (to.dhidden.given() ? 2 : 1) + bytes(to.dhidden) +
                 real(head.hidden.rows) * row_bytes;
  if (to.wants_dweight)
    moved += written(elements(head.weight) * bytes_of(to.dweight_dtype), to.accumulate_dweight);
  return {product * (1 + (to.dhidden.given() ? 1 : 0) + (to.wants_dweight ? 1 : 0)), moved,
          head.hidden.dtype};
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
  const double bias = a.has_bias ? real(a.c.cols) * bytes_of(a.a.dtype) : 0;
  return {2 * elements(a.c) * k,
          bytes(a.a) + bytes(a.b) + bias + bytes(a.residual) + written(bytes(a.c), a.accumulate), a.a.dtype};
}

Cost cost(const EmbeddingGradArgs& a) {
  const double table = real(a.vocab) * real(a.hidden) * bytes_of(a.dtable_dtype);
  const double rows = real(a.rows) * real(a.hidden);
  const double touched = a.accumulate ? 2 * rows * bytes_of(a.dtable_dtype) : table;
  return {rows, rows * bytes_of(a.dout_dtype) + real(a.rows) * 4 + touched};
}

Cost cost(const RmsNormArgs& a) {
  const double weight = real(a.x.cols) * bytes_of(a.weight_dtype);
  return {4 * elements(a.x) + elements(a.residual),
          bytes(a.x) + weight + bytes(a.residual) + bytes(a.y) + (a.wants_rstd ? real(a.x.rows) * 4 : 0)};
}

Cost cost(const RmsNormGradArgs& a) {
  const double weight = a.dx.given() ? real(a.x.cols) * bytes_of(a.weight_dtype) : 0;
  const double dweight =
      a.wants_dweight ? written(real(a.x.cols) * bytes_of(a.dweight_dtype), a.accumulate_dweight) : 0;
  return {((a.dx.given() ? 7 : 0) + (a.wants_dweight ? 3 : 0)) * elements(a.x),
          bytes(a.dy) + bytes(a.x) + real(a.x.rows) * 4 + weight + written(bytes(a.dx), a.accumulate_dx) +
              dweight};
}

Cost cost(const HeadNormRopeArgs& a) {
  return {(a.has_weight ? 10 : 6) * elements(a.x), bytes(a.x) + bytes(a.y)};
}

Cost cost(const HeadNormRopeGradArgs& a) {
  const double each = 6 + (a.has_weight && a.dx.given() ? 9 : 0) + (a.wants_dweight ? 3 : 0);
  const double dweight =
      a.wants_dweight ? written(real(a.head_dim) * bytes_of(a.dweight_dtype), a.accumulate_dweight) : 0;
  return {each * elements(a.dy),
          bytes(a.dy) + (a.has_weight ? bytes(a.x) : 0) + written(bytes(a.dx), a.accumulate_dx) + dweight};
}

Cost cost(const AttentionArgs& a) {
  const double pairs = real(a.pairs) * real(a.heads);
  return {(2 * real(a.head_dim) + 2 * real(a.value_dim()) + (a.softcap > 0 ? 8 : 5)) * pairs,
          bytes(a.q) + bytes(a.k) + bytes(a.v) + bytes(a.out) + (a.wants_lse ? lse_bytes(a) : 0), a.q.dtype};
}

Cost cost(const AttentionGradArgs& a) {
  const AttentionArgs& f = a.forward;
  const double pairs = real(f.pairs) * real(f.heads);
  return {(6 * real(f.head_dim) + 4 * real(f.value_dim()) + (f.softcap > 0 ? 15 : 10)) * pairs +
              (a.wants_dsinks ? 2 * elements(f.out) : 0),
          bytes(f.q) + bytes(f.k) + bytes(f.v) + bytes(f.out) + lse_bytes(f) + bytes(a.dout) + bytes(a.dq) +
              bytes(a.dk) + bytes(a.dv),
          f.q.dtype};
}

Cost cost(const MlaKeysValuesArgs& a) {
  return {0, bytes(a.kv) + bytes(a.k_pe) + bytes(a.k) + bytes(a.v)};
}

Cost cost(const MlaKeysValuesGradArgs& a) {
  return {a.dk_pe.given() ? real(a.heads) * elements(a.dk_pe) : 0,
          bytes(a.dk) + bytes(a.dv) + written(bytes(a.dkv), a.accumulate_dkv) +
              written(bytes(a.dk_pe), a.accumulate_dk_pe)};
}

Cost cost(const ActivationArgs& a) {
  return {(a.up.given() ? 5 : 4) * elements(a.y), bytes(a.gate) + bytes(a.up) + bytes(a.y)};
}

Cost cost(const ActivationGradArgs& a) {
  const double each = 5 + (a.dgate.given() ? 5 : 0) + (a.dup.given() ? 2 : 0);
  return {each * elements(a.dy), bytes(a.gate) + bytes(a.up) + bytes(a.dy) + bytes(a.dgate) + bytes(a.dup)};
}

Cost cost(const RowGateArgs& a) {
  return {2 * elements(a.y), bytes(a.x) + bytes(a.gate) + bytes(a.y) + bytes(a.residual)};
}

Cost cost(const RowGateGradArgs& a) {
  const double x = a.dgate.given() ? bytes(a.x) : 0;
  return {((a.dx.given() ? 1 : 0) + (a.dgate.given() ? 2 : 0)) * elements(a.dy) + 4 * real(a.dy.rows),
          bytes(a.dy) + x + bytes(a.gate) + bytes(a.dgate) + written(bytes(a.dx), a.accumulate_dx)};
}

Cost cost(const CopyArgs& a) {
  return {elements(a.y), bytes(a.x) + written(bytes(a.y), a.accumulate)};
}

Cost cost(const ClampArgs& a) {
  return {2 * elements(a.y), bytes(a.x) + written(bytes(a.y), a.accumulate)};
}

Cost cost(const ClampGradArgs& a) {
  return {elements(a.dy), bytes(a.dy) + bytes(a.x) + written(bytes(a.dx), a.accumulate)};
}

Cost cost(const TakeRowsArgs& a) {
  return {0, elements(a.y) * bytes_of(a.x.dtype) + bytes(a.y) + real(a.y.rows) * 4};
}

Cost cost(const PutRowsArgs& a) {
  const double result = a.accumulate ? 2 * elements(a.dy) * bytes_of(a.dx.dtype) : bytes(a.dx);
  return {elements(a.dy), bytes(a.dy) + result + real(a.dy.rows) * 4};
}

Cost cost(const ColumnSumArgs& a) {
  return {elements(a.x), bytes(a.x) + written(real(a.x.cols) * bytes_of(a.out_dtype), a.accumulate)};
}

Cost cost(const RouterArgs& a) {
  const double all = real(a.tokens) * real(a.experts);
  return {4 * all, all * 8 + real(a.tokens * a.top_k) * 8};
}

Cost cost(const RouterGradArgs& a) {
  const double all = real(a.tokens) * real(a.experts);
  return {4 * all, all * (4 + bytes_of(a.dlogits_dtype)) +
                       (a.has_dweights ? real(a.tokens) * real(a.top_k) * 12 : 0) +
                       (a.has_dprobability_sums ? real(a.experts) * 4 : 0)};
}

Cost cost(const MoePlanArgs& a) {
  return {0, real(a.tokens * a.top_k) * 16};
}

Cost cost(const ExpertsArgs& a) {
  const DType t = a.x.dtype;
  const double weights =
      expert_matrix_elements(a) * (real(a.parts()) * weight_bytes(a.gate_up, t) + weight_bytes(a.down, t));
  const double biases =
      ((a.has_gate_up_bias ? gate_up_bias_elements(a) : 0) + (a.has_down_bias ? down_bias_elements(a) : 0)) *
      bytes_of(t);
  return {(real(a.parts()) + 1) * expert_product_flops(a),
          bytes(a.x) + weights + biases + plan_bytes(a) +
              (a.wants_pre_activation ? pre_activation_bytes(a) : 0) + bytes(a.residual) + bytes(a.y),
          t};
}

Cost cost(const ExpertsGradArgs& a) {
  const ExpertsArgs& f = a.forward;
  const DType t = f.x.dtype;
  const double matrix = expert_matrix_elements(f), parts = real(f.parts());
  // The activation's gradient comes first, whatever is wanted: one product, by the down matrices.
  const double products =
      1 + (a.wants_ddown ? 1 : 0) + (a.wants_dgate_up ? parts : 0) + (a.dx.given() ? parts : 0);
  double weights =
      matrix * (weight_bytes(f.down, t) + (a.dx.given() ? parts * weight_bytes(f.gate_up, t) : 0));
  if (f.has_down_bias && a.wants_dweights) weights += down_bias_elements(f) * bytes_of(t);
  double gradients = a.wants_dweights ? real(f.x.rows) * real(f.top_k) * 4 : 0;
  const auto add = [&gradients](bool wanted, double elements, DType dtype, bool accumulate) {
    if (wanted) gradients += written(elements * bytes_of(dtype), accumulate);
  };
  add(a.wants_dgate_up, parts * matrix, a.dgate_up_dtype, a.accumulate_dgate_up);
  add(a.wants_ddown, matrix, a.ddown_dtype, a.accumulate_ddown);
  add(a.wants_dgate_up_bias, gate_up_bias_elements(f), a.dgate_up_bias_dtype, a.accumulate_dgate_up_bias);
  add(a.wants_ddown_bias, down_bias_elements(f), a.ddown_bias_dtype, a.accumulate_ddown_bias);
  add(a.wants_dgate_up_squares, real(f.experts), DType::kF64, false);
  add(a.wants_ddown_squares, real(f.experts), DType::kF64, false);
  return {products * expert_product_flops(f),
          (a.wants_dgate_up ? bytes(f.x) : 0) + bytes(a.dy) + weights + gradients + plan_bytes(f) +
              pre_activation_bytes(f) + written(bytes(a.dx), a.accumulate_dx),
          t};
}

Cost cost(const LoadBalancingArgs& a) {
  return {3 * real(a.layers * a.experts),
          real(a.layers * a.experts) * 8 + (a.wants_dprobability_sums ? real(a.experts) * 4 : 0)};
}

Cost cost(const LinearCrossEntropyArgs& a) {
  return head_cost(a.head, a.gradients, a.has_weights ? 12 : 8);
}

Cost cost(const HeadStatisticsArgs& a) {
  return head_cost(a.head, {}, 12);
}

Cost cost(const HeadGradArgs& a) {
  return head_cost(a.forward.head, a.gradients, 8 + (a.has_dlse ? 4 : 0) + (a.has_dtarget_logit ? 4 : 0));
}

Cost cost(const SumOfSquaresArgs& a) {
  if (a.has_parts) return {real(a.num_parts), 8 * real(a.num_parts)};
  return {2 * real(a.n), real(a.n) * bytes_of(a.dtype)};
}

Cost cost(const FinishNormArgs& a) {
  return {6, static_cast<double>(2 * sizeof(StepScalars)) + (a.has_loss ? 4 : 0)};
}

Cost cost(const NextStepArgs&) {
  return {0, static_cast<double>(3 * sizeof(StepScalars))};
}

Cost cost(const AdamWArgs& a) {
  // master and both moments are read and written; the gradient is read; a bf16 copy is written
  const double moments = a.moments == MomentKind::kF32 ? 16 : 4 + 16.0 / kMomentBlock;
  return {12 * real(a.n), real(a.n) * (2 * bytes_of(a.master_dtype) + moments + bytes_of(a.grad_dtype) +
                                       (a.has_weight ? 2 : 0))};
}

Cost cost(const SgdArgs& a) {
  const double buffer = a.momentum != 0 ? (a.first ? 4 : 8) : 0;
  return {4 * real(a.n), real(a.n) * (2 * bytes_of(a.master_dtype) + bytes_of(a.grad_dtype) + buffer +
                                      (a.has_weight ? 2 : 0))};
}

}  // namespace hone::kernels
