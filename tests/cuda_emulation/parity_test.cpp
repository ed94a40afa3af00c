// Every slot that there is a CUDA kernel of, over the cases of tests/kernels, against the reference, in
// the emulator.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/error.h"
#include "kernels/cuda/register.h"
#include "tests/kernels/cases.h"

namespace hone::test {
namespace {

/// Memory of the device.
class CudaBuffer final : public device::Buffer {
 public:
  CudaBuffer(void* data, std::size_t size) : Buffer({}, data, size) {}
  ~CudaBuffer() override { cudaFree(data_); }
};
class CudaAllocator final : public device::Allocator {
 public:
  std::shared_ptr<device::Buffer> allocate(std::size_t size, device::Purpose) override {
    void* data = nullptr;
    HONE_CHECK(cudaMalloc(&data, size) == cudaSuccess, "no {} bytes", size);
    return std::make_shared<CudaBuffer>(data, size);
  }
  device::MemoryLedger& ledger() override { return ledger_; }
  device::Device device() const override { return {}; }

 private:
  device::MemoryLedger ledger_;
};

/// A CPU's stream whose kernels and scratch memory are a card's: the cases call kernels, and no verbs.
class CudaTestStream final : public device::CpuStream {
 public:
  CudaTestStream() : CpuStream(std::make_shared<CudaAllocator>(), 1) {
    HONE_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess, "no stream");
  }
  ~CudaTestStream() override {
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
  cudaStream_t stream = nullptr;
};

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
    arena_memory = {take, [](void* p) { cudaFree(p); }, settle, forbid};
  }
  ~CudaKernels() override { arena_memory = of_host_; }

 private:
  const ArenaMemory of_host_ = arena_memory;
};

TEST_P(CudaKernels, AgreeWithTheReference) {
  const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
  Stream host = make_stream(2);
  CudaTestStream stream;
  int cases = 0;
  for (const Case& c : all_cases()) {
    if (c.slot != GetParam()) continue;
    ++cases;
    const Outputs got = c.run(kernels::cuda_kernels(), stream);
    ASSERT_FALSE(HasFailure()) << c.name;  // a device that has caught something does no more
    expect_near(got, c.run(reference, host), c.name);
    if (cases % 8 == 0) expect_equal(c.run(kernels::cuda_kernels(), stream), got, c.name + ", again");
  }
  EXPECT_GT(cases, 0);
}

INSTANTIATE_TEST_SUITE_P(EverySlot, CudaKernels, testing::ValuesIn(slots_here()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hone::test

namespace hone::device {

cudaStream_t cuda_stream(const Stream& stream) {
  return dynamic_cast<const test::CudaTestStream&>(stream).stream;
}

}  // namespace hone::device
