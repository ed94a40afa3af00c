#include "kernels/cuda/attention_path.h"

#include "kernels/cuda/cuts.h"
#include "kernels/cuda/experts_path.h"

namespace hone::kernels::cuda {

std::string why_not_hopper(const AttentionGradArgs& g, const device::CudaCard& card) {
  std::string why = why_not_hopper(card);
  return why.empty() ? hopper_refusal(g) : why;
}

}  // namespace hone::kernels::cuda
