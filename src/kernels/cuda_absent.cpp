// In place of kernels/cuda where hone is built without CUDA.
#include "base/error.h"
#include "device/cuda_device.h"
#include "kernels/card_work.h"
#include "kernels/cuda/card.h"
#include "kernels/cuda/register.h"

namespace hone::kernels {

namespace {
[[noreturn]] void fail_without_cuda() {
  fail("device cuda: {}", device::cuda_report().why_none);
}
}  // namespace

const KernelTable& cuda_kernels() {
  fail_without_cuda();
}
DeviceDescription describe_card(device::Device) {
  fail_without_cuda();
}
CardTarget target_of(device::Device) {
  fail_without_cuda();
}
ComputePeak measure_card_compute(device::Device) {
  fail_without_cuda();
}
MemoryPeak measure_card_memory(device::Device) {
  fail_without_cuda();
}

// Only the kernels know what they take; forecasts for cards go without.
#define HONE_SLOT(name, ArgsOf)                    \
  std::int64_t cuda_scratch_bytes(const ArgsOf&) { \
    return 0;                                      \
  }
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

}  // namespace hone::kernels
