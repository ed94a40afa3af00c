#include "kernels/cpu/rows_index.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void RowKernels<HONE_ISA>::embedding_grad(const EmbeddingGradArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::take_rows(const TakeRowsArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::put_rows(const PutRowsArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
