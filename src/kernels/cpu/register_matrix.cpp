#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/register.h"

namespace hone::kernels {

namespace {

template <class Isa>
void fill(KernelTable& table) {
  table.matmul = cpu::MatrixKernels<Isa>::matmul;
  table.experts = cpu::MatrixKernels<Isa>::experts;
  table.experts_grad = cpu::MatrixKernels<Isa>::experts_grad;
  table.linear_cross_entropy = cpu::MatrixKernels<Isa>::linear_cross_entropy;
}

/// On AMX tiles bf16 is multiplied; f32 as without them, by the kernels that are there.
void fill_amx(KernelTable& table) {
  using Tiles = cpu::MatrixKernels<cpu::Avx512Amx>;
  using Vectors = cpu::MatrixKernels<cpu::Avx512>;
  table.matmul = [](const MatmulArgs& a, Stream& stream) {
    (a.a.dtype == DType::kF32 ? Vectors::matmul : Tiles::matmul)(a, stream);
  };
  table.experts = [](const ExpertsArgs& a, Stream& stream) {
    (a.x.dtype == DType::kF32 ? Vectors::experts : Tiles::experts)(a, stream);
  };
  table.experts_grad = [](const ExpertsGradArgs& a, Stream& stream) {
    (a.forward.x.dtype == DType::kF32 ? Vectors::experts_grad : Tiles::experts_grad)(a, stream);
  };
  table.linear_cross_entropy = [](const LinearCrossEntropyArgs& a, Stream& stream) {
    (a.hidden.dtype == DType::kF32 ? Vectors::linear_cross_entropy : Tiles::linear_cross_entropy)(a, stream);
  };
}

}  // namespace

void register_matrix_kernels(CpuIsa isa, KernelTable& table) {
  switch (isa) {
    case CpuIsa::kReference:
      return;
    case CpuIsa::kAvx2:
      return fill<cpu::Avx2>(table);
    case CpuIsa::kAvx512:
      return fill<cpu::Avx512>(table);
    case CpuIsa::kAvx512Bf16:
      return fill<cpu::Avx512Bf16>(table);
    case CpuIsa::kAvx512Amx:
      return fill_amx(table);
  }
}

}  // namespace hone::kernels
