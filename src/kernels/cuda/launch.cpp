#include "kernels/cuda/launch.cuh"

#include <cstdlib>
#include <string_view>

#include "base/dtype.h"
#include "base/error.h"
#include "device/cuda/check.h"

namespace hone::kernels::cuda {

void check_launch(const char* kernel, cudaError_t status) {
  HONE_CHECK(status == cudaSuccess, "[cuda] {}: {}, {}", kernel, cudaGetErrorName(status),
             cudaGetErrorString(status));
}

bool may_come_early(const void* kernel) {
  const char* asked = std::getenv("HONE_CUDA_PDL");
  if (asked != nullptr && std::string_view(asked) == "0") return false;
  thread_local int known_card = -1;
  thread_local bool known = false;
  int card = 0;
  check_launch("cudaGetDevice", cudaGetDevice(&card));
  if (card != known_card) {
    // Not the card's capability: a newer card also runs code for an older one, which does not wait.
    cudaFuncAttributes attributes{};
    check_launch("cudaFuncGetAttributes", cudaFuncGetAttributes(&attributes, kernel));
    known = attributes.ptxVersion >= 90;
    known_card = card;
  }
  return known;
}

void wait_if_asked(const char* kernel, cudaStream_t stream) {
  if (device::cuda::is_synchronous()) check_launch(kernel, cudaStreamSynchronize(stream));
}

void check_row_dtype(DType dtype) {
  HONE_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "[kernels.cuda] {} is no dtype of rows",
             name_of(dtype));
}

}  // namespace hone::kernels::cuda
