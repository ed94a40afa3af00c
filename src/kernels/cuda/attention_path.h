// Which kernels make attention's gradient: those of compute capability 9.0 (attention_grad_hopper.cuh), or
// those that run on all cards (attention_grad_keys.cu, attention_grad_queries.cu).
#pragma once

#include <string>

#include "device/cuda_device.h"
#include "kernels/kernels.h"

namespace hone::kernels::cuda {

/// "" where such a card and this build have the kernels of compute capability 9.0 and they take this, else
/// why not: hopper_refusal (cuts.h), or what why_not_hopper(card) says (experts_path.h).
std::string why_not_hopper(const AttentionGradArgs& g, const device::CudaCard& card);

}  // namespace hone::kernels::cuda
