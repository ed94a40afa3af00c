#include "kernels/cpu/register.h"
#include "kernels/cpu/row_kernels.h"

namespace hone::kernels {

namespace {

/// Every slot that the class has a kernel of.
template <class Isa>
void fill_row(KernelTable& table) {
  using Kernels = cpu::RowKernels<Isa>;
#define HONE_SLOT(name, Args) \
  if constexpr (requires { Kernels::name; }) table.name = Kernels::name;
  HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
  table.moe_plan = cpu::moe_plan;
}

}  // namespace

void register_row_kernels(CpuIsa isa, KernelTable& table) {
  switch (isa) {
    case CpuIsa::kReference:
      return;
    case CpuIsa::kAvx2:
      return fill_row<cpu::Avx2>(table);
#if HONE_AVX512
    case CpuIsa::kAvx512:
      return fill_row<cpu::Avx512>(table);
    case CpuIsa::kAvx512Bf16:
    case CpuIsa::kAvx512Amx:  // rows have no products
      return fill_row<cpu::Avx512Bf16>(table);
#else
    default:
      return;
#endif
  }
}

}  // namespace hone::kernels
