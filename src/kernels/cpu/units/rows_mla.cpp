#include "kernels/cpu/rows_mla.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void RowKernels<HONE_ISA>::mla_keys_values(const MlaKeysValuesArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::mla_keys_values_grad(const MlaKeysValuesGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
