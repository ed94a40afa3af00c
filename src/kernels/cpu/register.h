// How the fast CPU kernels enter the table. Each function fills the slots it has for an instruction set and
// leaves the others as they are (the reference kernels, which a table starts from).
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels {

/// matmul, experts, experts_grad, linear_cross_entropy, head_statistics, head_grad.
void register_matrix_kernels(CpuIsa isa, KernelTable& table);
/// The row-wise kernels: norms, rotary embedding, router, plan, optimizers and the like.
void register_row_kernels(CpuIsa isa, KernelTable& table);
/// attention, attention_grad.
void register_attention_kernels(CpuIsa isa, KernelTable& table);

}  // namespace hone::kernels
