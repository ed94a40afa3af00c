// The meta device's table: every kernel counts its work and touches no memory.
#include "kernels/kernels.h"

namespace hone::kernels {

namespace {

template <typename Args>
void count(const Args& a, Stream& stream) {
  stream.cost() += cost(a);
}

template <typename Args>
void fill(Kernel<Args>& slot) {
  slot = count<Args>;
}

template <typename... Args>
void fill_all(Kernel<Args>&... slots) {
  (fill(slots), ...);
}

}  // namespace

const KernelTable& meta_kernels() {
  static const KernelTable kTable = [] {
    KernelTable t;
    fill_all(t.matmul, t.embedding, t.embedding_grad, t.rms_norm, t.rms_norm_grad, t.head_norm_rope,
             t.head_norm_rope_grad, t.attention, t.attention_grad, t.silu_mul, t.silu_mul_grad, t.row_gate,
             t.row_gate_grad, t.copy, t.clamp_grad, t.take_rows, t.put_rows, t.column_sum, t.router,
             t.router_grad, t.moe_plan, t.experts, t.experts_grad, t.load_balancing, t.linear_cross_entropy,
             t.sum_of_squares, t.finish_norm, t.adamw, t.sgd);
    return t;
  }();
  return kTable;
}

}  // namespace hone::kernels
