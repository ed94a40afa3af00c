// The auxiliary loss that spreads tokens over experts: one block, in double (some thousand numbers).
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

__global__ void balance_load(LoadBalancingArgs a) {
  begin_kernel();
  const double n = static_cast<double>(a.layers * a.tokens);
  const double scale =
      n > 0 ? static_cast<double>(a.coefficient) * static_cast<double>(a.experts) / (n * n) : 0;
  double loss = 0;
  for (Index e = threadIdx.x; e < a.experts; e += blockDim.x) {
    double count = 0, probability = 0;
    for (Index layer = 0; layer < a.layers; ++layer) {
      count += a.counts[layer * a.experts + e];
      probability += static_cast<double>(a.probability_sums[layer * a.experts + e]);
    }
    loss += scale * count * probability;
    if (a.wants_dprobability_sums) a.dprobability_sums[e] = static_cast<float>(scale * count);
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) *a.loss = static_cast<float>(loss);
}

}  // namespace

HONE_NO_SCRATCH(LoadBalancingArgs)
void load_balancing(const LoadBalancingArgs& a, Stream& stream) {
  HONE_LAUNCH(balance_load, 1, kThreads, 0, cuda_stream(stream), a);
}

}  // namespace hone::kernels::cuda
