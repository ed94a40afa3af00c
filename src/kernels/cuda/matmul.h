// Dense products, for the kernels that are made of them.
#pragma once

#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {

/// matmul() in scratch memory of the caller's: at least scratch_bytes_of(a), 256-byte aligned; null where
/// that is 0. (The slot takes the stream's, of which a kernel may have one piece only.)
void matmul(const MatmulArgs& a, Stream& stream, void* scratch);

}  // namespace hone::kernels::cuda
