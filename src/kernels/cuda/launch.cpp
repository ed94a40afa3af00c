#include "kernels/cuda/launch.cuh"

#include "base/dtype.h"
#include "base/error.h"
#include "device/cuda/check.h"

namespace hone::kernels::cuda {

void check_launch(const char* kernel, cudaError_t status) {
  HONE_CHECK(status == cudaSuccess, "[cuda] {}: {}, {}", kernel, cudaGetErrorName(status),
             cudaGetErrorString(status));
}

void wait_if_asked(const char* kernel, cudaStream_t stream) {
  if (device::cuda::is_synchronous()) check_launch(kernel, cudaStreamSynchronize(stream));
}

void check_row_dtype(DType dtype) {
  HONE_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "[kernels.cuda] {} is no dtype of rows",
             name_of(dtype));
}

}  // namespace hone::kernels::cuda
