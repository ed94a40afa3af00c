#include "kernels/cpu/rows_index.h"

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx512Bf16>::embedding(const EmbeddingArgs& a, Stream& stream);
template void RowKernels<Avx512Bf16>::embedding_grad(const EmbeddingGradArgs& a, Stream& stream);
template void RowKernels<Avx512Bf16>::take_rows(const TakeRowsArgs& a, Stream& stream);
template void RowKernels<Avx512Bf16>::put_rows(const PutRowsArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
