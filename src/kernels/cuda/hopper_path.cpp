#include "kernels/cuda/hopper_path.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>

#include "kernels/cuda/cuts.h"
#include "kernels/cuda/tensor_map.h"

namespace hone::kernels::cuda {

std::string why_not_hopper(const device::CudaCard& card) {
  if (const char* asked = std::getenv("HONE_CUDA_PATHS");
      asked != nullptr && std::string_view(asked) == "portable")
    return "HONE_CUDA_PATHS=portable";
#if !HONE_CUDA_SM90A
  return "hone was built without code for sm_90a (CMAKE_CUDA_ARCHITECTURES)";
#endif
  if (card.major != 9 || card.minor != 0)
    return fmt::format("the card has compute capability {}.{}", card.major, card.minor);
  return why_no_tensor_maps();
}

std::string why_not_hopper(const ExpertsArgs& a, const device::CudaCard& card) {
  std::string why = why_not_hopper(card);
  return why.empty() ? hopper_refusal(a) : why;
}

std::string why_not_hopper(const ExpertsGradArgs& g, const device::CudaCard& card) {
  std::string why = why_not_hopper(card);
  return why.empty() ? hopper_refusal(g) : why;
}

std::string why_not_hopper(const AttentionGradArgs& g, const device::CudaCard& card) {
  std::string why = why_not_hopper(card);
  return why.empty() ? hopper_refusal(g) : why;
}

}  // namespace hone::kernels::cuda
