// Every slot that there is a CUDA kernel of, over the cases of tests/kernels, against the reference, in
// the emulator.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "device/stream.h"
#include "kernels/cuda/register.h"
#include "tests/cuda_emulation/card_cases.h"

namespace hone::test {
namespace {

void* take(std::size_t size) {
  void* memory = nullptr;
  HONE_CHECK(cudaMallocManaged(&memory, size) == cudaSuccess, "no {} bytes", size);
  return memory;
}
void settle() {
  const cudaError_t status = cudaDeviceSynchronize();
  EXPECT_EQ(status, cudaSuccess) << cudaGetErrorString(status);
}

void forbid(const void* from, std::size_t size) {
  cuda_emulation::forbid(from, size);
}

std::vector<std::string> slots_here() {
  std::vector<std::string> names;
  KernelTable table = kernels::cuda_kernels();
  kernels::for_each_slot(table, [&](std::string_view name, auto kernel) {
    if (kernel != nullptr) names.emplace_back(name);
  });
  return names;
}

class CudaKernels : public testing::TestWithParam<std::string> {
 protected:
  CudaKernels() {
    ::setenv("HONE_GUARDED", "1",
             1);  // each buffer is its own allocation, whose ends and first reads are checked
    arena_memory = {take, [](void* p) { cudaFree(p); }, settle, forbid};
  }
  ~CudaKernels() override { arena_memory = of_host_; }

 private:
  const ArenaMemory of_host_ = arena_memory;
};

TEST_P(CudaKernels, AgreeWithTheReference) {
  const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
  device::CpuStream host = make_stream(2);
  const auto card = device::make_stream({device::DeviceType::kCuda, 0});
  Stream& stream = *card;
  int cases = 0;
  for (const Case& c : card_cases()) {
    if (c.slot != GetParam()) continue;
    ++cases;
    const Outputs got = c.run(kernels::cuda_kernels(), stream);
    ASSERT_FALSE(HasFailure()) << c.name;  // a device that has caught something does no more
    expect_near(got, c.run(reference, host), c.name);
    stream.release_workspaces();
    if (cases % 8 == 0) expect_equal(c.run(kernels::cuda_kernels(), stream), got, c.name + ", again");
  }
  EXPECT_GT(cases, 0);
}

INSTANTIATE_TEST_SUITE_P(EverySlot, CudaKernels, testing::ValuesIn(slots_here()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hone::test
