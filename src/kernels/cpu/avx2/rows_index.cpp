#include "kernels/cpu/rows_index.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx2>::embedding(const EmbeddingArgs& a, Stream& stream);
template void RowKernels<Avx2>::embedding_grad(const EmbeddingGradArgs& a, Stream& stream);
template void RowKernels<Avx2>::take_rows(const TakeRowsArgs& a, Stream& stream);
template void RowKernels<Avx2>::put_rows(const PutRowsArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
