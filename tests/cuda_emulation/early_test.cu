// Kernels that come to the card before the one before them is done (kernels/cuda/launch.cuh): what the
// emulator says of those that touch memory too soon, or end without having waited.
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace hone::kernels::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class EarlyKernels : public testing::Test {
 protected:
  EarlyKernels() {
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    void* memory = nullptr;
    cudaMallocManaged(&memory, 256 * sizeof(float));
    numbers_ = static_cast<float*>(memory);
    std::fill(numbers_, numbers_ + 256, 1.0F);
  }
  ~EarlyKernels() override {
    cudaDeviceReset();
    cudaFree(numbers_);
    cudaStreamDestroy(stream_);
  }
  /// Runs what was launched; what was caught, "" if nothing.
  std::string outcome() {
    if (cudaStreamSynchronize(stream_) == cudaSuccess) return "";
    cudaDeviceReset();
    return cuda_emulation::last_report();
  }

  cudaStream_t stream_ = nullptr;
  float* numbers_ = nullptr;
};

enum class Bug {
  kNone,
  kReads,       // before the wait
  kWrites,      // before the wait
  kAdds,        // before the wait, atomically
  kCopies,      // before the wait, by cp.async
  kOneWaits,    // and tells the others by a barrier
  kOneLeaves,   // a block, without having waited
  kAllLeave,    // without having waited
  kNeverWaits,  // and touches nothing
};
__global__ void add_one(float* p, Bug bug) {
  HONE_SHARED(float, own, [64]);
  let_next_kernel_in();
  const auto i = blockIdx.x * blockDim.x + threadIdx.x;
  own[threadIdx.x] = 1;  // what is the block's own may be set up before
  if (bug == Bug::kReads) own[threadIdx.x] = p[i];
  if (bug == Bug::kWrites) p[i] = 0;
  if (bug == Bug::kAdds) atomicAdd(p + i, 1.0F);
  if (bug == Bug::kCopies) copy_async_4(own + threadIdx.x, p + i, 4);
  if (bug == Bug::kAllLeave || (bug == Bug::kOneLeaves && blockIdx.x == 1)) return;
  if (bug != Bug::kNeverWaits && (bug != Bug::kOneWaits || threadIdx.x == 0)) wait_for_kernels_before();
  __syncthreads();
  if (bug != Bug::kNeverWaits) p[i] += own[threadIdx.x ^ 1];
}

TEST_F(EarlyKernels, MaySetUpWhatIsTheirOwnAndThenWait) {
  for (int i = 0; i < 3; ++i) HONE_LAUNCH(add_one, 4, 64, 0, stream_, numbers_, Bug::kNone);
  ASSERT_EQ(outcome(), "");
  for (int i = 0; i < 256; ++i) ASSERT_EQ(numbers_[i], 4.0F) << i;
}
TEST_F(EarlyKernels, ThatTouchMemoryTooSoonAreCaughtByName) {
  const auto caught = [&](Bug bug) {
    HONE_LAUNCH(add_one, 4, 64, 0, stream_, numbers_, bug);
    return outcome();
  };
  const auto too_soon = [](const char* what) {
    return AllOf(HasSubstr("add_one, block ("), HasSubstr(what), HasSubstr("before griddepcontrol.wait"));
  };
  EXPECT_THAT(caught(Bug::kReads), too_soon("read of 4 bytes at global memory"));
  EXPECT_THAT(caught(Bug::kWrites), too_soon("write of 4 bytes at global memory"));
  EXPECT_THAT(caught(Bug::kAdds), too_soon("atomic of 4 bytes at global memory"));
  EXPECT_THAT(caught(Bug::kCopies), too_soon("read of 4 bytes at global memory"));
  EXPECT_THAT(caught(Bug::kOneWaits), too_soon("read of 4 bytes at global memory"));
  EXPECT_EQ(caught(Bug::kNone), "");
}
TEST_F(EarlyKernels, MayNotEndWithoutHavingWaited) {
  for (const Bug bug : {Bug::kOneLeaves, Bug::kAllLeave, Bug::kNeverWaits}) {
    HONE_LAUNCH(add_one, 4, 64, 0, stream_, numbers_, bug);
    const std::string what = outcome();
    EXPECT_THAT(what, AllOf(HasSubstr("add_one, block ("), HasSubstr("ends without griddepcontrol.wait")));
    EXPECT_THAT(what, HasSubstr(bug == Bug::kOneLeaves ? "block (1, 0, 0)" : ""));
  }
}
TEST_F(EarlyKernels, AreCaughtInGraphsToo) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  HONE_LAUNCH(add_one, 1, 64, 0, stream_, numbers_, Bug::kNone);
  HONE_LAUNCH(add_one, 1, 64, 0, stream_, numbers_, Bug::kReads);
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
  EXPECT_THAT(outcome(), HasSubstr("before griddepcontrol.wait"));
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

__global__ void box_too_soon(const __grid_constant__ CUtensorMap map, bool waits) {
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  HONE_SHARED(std::uint64_t, barrier, [1]);
  if (threadIdx.x == 0) {
    init_mbarrier(barrier, 1);
    fence_mbarriers();
    arrive_expecting(barrier, 4 * 128);
  }
  if (waits) wait_for_kernels_before();
  if (threadIdx.x == 0) load_box(memory, map, barrier, 0, 0);
  __syncthreads();
  wait_for_kernels_before();
  wait_for(barrier, 0);
}
TEST_F(EarlyKernels, MayNotFetchByTmaBefore) {
  CUtensorMap map{};
  const cuuint64_t dims[2] = {64, 4}, stride = 128;
  const cuuint32_t box[2] = {64, 4}, ones[2] = {1, 1};
  ASSERT_EQ(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, numbers_, dims, &stride, box,
                                   ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                   CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            CUDA_SUCCESS);
  HONE_LAUNCH(box_too_soon, 1, 32, 1024, stream_, map, true);  // the map is a parameter: no global memory
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(box_too_soon, 1, 32, 1024, stream_, map, false);
  EXPECT_THAT(outcome(), HasSubstr("TMA of global memory before griddepcontrol.wait"));
}

TEST_F(EarlyKernels, ComeInTheirTurnWhereTheyAreAskedTo) {
  ::setenv("HONE_CUDA_PDL", "0", 1);
  HONE_LAUNCH(add_one, 4, 64, 0, stream_, numbers_, Bug::kReads);
  HONE_LAUNCH(add_one, 4, 64, 0, stream_, numbers_, Bug::kAllLeave);
  ::unsetenv("HONE_CUDA_PDL");
  EXPECT_EQ(outcome(), "");
  HONE_LAUNCH(add_one, 4, 64, 0, stream_, numbers_, Bug::kAllLeave);
  EXPECT_NE(outcome(), "");
}

}  // namespace
}  // namespace hone::kernels::cuda
