// Every slot that there is a CUDA kernel of, over the cases of tests/kernels, against the reference, in
// the emulator.
#include <gtest/gtest.h>

#include "kernels/cuda/register.h"
#include "tests/cuda_emulation/card_cases.h"
#include "tests/cuda_emulation/card_memory.h"

namespace hone::test {
namespace {

std::vector<std::string> slots_here() {
  std::vector<std::string> names;
  KernelTable table = kernels::cuda_kernels();
  kernels::for_each_slot(table, [&](std::string_view name, auto kernel) {
    if (kernel != nullptr) names.emplace_back(name);
  });
  return names;
}

class CudaKernels : public CardMemory, public testing::WithParamInterface<std::string> {};

TEST_P(CudaKernels, AgreeWithTheReference) {
  const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
  device::CpuStream host = make_stream(2);
  int cases = 0;
  for (const Case& c : card_cases()) {
    if (c.slot != GetParam()) continue;
    ++cases;
    const Outputs got = c.run(kernels::cuda_kernels(), card());
    ASSERT_FALSE(HasFailure()) << c.name;  // a device that has caught something does no more
    expect_near(got, c.run(reference, host), c.name);
    card().release_workspaces();
    if (cases % 8 == 0) expect_equal(c.run(kernels::cuda_kernels(), card()), got, c.name + ", again");
  }
  EXPECT_GT(cases, 0);
}

INSTANTIATE_TEST_SUITE_P(EverySlot, CudaKernels, testing::ValuesIn(slots_here()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hone::test
