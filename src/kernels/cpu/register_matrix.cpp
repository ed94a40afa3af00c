#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/register.h"

namespace hone::kernels {

namespace {

/// Every slot that the class has a kernel of.
template <class Isa>
void fill_matrix(KernelTable& table) {
  using Kernels = cpu::MatrixKernels<Isa>;
#define HONE_SLOT(name, Args) \
  if constexpr (requires { Kernels::name; }) table.name = Kernels::name;
  HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
}

}  // namespace

void register_matrix_kernels(CpuIsa isa, KernelTable& table) {
  switch (isa) {
    case CpuIsa::kReference:
      return;
    case CpuIsa::kAvx2:
      return fill_matrix<cpu::Avx2>(table);
#if HONE_AVX512
    case CpuIsa::kAvx512:
      return fill_matrix<cpu::Avx512>(table);
    case CpuIsa::kAvx512Bf16:
      return fill_matrix<cpu::Avx512Bf16>(table);
    case CpuIsa::kAvx512Amx:
      return fill_matrix<cpu::Avx512Amx>(table);
#else
    default:
      return;
#endif
  }
}

}  // namespace hone::kernels
