#include "kernels/cuda/experts_path.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>

#include "kernels/cuda/tensor_map.h"

namespace hone::kernels::cuda {

namespace {

bool is_at_16(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}
bool has_rows_at_16(const Matrix& m) {
  return is_at_16(m.data) && static_cast<std::size_t>(m.stride) * size_of(m.dtype) % 16 == 0;
}

}  // namespace

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
  constexpr std::int64_t kMostExperts = 1024;  // whose tiles a block counts in shared memory (HopperRows)
  if (std::string why = why_not_hopper(card); !why.empty()) return why;
  if (a.x.dtype != DType::kBF16) return fmt::format("the rows are {}", name_of(a.x.dtype));
  if (a.gate_up.kind != WeightKind::kDense || a.down.kind != WeightKind::kDense)
    return "the weights are quantised";
  if (a.x.cols % 8 != 0) return fmt::format("the hidden size, {}, is no multiple of 8", a.x.cols);
  if (a.ffn % 8 != 0) return fmt::format("the experts' width, {}, is no multiple of 8", a.ffn);
  if (!has_rows_at_16(a.x)) return "rows do not begin at multiples of 16 bytes";
  if (!is_at_16(a.gate_up.data) || !is_at_16(a.down.data))
    return "weights do not begin at multiples of 16 bytes";
  if (a.experts > kMostExperts) return fmt::format("{} experts are more than {}", a.experts, kMostExperts);
  return "";
}

std::string why_not_hopper(const ExpertsGradArgs& g, const device::CudaCard& card) {
  if (std::string why = why_not_hopper(g.forward, card); !why.empty()) return why;
  // of another dtype it is rounded to rows of our own
  if (g.dy.dtype == DType::kBF16 && !has_rows_at_16(g.dy))
    return "rows of dy do not begin at multiples of 16 bytes";
  return "";
}

}  // namespace hone::kernels::cuda
