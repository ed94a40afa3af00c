// What an NVIDIA card can do at most: kernels/peak.h of cards. In a build without CUDA these fail by name.
#pragma once

#include "kernels/peak.h"

namespace hone::kernels {

// Throw Error(kUser) where the card cannot be used.
DeviceDescription describe_card(device::Device card);
/// By the largest product that helps, through the `matmul` slot: what steps can come near to, not what is
/// printed on the box. 0: cannot be measured (the emulator).
ComputePeak measure_card_compute(device::Device card);
/// Over arrays of 256 MiB: beyond the second-level cache. 0: cannot be measured.
MemoryPeak measure_card_memory(device::Device card);

}  // namespace hone::kernels
