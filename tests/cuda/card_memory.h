// Tests of kernels on a card, a real one or the emulated one.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "device/stream.h"
#include "tests/cuda/checks.h"
#include "tests/kernels/arena.h"

namespace hone::test {

/// While it lives, arenas have memory that the card reaches; it has a stream of the card.
class CardMemory : public testing::Test {
 protected:
  CardMemory() {
    // each buffer is its own allocation, whose ends and first reads are checked
    ::setenv("HONE_GUARDED", "1", 1);
    arena_memory = {take, [](void* p) { cudaFree(p); }, settle, forbid_on_card, forget_on_card};
    card_ = device::make_stream({device::DeviceType::kCuda, 0});
  }
  ~CardMemory() override { arena_memory = of_host_; }

  device::Stream& card() { return *card_; }

 private:
  static void* take(std::size_t size) {
    void* memory = nullptr;
    HONE_CHECK(cudaMallocManaged(&memory, size) == cudaSuccess, "no {} bytes", size);
    return memory;
  }
  static void settle() {
    const cudaError_t status = cudaDeviceSynchronize();
    EXPECT_EQ(status, cudaSuccess) << cudaGetErrorString(status);
  }

  const ArenaMemory of_host_ = arena_memory;
  std::unique_ptr<device::Stream> card_;
};

}  // namespace hone::test
