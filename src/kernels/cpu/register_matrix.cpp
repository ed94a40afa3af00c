#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/register.h"

namespace hone::kernels {

namespace {

template <class Isa>
void fill_matrix(KernelTable& table) {
  table.matmul = cpu::MatrixKernels<Isa>::matmul;
  table.experts = cpu::MatrixKernels<Isa>::experts;
  table.experts_grad = cpu::MatrixKernels<Isa>::experts_grad;
  table.linear_cross_entropy = cpu::MatrixKernels<Isa>::linear_cross_entropy;
  table.head_statistics = cpu::MatrixKernels<Isa>::head_statistics;
  table.head_grad = cpu::MatrixKernels<Isa>::head_grad;
}

}  // namespace

void register_matrix_kernels(CpuIsa isa, KernelTable& table) {
  switch (isa) {
    case CpuIsa::kReference:
      return;
    case CpuIsa::kAvx2:
      return fill_matrix<cpu::Avx2>(table);
    case CpuIsa::kAvx512:
      return fill_matrix<cpu::Avx512>(table);
    case CpuIsa::kAvx512Bf16:
      return fill_matrix<cpu::Avx512Bf16>(table);
    case CpuIsa::kAvx512Amx:
      return fill_matrix<cpu::Avx512Amx>(table);
  }
}

}  // namespace hone::kernels
