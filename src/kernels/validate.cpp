// What the arguments of each kernel must be, as arguments.h says, in its order. What lies in
// device memory (ids, positions, offsets) is not looked at. Costs some 100 ns a call.
#include "kernels/argument_checks.h"
#include "kernels/moments.h"

namespace hone::kernels {

namespace {

template <typename Args>
void check_heads(const Arguments& check, const Args& a, const Matrix& x) {
  check.holds(a.heads > 0 && a.head_dim > 0, "no heads");
  check.holds(a.rotary_dim >= 0 && a.rotary_dim % 2 == 0 && a.rotary_begin >= 0 &&
                  a.rotary_begin + a.rotary_dim <= a.head_dim,
              "rotary_dim is odd, or rotary_begin and it are above head_dim");
  check.number("eps", a.eps, 0, kAny);
  check.shape("x", x, x.rows, a.heads * a.head_dim);
}

/// The heads of latent attention. kv and k_pe: those of the values, or those of the gradients.
template <typename Args>
void check_latent(const Arguments& check, const Args& a) {
  check.sizes({a.nope_dim, a.rope_dim});
  check.holds(a.heads > 0 && a.v_dim > 0 && a.nope_dim + a.rope_dim > 0, "no heads");
}

}  // namespace

void validate(const MatmulArgs& a) {
  const Arguments check(a);
  const DType t = a.a.dtype;
  check.stored("a", t);
  check.same("b", a.b.dtype, t);
  check.f32_or("c", a.c.dtype, t);
  const std::int64_t m = a.transpose_a ? a.a.cols : a.a.rows, k = a.transpose_a ? a.a.rows : a.a.cols;
  check.as("a", a.a, a.a);
  check.as("b", a.b, a.b);
  check.shape("c", a.c, m, a.transpose_b ? a.b.rows : a.b.cols);
  check.holds(k == (a.transpose_b ? a.b.cols : a.b.rows), "a and b differ in k");
  check.flagged("bias", a.has_bias, a.bias, a.c.data);
  if (a.residual.given()) check.f32_or("residual", a.residual.dtype, t);
  check.as_or_left_out("residual", a.residual, a.c);
  check.holds(!a.fp8 || !a.transpose_a, "a is transposed, and rounded to fp8");
  check.apart({"c", a.c}, {{"a", a.a}, {"b", a.b}, {"residual", a.residual}});
}

void validate(const EmbeddingGradArgs& a) {
  const Arguments check(a);
  check.stored("dout", a.dout_dtype);
  check.stored("dtable", a.dtable_dtype);
  check.sizes({a.rows, a.hidden, a.vocab});
  check.holds(a.padding_id >= -1 && a.padding_id < a.vocab, "padding_id is no id");
  check.apart({"dtable", dense(a.dtable, a.dtable_dtype, a.vocab, a.hidden)},
              {{"dout", dense(a.dout, a.dout_dtype, a.rows, a.hidden)}});
}

void validate(const RmsNormArgs& a) {
  const Arguments check(a);
  check.stored("weight", a.weight_dtype);
  check.f32_or("x", a.x.dtype, a.weight_dtype);
  check.f32_or("y", a.y.dtype, a.weight_dtype);
  check.as("x", a.x, a.x);
  check.as("y", a.y, a.x);
  check.number("eps", a.eps, 0, kAny);
  check.flagged("rstd", a.wants_rstd, a.rstd, a.x.data);
  check.same("residual", a.residual.dtype, DType::kF32);
  check.as_or_left_out("residual", a.residual, a.x);
  check.apart({"y", a.y}, {{"x", a.x}, {"residual", a.residual}});
}

void validate(const RmsNormGradArgs& a) {
  const Arguments check(a);
  check.stored("weight", a.weight_dtype);
  check.stored("dweight", a.dweight_dtype);
  check.f32_or("dy", a.dy.dtype, a.weight_dtype);
  check.f32_or("x", a.x.dtype, a.weight_dtype);
  check.f32_or("dx", a.dx.dtype, a.weight_dtype);
  check.as("x", a.x, a.x);
  check.as("dy", a.dy, a.x);
  check.as_or_left_out("dx", a.dx, a.x);
  check.flagged("dweight", a.wants_dweight, a.dweight, a.x.data);
  check.apart({"dx", a.dx}, {{"dy", a.dy}, {"x", a.x}});
}

void validate(const HeadNormRopeArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.same("y", a.y.dtype, a.x.dtype);
  check.flagged("weight", a.has_weight, a.weight, a.x.data);
  if (a.has_weight) check.same("weight", a.weight_dtype, a.x.dtype);
  check_heads(check, a, a.x);
  check.as("y", a.y, a.x);
  if (a.has_weight)
    check.apart({"y", a.y}, {{"x", a.x}});
  else
    check.apart_or_in_place({"y", a.y}, {"x", a.x});
}

void validate(const HeadNormRopeGradArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("dx", a.dx.dtype);
  check.stored("dweight", a.dweight_dtype);
  check.flagged("weight", a.has_weight, a.weight, a.dy.data);
  check.flagged("dweight", a.wants_dweight, a.dweight, a.dy.data);
  check.holds(a.has_weight || !a.wants_dweight, "dweight is wanted of no weight");
  check_heads(check, a, a.dy);
  check.as_or_left_out("dx", a.dx, a.dy);
  if (!a.has_weight) return check.apart_or_in_place({"dx", a.dx}, {"dy", a.dy});
  check.same("x", a.x.dtype, a.weight_dtype);
  check.f32_or("dy", a.dy.dtype, a.weight_dtype);
  check.f32_or("dx", a.dx.dtype, a.weight_dtype);
  check.as("x", a.x, a.dy);
  check.apart({"dx", a.dx}, {{"dy", a.dy}, {"x", a.x}});
}

void validate(const AttentionArgs& a) {
  const Arguments check(a);
  check.stored("q", a.q.dtype);
  check.same("k", a.k.dtype, a.q.dtype);
  check.same("v", a.v.dtype, a.q.dtype);
  check.same("out", a.out.dtype, a.q.dtype);
  check.sizes({a.sequences, a.window});
  check.holds(a.kv_heads > 0 && a.heads % a.kv_heads == 0, "heads are no multiple of kv_heads");
  check.holds(a.heads > 0 && a.head_dim > 0 && a.v_head_dim >= 0, "no heads");
  check.holds(std::isfinite(a.scale), "scale is not finite");
  check.holds(std::isfinite(a.softcap) && a.softcap >= 0, "softcap is negative or not finite");
  check.shape("q", a.q, a.q.rows, a.heads * a.head_dim);
  check.shape("k", a.k, a.k.rows, a.kv_heads * a.head_dim);
  check.shape("v", a.v, a.k.rows, a.kv_heads * a.value_dim());
  check.shape("out", a.out, a.q.rows, a.heads * a.value_dim());
  check.flagged("sinks", a.has_sinks, a.sinks, a.q.data);
  check.flagged("lse", a.wants_lse, a.lse, a.q.data);
  check.holds(a.max_queries >= 0 && a.max_queries <= a.q.rows, "max_queries are not those of a sequence");
  check.holds(
      !a.are_square || (a.sequences > 0 && a.max_queries * a.sequences >= a.q.rows && a.k.rows >= a.q.rows),
      "are_square is not told of these sequences");
  check.holds(a.pairs >= a.q.rows && a.pairs <= a.q.rows * a.k.rows, "pairs are not those of the sequences");
  check.apart({"out", a.out}, {{"q", a.q}, {"k", a.k}, {"v", a.v}});
}

void validate(const AttentionGradArgs& a) {
  const AttentionArgs& f = a.forward;
  validate(f);
  const Arguments check(a);
  const DType t = f.q.dtype;
  check.holds(f.wants_lse, "the forward pass kept no lse");
  check.same("dout", a.dout.dtype, t);
  check.same("dq", a.dq.dtype, t);
  check.same("dk", a.dk.dtype, t);
  check.same("dv", a.dv.dtype, t);
  check.stored("dsinks", a.dsinks_dtype);
  check.holds(!a.wants_dsinks || f.has_sinks, "dsinks is wanted, but there are no sinks");
  check.flagged("dsinks", a.wants_dsinks, a.dsinks, f.q.data);
  check.as("dout", a.dout, f.out);
  check.as("dq", a.dq, f.q);
  check.as("dk", a.dk, f.k);
  check.as("dv", a.dv, f.v);
  for (const Named& out : {Named{"dq", a.dq}, Named{"dk", a.dk}, Named{"dv", a.dv}})
    check.apart(out, {{"q", f.q}, {"k", f.k}, {"v", f.v}, {"out", f.out}, {"dout", a.dout}});
  check.apart({"dq", a.dq}, {{"dk", a.dk}, {"dv", a.dv}});
  check.apart({"dk", a.dk}, {{"dv", a.dv}});
}

void validate(const MlaKeysValuesArgs& a) {
  const Arguments check(a);
  const DType t = a.kv.dtype;
  check_latent(check, a);
  check.stored("kv", t);
  check.same("k_pe", a.k_pe.dtype, t);
  check.same("k", a.k.dtype, t);
  check.same("v", a.v.dtype, t);
  check.shape("kv", a.kv, a.kv.rows, a.heads * (a.nope_dim + a.v_dim));
  check.shape("k_pe", a.k_pe, a.kv.rows, a.rope_dim);
  check.shape("k", a.k, a.kv.rows, a.heads * (a.nope_dim + a.rope_dim));
  check.shape("v", a.v, a.kv.rows, a.heads * a.v_dim);
  check.apart({"k", a.k}, {{"kv", a.kv}, {"k_pe", a.k_pe}, {"v", a.v}});
  check.apart({"v", a.v}, {{"kv", a.kv}, {"k_pe", a.k_pe}});
}

void validate(const MlaKeysValuesGradArgs& a) {
  const Arguments check(a);
  check_latent(check, a);
  const Matrix& any = a.dkv.given() ? a.dkv : a.dk_pe;
  check.holds(any.given(), "no gradient is wanted");
  const auto part = [&](std::string_view name, const Matrix& m, std::int64_t cols) {
    if (!m.given()) return;
    check.stored(name, m.dtype);
    check.shape(name, m, any.rows, cols);
  };
  part("dk", a.dk, a.heads * (a.nope_dim + a.rope_dim));
  part("dv", a.dv, a.heads * a.v_dim);
  part("dkv", a.dkv, a.heads * (a.nope_dim + a.v_dim));
  part("dk_pe", a.dk_pe, a.rope_dim);
  check.apart({"dkv", a.dkv}, {{"dk", a.dk}, {"dv", a.dv}, {"dk_pe", a.dk_pe}});
  check.apart({"dk_pe", a.dk_pe}, {{"dk", a.dk}, {"dv", a.dv}});
}

namespace {

template <typename Args>
void check_activation(const Arguments& check, const Args& a) {
  const DType t = a.gate.dtype;
  check.stored("gate", t);
  check.as("gate", a.gate, a.gate);
  check.as_or_left_out("up", a.up, a.gate);
  if (a.up.given()) check.same("up", a.up.dtype, t);
  if (a.activation != Activation::kClampedSilu) return;
  check.holds(a.up.given(), "a clamped silu without up");
  check.holds(a.alpha > 0 && a.alpha < kAny && a.limit > 0, "alpha or limit is not above 0");
}

}  // namespace

void validate(const ActivationArgs& a) {
  const Arguments check(a);
  check_activation(check, a);
  check.same("y", a.y.dtype, a.gate.dtype);
  check.as("y", a.y, a.gate);
  check.apart_or_in_place({"y", a.y}, {"gate", a.gate});
  check.apart_or_in_place({"y", a.y}, {"up", a.up});
}

void validate(const ActivationGradArgs& a) {
  const Arguments check(a);
  check_activation(check, a);
  check.f32_or("dy", a.dy.dtype, a.gate.dtype);
  check.as("dy", a.dy, a.gate);
  check.holds(a.up.given() || !a.dup.given(), "dup is wanted of no up");
  for (const Named& out : {Named{"dgate", a.dgate}, Named{"dup", a.dup}}) {
    if (!out.matrix.given()) continue;
    check.same(out.name, out.matrix.dtype, a.gate.dtype);
    check.as(out.name, out.matrix, a.gate);
    check.apart(out, {{"gate", a.gate}, {"up", a.up}, {"dy", a.dy}});
  }
  check.apart({"dgate", a.dgate}, {{"dup", a.dup}});
}

void validate(const RowGateArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.same("gate", a.gate.dtype, DType::kF32);
  check.same("residual", a.residual.dtype, DType::kF32);
  check.stored("y", a.y.dtype);
  check.as("x", a.x, a.x);
  check.shape("gate", a.gate, a.x.rows, 1);
  check.as_or_left_out("residual", a.residual, a.x);
  check.as("y", a.y, a.x);
  check.apart({"y", a.y}, {{"x", a.x}, {"gate", a.gate}, {"residual", a.residual}});
}

void validate(const RowGateGradArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("x", a.x.dtype);
  check.same("gate", a.gate.dtype, DType::kF32);
  check.same("dgate", a.dgate.dtype, DType::kF32);
  if (a.dx.given()) check.same("dx", a.dx.dtype, a.x.dtype);
  check.as("x", a.x, a.x);
  check.as("dy", a.dy, a.x);
  check.shape("gate", a.gate, a.x.rows, 1);
  if (a.dgate.given()) check.shape("dgate", a.dgate, a.x.rows, 1);
  check.as_or_left_out("dx", a.dx, a.x);
  for (const Named& out : {Named{"dx", a.dx}, Named{"dgate", a.dgate}})
    check.apart(out, {{"dy", a.dy}, {"x", a.x}, {"gate", a.gate}});
}

void validate(const CopyArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.stored("y", a.y.dtype);
  check.as("x", a.x, a.x);
  check.as("y", a.y, a.x);
  check.apart_or_in_place({"y", a.y}, {"x", a.x});
}

namespace {

void check_limit(const Arguments& check, float limit) {
  check.number("limit", limit, 0, kAny);
  check.holds(limit > 0, "limit is 0");
}

}  // namespace

void validate(const ClampArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.stored("y", a.y.dtype);
  check.as("x", a.x, a.x);
  check.as("y", a.y, a.x);
  check_limit(check, a.limit);
  check.apart_or_in_place({"y", a.y}, {"x", a.x});
}

void validate(const ClampGradArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("x", a.x.dtype);
  check.stored("dx", a.dx.dtype);
  check.as("x", a.x, a.x);
  check.as("dy", a.dy, a.x);
  check.as("dx", a.dx, a.x);
  check_limit(check, a.limit);
  check.apart({"dx", a.dx}, {{"dy", a.dy}, {"x", a.x}});
}

void validate(const TakeRowsArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.stored("y", a.y.dtype);
  check.as("x", a.x, a.x);
  check.shape("y", a.y, a.y.rows, a.x.cols);
  check.apart({"y", a.y}, {{"x", a.x}});
}

void validate(const PutRowsArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("dx", a.dx.dtype);
  check.as("dx", a.dx, a.dx);
  check.shape("dy", a.dy, a.dy.rows, a.dx.cols);
  check.holds(a.dy.rows <= a.dx.rows, "more rows than dx has, and no index may come twice");
  check.apart({"dx", a.dx}, {{"dy", a.dy}});
}

void validate(const ColumnSumArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.stored("out", a.out_dtype);
  check.as("x", a.x, a.x);
  check.apart({"out", dense(a.out, a.out_dtype, 1, a.x.cols)}, {{"x", a.x}});
}

namespace {

void check_head(const Arguments& check, const HeadOperands& head) {
  check.stored("hidden", head.hidden.dtype);
  check.same("weight", head.weight.dtype, head.hidden.dtype);
  check.as("hidden", head.hidden, head.hidden);
  check.shape("weight", head.weight, head.weight.rows, head.hidden.cols);
  check.holds(head.weight.rows > 0, "no words");
  check.holds(head.logit_scale > 0 && std::isfinite(head.logit_scale),
              "logit_scale is not above 0, or not finite");
  check.number("softcap", head.softcap, 0, kAny);
}

void check_head_gradients(const Arguments& check, const HeadGradients& to, const HeadOperands& head) {
  check.f32_or("dhidden", to.dhidden.dtype, head.hidden.dtype);
  check.f32_or("dweight", to.dweight_dtype, head.hidden.dtype);
  check.as_or_left_out("dhidden", to.dhidden, head.hidden);
  check.flagged("dweight", to.wants_dweight, to.dweight, head.weight.data);
  const Matrix dweight = dense(to.dweight, to.dweight_dtype, head.weight.rows, head.weight.cols);
  check.apart({"dhidden", to.dhidden},
              {{"hidden", head.hidden}, {"weight", head.weight}, {"dweight", dweight}});
  check.apart({"dweight", dweight}, {{"hidden", head.hidden}, {"weight", head.weight}});
}

}  // namespace

void validate(const LinearCrossEntropyArgs& a) {
  const Arguments check(a);
  check_head(check, a.head);
  check_head_gradients(check, a.gradients, a.head);
  check.holds(std::isfinite(a.scale), "scale is not finite");
  check.flagged("weights", a.has_weights, a.weights, a.head.weight.data);
}

void validate(const HeadStatisticsArgs& a) {
  const Arguments check(a);
  check_head(check, a.head);
  check.sizes({a.vocab_begin});
}

void validate(const HeadGradArgs& a) {
  const Arguments check(a);
  const HeadOperands& head = a.forward.head;
  validate(a.forward);
  check_head_gradients(check, a.gradients, head);
  check.flagged("dlse", a.has_dlse, a.dlse, head.weight.data);
  check.flagged("dtarget_logit", a.has_dtarget_logit, a.dtarget_logit, head.weight.data);
}

void validate(const SumOfSquaresArgs& a) {
  const Arguments check(a);
  check.stored("x", a.dtype);
  check.sizes({a.n, a.num_parts, a.index});
  check.flagged("parts", a.has_parts, a.parts, a.scalars);
}

void validate(const FinishNormArgs& a) {
  const Arguments check(a);
  check.holds(!std::isnan(a.max_norm), "max_norm is no number");
  check.flagged("loss", a.has_loss, a.loss, a.scalars);
}

void validate(const NextStepArgs&) {}

void validate(const AdamWArgs& a) {
  const Arguments check(a);
  check.stored("grad", a.grad_dtype);
  check.sizes({a.n, a.first_index});
  check.holds(a.first_index % kMomentBlock == 0, "first_index is within a block of moments");
  check.number("beta1", a.beta1, 0, 1);
  check.number("beta2", a.beta2, 0, 1);
  check.number("eps", a.eps, 0, kAny);
  check.number("weight_decay", a.weight_decay, 0, kAny);
  check.number("rate_scale", a.rate_scale, 0, kAny);
  check.flagged("weight", a.has_weight, a.weight, a.master);
  check.stored("master", a.master_dtype);
  check.holds(!a.has_weight || a.master_dtype == DType::kF32, "a bf16 master beside a weight");
  check.flagged("exp_avg_scales", a.moments == MomentKind::kDynamic8, a.exp_avg_scales, a.master);
  check.flagged("exp_avg_sq_scales", a.moments == MomentKind::kDynamic8, a.exp_avg_sq_scales, a.master);
}

void validate(const SgdArgs& a) {
  const Arguments check(a);
  check.stored("grad", a.grad_dtype);
  check.stored("master", a.master_dtype);
  check.holds(!a.has_weight || a.master_dtype == DType::kF32, "a bf16 master beside a weight");
  check.sizes({a.n, a.first_index});
  check.holds(a.first_index % kMomentBlock == 0, "first_index is within a block of moments");
  check.number("momentum", a.momentum, 0, kAny);
  check.number("weight_decay", a.weight_decay, 0, kAny);
  check.number("rate_scale", a.rate_scale, 0, kAny);
  check.flagged("weight", a.has_weight, a.weight, a.master);
  check.flagged("momentum_buffer", a.momentum != 0, a.momentum_buffer, a.master);
}

}  // namespace hone::kernels
