// What the arguments of each kernel must be, as kernels.h says, in the order of its table. Shapes are looked
// at only where a matrix is there: on the meta device every pointer is null, so what is absent has no shape.
#include <cmath>

#include "base/error.h"
#include "kernels/kernels.h"

namespace hone::kernels {

namespace {

/// The checks of one kernel's arguments.
class Arguments {
 public:
  template <typename Args>
  explicit Arguments(const Args&) : slot_(slot_of<Args>().name) {}

  void stored(std::string_view name, DType got) const {
    HONE_CHECK(got == DType::kF32 || got == DType::kBF16, "[kernels.{}] {} is {}, wanted f32 or bf16", slot_,
               name, name_of(got));
  }
  void same(std::string_view name, DType got, DType wanted) const {
    HONE_CHECK(got == wanted, "[kernels.{}] {} is {}, wanted {}", slot_, name, name_of(got), name_of(wanted));
  }
  void f32_or(std::string_view name, DType got, DType t) const {
    HONE_CHECK(got == DType::kF32 || got == t, "[kernels.{}] {} is {}, wanted f32 or {}", slot_, name,
               name_of(got), name_of(t));
  }
  void shape(std::string_view name, const Matrix& m, std::int64_t rows, std::int64_t cols) const {
    if (is_absent(m)) return;
    HONE_CHECK(m.rows == rows && m.cols == cols && (m.stride >= cols || rows <= 1),
               "[kernels.{}] {} is ({}, {}) with rows {} apart, wanted ({}, {})", slot_, name, m.rows, m.cols,
               m.stride, rows, cols);
  }
  void as(std::string_view name, const Matrix& m, const Matrix& other) const {
    if (!is_absent(other)) shape(name, m, other.rows, other.cols);
  }
  void holds(bool condition, std::string_view what) const {
    HONE_CHECK(condition, "[kernels.{}] {}", slot_, what);
  }
  static bool is_absent(const Matrix& m) { return m.data == nullptr && m.rows == 0 && m.cols == 0; }

 private:
  std::string_view slot_;
};

template <typename Args>
void check_heads(const Arguments& check, const Args& a, const Matrix& x) {
  check.holds(a.rotary_dim >= 0 && a.rotary_dim % 2 == 0 && a.rotary_dim <= a.head_dim,
              "rotary_dim is odd or above head_dim");
  check.shape("x", x, x.rows, a.heads * a.head_dim);
}

}  // namespace

void validate(const MatmulArgs& a) {
  const Arguments check(a);
  const DType t = a.a.dtype;
  check.stored("a", t);
  check.same("b", a.b.dtype, t);
  check.f32_or("c", a.c.dtype, t);
  if (!Arguments::is_absent(a.residual)) check.f32_or("residual", a.residual.dtype, t);
  const std::int64_t k = a.transpose_a ? a.a.rows : a.a.cols;
  check.shape("c", a.c, a.transpose_a ? a.a.cols : a.a.rows, a.transpose_b ? a.b.rows : a.b.cols);
  check.holds(k == (a.transpose_b ? a.b.cols : a.b.rows), "a and b differ in k");
  check.as("residual", a.residual, a.c);
}

void validate(const EmbeddingArgs& a) {
  const Arguments check(a);
  check.stored("table", a.dtype);
  check.stored("out", a.out_dtype);
}

void validate(const EmbeddingGradArgs& a) {
  const Arguments check(a);
  check.stored("dout", a.dout_dtype);
  check.stored("dtable", a.dtable_dtype);
}

void validate(const RmsNormArgs& a) {
  const Arguments check(a);
  check.stored("weight", a.weight_dtype);
  check.f32_or("x", a.x.dtype, a.weight_dtype);
  check.f32_or("y", a.y.dtype, a.weight_dtype);
  check.as("y", a.y, a.x);
}

void validate(const RmsNormGradArgs& a) {
  const Arguments check(a);
  check.stored("weight", a.weight_dtype);
  check.stored("dweight", a.dweight_dtype);
  check.f32_or("dy", a.dy.dtype, a.weight_dtype);
  check.f32_or("x", a.x.dtype, a.weight_dtype);
  check.f32_or("dx", a.dx.dtype, a.weight_dtype);
  check.as("dy", a.dy, a.x);
  check.as("dx", a.dx, a.x);
}

void validate(const HeadNormRopeArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.same("y", a.y.dtype, a.x.dtype);
  if (a.weight != nullptr) check.same("weight", a.weight_dtype, a.x.dtype);
  check_heads(check, a, a.x);
  check.as("y", a.y, a.x);
}

void validate(const HeadNormRopeGradArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("dx", a.dx.dtype);
  check.stored("dweight", a.dweight_dtype);
  if (a.weight != nullptr) {
    check.same("x", a.x.dtype, a.weight_dtype);
    check.f32_or("dy", a.dy.dtype, a.weight_dtype);
    check.f32_or("dx", a.dx.dtype, a.weight_dtype);
    check.as("x", a.x, a.dy);
  }
  check_heads(check, a, a.dy);
  check.as("dx", a.dx, a.dy);
}

void validate(const AttentionArgs& a) {
  const Arguments check(a);
  check.stored("q", a.q.dtype);
  check.same("k", a.k.dtype, a.q.dtype);
  check.same("v", a.v.dtype, a.q.dtype);
  check.same("out", a.out.dtype, a.q.dtype);
  check.holds(a.kv_heads > 0 && a.heads % a.kv_heads == 0, "heads are no multiple of kv_heads");
  check.shape("q", a.q, a.q.rows, a.heads * a.head_dim);
  check.shape("k", a.k, a.k.rows, a.kv_heads * a.head_dim);
  check.as("v", a.v, a.k);
  check.as("out", a.out, a.q);
}

void validate(const AttentionGradArgs& a) {
  validate(a.forward);
  const Arguments check(a);
  const DType t = a.forward.q.dtype;
  check.same("dout", a.dout.dtype, t);
  check.same("dq", a.dq.dtype, t);
  check.same("dk", a.dk.dtype, t);
  check.same("dv", a.dv.dtype, t);
  check.as("dout", a.dout, a.forward.q);
  check.as("dq", a.dq, a.forward.q);
  check.as("dk", a.dk, a.forward.k);
  check.as("dv", a.dv, a.forward.k);
}

void validate(const SiluMulArgs& a) {
  const Arguments check(a);
  check.stored("gate", a.gate.dtype);
  check.same("up", a.up.dtype, a.gate.dtype);
  check.same("y", a.y.dtype, a.gate.dtype);
  check.as("up", a.up, a.gate);
  check.as("y", a.y, a.gate);
}

void validate(const SiluMulGradArgs& a) {
  const Arguments check(a);
  check.stored("gate", a.gate.dtype);
  check.same("up", a.up.dtype, a.gate.dtype);
  check.f32_or("dy", a.dy.dtype, a.gate.dtype);
  check.same("dgate", a.dgate.dtype, a.gate.dtype);
  check.same("dup", a.dup.dtype, a.gate.dtype);
  check.as("up", a.up, a.gate);
  check.as("dy", a.dy, a.gate);
  check.as("dgate", a.dgate, a.gate);
  check.as("dup", a.dup, a.gate);
}

void validate(const RowGateArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.same("gate", a.gate.dtype, DType::kF32);
  check.same("residual", a.residual.dtype, DType::kF32);
  check.stored("y", a.y.dtype);
  check.shape("gate", a.gate, a.x.rows, 1);
  check.as("residual", a.residual, a.x);
  check.as("y", a.y, a.x);
}

void validate(const RowGateGradArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("x", a.x.dtype);
  check.same("gate", a.gate.dtype, DType::kF32);
  check.same("dgate", a.dgate.dtype, DType::kF32);
  if (!Arguments::is_absent(a.dx)) check.same("dx", a.dx.dtype, a.x.dtype);
  check.as("dy", a.dy, a.x);
  check.shape("gate", a.gate, a.x.rows, 1);
  check.shape("dgate", a.dgate, a.x.rows, 1);
  check.as("dx", a.dx, a.x);
}

void validate(const CopyArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.stored("y", a.y.dtype);
  check.as("y", a.y, a.x);
  check.holds(a.clamp <= 0 || !a.accumulate, "a clamp does not accumulate");
}

void validate(const ClampGradArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("x", a.x.dtype);
  check.stored("dx", a.dx.dtype);
  check.as("dy", a.dy, a.x);
  check.as("dx", a.dx, a.x);
}

void validate(const TakeRowsArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.stored("y", a.y.dtype);
  check.shape("y", a.y, a.y.rows, a.x.cols);
}

void validate(const PutRowsArgs& a) {
  const Arguments check(a);
  check.stored("dy", a.dy.dtype);
  check.stored("dx", a.dx.dtype);
  check.shape("dy", a.dy, a.dy.rows, a.dx.cols);
  check.holds(a.dy.rows <= a.dx.rows, "more rows than dx has, and no index may come twice");
}

void validate(const ColumnSumArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.stored("out", a.out_dtype);
}

void validate(const RouterArgs& a) {
  const Arguments check(a);
  check.holds(a.top_k > 0 && a.top_k <= a.experts, "top_k is not in 1 … experts");
}

void validate(const RouterGradArgs& a) {
  const Arguments check(a);
  check.stored("dlogits", a.dlogits_dtype);
  check.holds(a.top_k > 0 && a.top_k <= a.experts, "top_k is not in 1 … experts");
}

void validate(const MoePlanArgs& a) {
  const Arguments check(a);
  check.holds(a.top_k > 0 && a.top_k <= a.experts, "top_k is not in 1 … experts");
  check.holds(a.tokens * a.top_k < std::int64_t{1} << 31, "more pairs than 32 bits count");
}

void validate(const ExpertsArgs& a) {
  const Arguments check(a);
  check.stored("x", a.x.dtype);
  check.same("residual", a.residual.dtype, DType::kF32);
  check.same("y", a.y.dtype, DType::kF32);
  check.as("residual", a.residual, a.x);
  check.as("y", a.y, a.x);
}

void validate(const ExpertsGradArgs& a) {
  const Arguments check(a);
  const DType t = a.forward.x.dtype;
  check.stored("x", t);
  check.f32_or("dy", a.dy.dtype, t);
  check.f32_or("dx", a.dx.dtype, t);
  check.f32_or("dgate_up", a.dgate_up_dtype, t);
  check.f32_or("ddown", a.ddown_dtype, t);
  check.as("dy", a.dy, a.forward.x);
  check.as("dx", a.dx, a.forward.x);
}

void validate(const LoadBalancingArgs& a) {
  Arguments(a).holds(a.layers > 0 && a.experts > 0, "no layers or no experts");
}

void validate(const LinearCrossEntropyArgs& a) {
  const Arguments check(a);
  const DType t = a.hidden.dtype;
  check.stored("hidden", t);
  check.same("weight", a.weight.dtype, t);
  check.f32_or("dhidden", a.dhidden.dtype, t);
  check.f32_or("dweight", a.dweight_dtype, t);
  check.holds(a.hidden.cols == a.weight.cols, "hidden and weight differ in columns");
  check.as("dhidden", a.dhidden, a.hidden);
  check.holds(a.logit_scale > 0 && std::isfinite(a.logit_scale), "logit_scale is not above 0, or not finite");
}

void validate(const SumOfSquaresArgs& a) {
  Arguments(a).stored("x", a.dtype);
}

void validate(const FinishNormArgs&) {}

void validate(const AdamWArgs& a) {
  Arguments(a).stored("grad", a.grad_dtype);
}

void validate(const SgdArgs& a) {
  Arguments(a).stored("grad", a.grad_dtype);
}

}  // namespace hone::kernels
