// The sums of a matrix's columns.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {

std::int64_t scratch_bytes_of(const ColumnSumArgs& a) {
  return column_scratch_bytes(a.x.rows, a.x.cols);
}
void column_sum(const ColumnSumArgs& a, Stream& stream) {
  with_dtype(a.x.dtype, [&](auto x) {
    using X = TypeOf<decltype(x)>;
    sum_columns(RowTerms<X>{rows_of<const X>(a.x), has_vectors(a.x)}, a.x.rows, a.x.cols, a.out, a.out_dtype,
                a.accumulate, stream);
  });
}

}  // namespace hone::kernels::cuda
