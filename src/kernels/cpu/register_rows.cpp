#include "kernels/cpu/register.h"
#include "kernels/cpu/row_kernels.h"

namespace hone::kernels {

namespace {

template <class Isa>
void fill_row(KernelTable& table) {
  using Rows = cpu::RowKernels<Isa>;
  table.rms_norm = Rows::rms_norm;
  table.rms_norm_grad = Rows::rms_norm_grad;
  table.head_norm_rope = Rows::head_norm_rope;
  table.head_norm_rope_grad = Rows::head_norm_rope_grad;
  table.mla_keys_values = Rows::mla_keys_values;
  table.mla_keys_values_grad = Rows::mla_keys_values_grad;
  table.activation = Rows::activation;
  table.activation_grad = Rows::activation_grad;
  table.row_gate = Rows::row_gate;
  table.row_gate_grad = Rows::row_gate_grad;
  table.copy = Rows::copy;
  table.clamp_grad = Rows::clamp_grad;
  table.column_sum = Rows::column_sum;
  table.embedding = Rows::embedding;
  table.embedding_grad = Rows::embedding_grad;
  table.take_rows = Rows::take_rows;
  table.put_rows = Rows::put_rows;
  table.router = Rows::router;
  table.router_grad = Rows::router_grad;
  table.moe_plan = cpu::moe_plan;
  table.sum_of_squares = Rows::sum_of_squares;
  table.adamw = Rows::adamw;
  table.sgd = Rows::sgd;
}

}  // namespace

void register_row_kernels(CpuIsa isa, KernelTable& table) {
  switch (isa) {
    case CpuIsa::kReference:
      return;
    case CpuIsa::kAvx2:
      return fill_row<cpu::Avx2>(table);
    case CpuIsa::kAvx512:
      return fill_row<cpu::Avx512>(table);
    case CpuIsa::kAvx512Bf16:
    case CpuIsa::kAvx512Amx:  // rows have no products
      return fill_row<cpu::Avx512Bf16>(table);
  }
}

}  // namespace hone::kernels
