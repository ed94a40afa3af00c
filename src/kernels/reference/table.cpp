// The reference table.
#include "kernels/reference/reference.h"

namespace hone::kernels::reference {

const KernelTable& table() {
  static const KernelTable kTable{
      .matmul = matmul,
      .embedding = embedding,
      .embedding_grad = embedding_grad,
      .rms_norm = rms_norm,
      .rms_norm_grad = rms_norm_grad,
      .head_norm_rope = head_norm_rope,
      .head_norm_rope_grad = head_norm_rope_grad,
      .attention = attention,
      .attention_grad = attention_grad,
      .silu_mul = silu_mul,
      .silu_mul_grad = silu_mul_grad,
      .row_gate = row_gate,
      .row_gate_grad = row_gate_grad,
      .copy = copy,
      .clamp_grad = clamp_grad,
      .take_rows = take_rows,
      .put_rows = put_rows,
      .column_sum = column_sum,
      .router = router,
      .router_grad = router_grad,
      .moe_plan = moe_plan,
      .experts = experts,
      .experts_grad = experts_grad,
      .load_balancing = load_balancing,
      .linear_cross_entropy = linear_cross_entropy,
      .sum_of_squares = sum_of_squares,
      .finish_norm = finish_norm,
      .adamw = adamw,
      .sgd = sgd,
  };
  return kTable;
}

}  // namespace hone::kernels::reference
