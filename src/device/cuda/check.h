// Calls of the CUDA runtime. For device/cuda and kernels/cuda alone: no other header knows CUDA's.
#pragma once

#include <cuda_runtime_api.h>

#include "device/cuda_device.h"

namespace hone::device::cuda {

/// Throws where a call failed: Error(kUser) for what the machine lacks (no driver or an old one, no such
/// card, a card that is gone or taken), with what to do; else Error(kInternal), "[cuda] WHAT: NAME, TEXT".
/// What a kernel did wrong shows at a later call: HONE_CUDA_SYNC=1 (kernels/cuda/launch.cuh) waits for each.
void check(cudaError_t status, const char* what);

/// Makes `index` the calling thread's device, where it is not.
void use_device(int index);

/// Throws Error(kUser) where there is no such card, or one that hone cannot use.
CudaCard find_card(int index);

/// Whether HONE_CUDA_SYNC is 1: each kernel is waited for, so that what it does wrong is told by its name.
bool is_synchronous();

/// "13.0" of 13000.
std::string version_text(int version);

}  // namespace hone::device::cuda
