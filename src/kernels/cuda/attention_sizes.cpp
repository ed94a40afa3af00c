#include "kernels/cuda/attention_sizes.h"

#include "base/error.h"

namespace hone::kernels::cuda {

void check_head_size(std::int64_t head_dim, std::int64_t v_dim) {
  if (head_dim > kMostHeadDim || v_dim > kMostHeadDim)
    fail("attention heads of {} and {} numbers: on NVIDIA cards there are kernels for at most {}", head_dim,
         v_dim, kMostHeadDim);
}

}  // namespace hone::kernels::cuda
