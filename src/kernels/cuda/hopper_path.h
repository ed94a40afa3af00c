// Whether kernels of compute capability 9.0 do a slot's work (expert_rows_hopper.cuh,
// expert_weights_hopper.cuh, rows_e4m3.cuh, attention_grad_hopper.cuh), or those that run on all cards.
#pragma once

#include <string>

#include "device/cuda_device.h"
#include "kernels/kernels.h"

namespace hone::kernels::cuda {

/// "" where such a card and this build have the kernels of compute capability 9.0, else why not.
/// HONE_CUDA_PATHS=portable: it asks for the others.
std::string why_not_hopper(const device::CudaCard& card);
/// "" where they take this, too. They want bf16, dense weights, widths that are multiples of 8 and data at
/// multiples of 16 bytes.
std::string why_not_hopper(const ExpertsArgs& a, const device::CudaCard& card);
std::string why_not_hopper(const ExpertsGradArgs& g, const device::CudaCard& card);
/// The same of attention's gradient: bf16, heads of a multiple of 8 up to 128, and rows at multiples of 16
/// bytes.
std::string why_not_hopper(const AttentionGradArgs& g, const device::CudaCard& card);

}  // namespace hone::kernels::cuda
