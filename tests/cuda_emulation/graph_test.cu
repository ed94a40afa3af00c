// Captures and graphs of the emulator: what is captured, what a launch does, and what CUDA refuses meanwhile.
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/launch.cuh"

namespace hone::kernels::cuda {
namespace {

using testing::HasSubstr;

__global__ void times_and_plus(int* p, int factor, int term) {
  begin_kernel();
  *p = *p * factor + term;
}
__global__ void add_to(int* to, const int* from) {
  begin_kernel();
  *to += *from;
}

class Graphs : public testing::Test {
 protected:
  Graphs() {
    cudaStreamCreateWithFlags(&one_, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&two_, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&other_, cudaEventDisableTiming);
    for (int** p : {&a_, &b_}) {
      void* memory = nullptr;
      cudaMallocManaged(&memory, sizeof(int));
      *p = static_cast<int*>(memory);
      **p = 1;
    }
  }
  ~Graphs() override {
    cudaDeviceReset();
    cudaFree(a_);
    cudaFree(b_);
    cudaEventDestroy(event_);
    cudaEventDestroy(other_);
    cudaStreamDestroy(one_);
    cudaStreamDestroy(two_);
  }
  /// What `work` puts into stream one and those that it joins, ready to be launched; null where it cannot be
  /// captured, for a reason that is in status_.
  cudaGraphExec_t capture(const std::function<void()>& work,
                          cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    EXPECT_EQ(cudaStreamBeginCapture(one_, mode), cudaSuccess);
    work();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    status_ = cudaStreamEndCapture(one_, &graph);
    if (status_ != cudaSuccess) {
      EXPECT_EQ(graph, nullptr);
      (void)cudaGetLastError();
      return nullptr;
    }
    EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes_), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return exec;
  }

  cudaStream_t one_ = nullptr, two_ = nullptr;
  cudaEvent_t event_ = nullptr, other_ = nullptr;
  int *a_ = nullptr, *b_ = nullptr;
  cudaError_t status_ = cudaSuccess;
  std::size_t nodes_ = 0;
};

TEST_F(Graphs, DoTheirWorkAtEachLaunchWithTheArgumentsOfTheCapture) {
  int factor = 2;
  const auto exec = capture([&] {
    HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, factor, 0);
    factor = 100;
    HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 1, 3);
    cudaMemcpyAsync(b_, a_, sizeof(int), cudaMemcpyDeviceToDevice, one_);
    cudaMemsetAsync(a_, 0, 1, one_);
  });
  ASSERT_NE(exec, nullptr);
  EXPECT_EQ(nodes_, 4U);
  cudaStreamSynchronize(one_);
  EXPECT_EQ(*a_, 1);  // nothing was done yet
  for (const int start : {5, 1000}) {
    *a_ = start;
    EXPECT_EQ(cudaGraphLaunch(exec, one_), cudaSuccess);
    cudaStreamSynchronize(one_);
    EXPECT_EQ(*b_, 2 * start + 3);
    EXPECT_EQ(*a_, (2 * start + 3) & ~255);
  }
  *a_ = 7;
  cudaGraphLaunch(exec, one_);
  cudaGraphExecDestroy(exec);  // what is on its way is done
  cudaStreamSynchronize(one_);
  EXPECT_EQ(*b_, 17);
}

TEST_F(Graphs, KeepForksAndJoinsAndDrawAnOrderAmongThem) {
  bool first = false, second = false;
  const auto exec = capture([&] {
    HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 0, 10);
    cudaEventRecord(event_, one_);
    EXPECT_EQ(cudaStreamWaitEvent(two_, event_), cudaSuccess);
    HONE_LAUNCH(times_and_plus, 1, 1, 0, two_, a_, 1, 5);  // before or after the next: nothing says which
    HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 2, 0);
    cudaEventRecord(other_, two_);
    EXPECT_EQ(cudaStreamWaitEvent(one_, other_), cudaSuccess);
    HONE_LAUNCH(add_to, 1, 1, 0, one_, b_, a_);
  });
  ASSERT_NE(exec, nullptr);
  for (int i = 0; i < 40; ++i) {
    *b_ = 0;
    cudaGraphLaunch(exec, one_);
    cudaStreamSynchronize(one_);
    first = first || *b_ == 30;
    second = second || *b_ == 25;
    EXPECT_TRUE(*b_ == 30 || *b_ == 25) << *b_;
  }
  EXPECT_TRUE(first && second);
  cudaGraphExecDestroy(exec);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(Graphs, AreNotMadeOfWorkThatIsNotJoined) {
  EXPECT_EQ(capture([&] {
              cudaEventRecord(event_, one_);
              cudaStreamWaitEvent(two_, event_);
              HONE_LAUNCH(times_and_plus, 1, 1, 0, two_, a_, 1, 5);
            }),
            nullptr);
  EXPECT_EQ(status_, cudaErrorStreamCaptureUnjoined);
  // Both streams are as before.
  HONE_LAUNCH(times_and_plus, 1, 1, 0, two_, a_, 1, 5);
  cudaStreamSynchronize(two_);
  EXPECT_EQ(*a_, 6);
  // A fork that nothing was put into needs no join.
  const auto exec = capture([&] {
    HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 1, 5);
    cudaEventRecord(event_, one_);
    cudaStreamWaitEvent(two_, event_);
  });
  EXPECT_NE(exec, nullptr);
  cudaGraphExecDestroy(exec);
}

TEST_F(Graphs, RefuseWhatCouldWaitForTheCardMeanwhile) {
  void *device = nullptr, *pinned = nullptr;
  cudaMalloc(&device, 4);
  cudaMallocHost(&pinned, 4);
  cudaEventRecord(other_, two_);
  const struct {
    const char* name;
    std::function<cudaError_t()> call;
    cudaError_t want;
  } calls[] = {
      {"cudaMalloc",
       [] {
         void* p;
         return cudaMalloc(&p, 4);
       },
       cudaErrorStreamCaptureUnsupported},
      {"cudaMallocAsync",
       [&] {
         void* p;
         return cudaMallocAsync(&p, 4, one_);
       },
       cudaErrorStreamCaptureUnsupported},
      {"cudaFree", [&] { return cudaFree(device); }, cudaErrorStreamCaptureUnsupported},
      {"cudaMallocHost",
       [] {
         void* p;
         return cudaMallocHost(&p, 4);
       },
       cudaErrorStreamCaptureUnsupported},
      {"cudaMemcpy", [&] { return cudaMemcpy(a_, b_, 4, cudaMemcpyDefault); },
       cudaErrorStreamCaptureUnsupported},
      {"cudaStreamSynchronize", [&] { return cudaStreamSynchronize(one_); },
       cudaErrorStreamCaptureUnsupported},
      {"of another stream", [&] { return cudaStreamSynchronize(two_); }, cudaErrorStreamCaptureUnsupported},
      {"cudaStreamQuery", [&] { return cudaStreamQuery(one_); }, cudaErrorStreamCaptureUnsupported},
      {"cudaDeviceSynchronize", [] { return cudaDeviceSynchronize(); }, cudaErrorStreamCaptureUnsupported},
      {"cudaEventQuery", [&] { return cudaEventQuery(other_); }, cudaErrorStreamCaptureUnsupported},
      {"cudaEventSynchronize", [&] { return cudaEventSynchronize(other_); },
       cudaErrorStreamCaptureUnsupported},
      {"an event from outside", [&] { return cudaStreamWaitEvent(one_, other_); },
       cudaErrorStreamCaptureIsolation},
  };
  for (const auto& [name, call, want] : calls) {
    const auto exec = capture([&] {
      HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 1, 5);
      EXPECT_EQ(call(), want) << name;
      cudaStreamCaptureStatus capturing{};
      cudaStreamIsCapturing(one_, &capturing);
      EXPECT_EQ(capturing, cudaStreamCaptureStatusInvalidated) << name;
    });
    EXPECT_EQ(exec, nullptr) << name;
    EXPECT_EQ(status_, cudaErrorStreamCaptureInvalidated) << name;
  }
  // What a relaxed capture may do, and another thread.
  const auto malloc_and_free = [] {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, 4), cudaSuccess);
    EXPECT_EQ(cudaFree(p), cudaSuccess);
  };
  const auto relaxed = capture(malloc_and_free, cudaStreamCaptureModeRelaxed);
  const auto local = capture([&] { std::thread(malloc_and_free).join(); });
  EXPECT_NE(relaxed, nullptr);
  EXPECT_NE(local, nullptr);
  cudaGraphExecDestroy(relaxed);
  cudaGraphExecDestroy(local);
  cudaFree(device);
  cudaFreeHost(pinned);
}

TEST_F(Graphs, EventsOfACaptureMarkNothingOutside) {
  const auto exec = capture([&] {
    cudaEventRecord(event_, one_);
    EXPECT_EQ(cudaEventQuery(event_), cudaErrorCapturedEvent);
    EXPECT_EQ(cudaEventSynchronize(event_), cudaErrorCapturedEvent);
  });
  EXPECT_NE(exec, nullptr);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaStreamWaitEvent(two_, event_), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventRecordWithFlags(event_, one_, cudaEventRecordExternal), cudaErrorInvalidValue);
  cudaEventRecord(event_, one_);
  cudaStreamSynchronize(one_);
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
  cudaGraphExecDestroy(exec);
  (void)cudaGetLastError();
}

TEST_F(Graphs, RecordExternalEventsWhenTheyRun) {
  ::setenv("HONE_CUDA_EMULATED_CLOCK", "1", 1);
  cudaEvent_t begin = nullptr, end = nullptr;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  const auto exec = capture([&] {
    cudaEventRecordWithFlags(begin, one_, cudaEventRecordExternal);
    HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 1, 5);
    HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 1, 5);
    cudaEventRecordWithFlags(end, one_, cudaEventRecordExternal);
  });
  float ms = -1;
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaErrorInvalidValue);  // never launched
  cudaGraphLaunch(exec, one_);
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaSuccess);
  EXPECT_GT(ms, 0);
  cudaGraphExecDestroy(exec);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  ::unsetenv("HONE_CUDA_EMULATED_CLOCK");
  (void)cudaGetLastError();
}

TEST_F(Graphs, TakeOtherEventsForLaunchesToCome) {
  cudaEvent_t first = nullptr, second = nullptr;
  cudaEventCreate(&first);
  cudaEventCreate(&second);
  ASSERT_EQ(cudaStreamBeginCapture(one_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  HONE_LAUNCH(times_and_plus, 1, 1, 0, one_, a_, 1, 5);
  cudaEventRecordWithFlags(first, one_, cudaEventRecordExternal);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(one_, &graph), cudaSuccess);
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  cudaGraphNode_t nodes[2] = {};
  std::size_t count = 2;
  ASSERT_EQ(cudaGraphGetNodes(graph, nodes, &count), cudaSuccess);
  cudaGraphNodeType types[2] = {};
  for (int i = 0; i < 2; ++i) cudaGraphNodeGetType(nodes[i], &types[i]);
  EXPECT_EQ(types[0], cudaGraphNodeTypeKernel);
  EXPECT_EQ(types[1], cudaGraphNodeTypeEventRecord);
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaGraphEventRecordNodeGetEvent(nodes[0], &event), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGraphEventRecordNodeGetEvent(nodes[1], &event), cudaSuccess);
  EXPECT_EQ(event, first);

  cudaGraphLaunch(exec, one_);
  EXPECT_EQ(cudaGraphExecEventRecordNodeSetEvent(exec, nodes[0], second), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGraphExecEventRecordNodeSetEvent(exec, nodes[1], second), cudaSuccess);
  cudaGraphLaunch(exec, one_);
  EXPECT_EQ(cudaEventSynchronize(first), cudaSuccess);
  EXPECT_EQ(*a_, 6);  // of the first launch alone: the event was not recorded again
  EXPECT_EQ(cudaEventSynchronize(second), cudaSuccess);
  EXPECT_EQ(*a_, 11);
  cudaGraphDestroy(graph);
  EXPECT_EQ(cudaGraphExecEventRecordNodeSetEvent(exec, nodes[1], first), cudaErrorInvalidValue);
  cudaGraphExecDestroy(exec);
  cudaEventDestroy(first);
  cudaEventDestroy(second);
  (void)cudaGetLastError();
}

TEST_F(Graphs, AreCheckedWhenTheyRun) {
  void* device = nullptr;
  cudaMalloc(&device, 4);
  const auto exec = capture([&] {
    cudaMemsetAsync(device, 0, 4, one_);
    HONE_LAUNCH(add_to, 1, 1, 0, one_, a_, static_cast<int*>(device));
  });
  cudaGraphLaunch(exec, one_);
  EXPECT_EQ(cudaStreamSynchronize(one_), cudaSuccess);
  EXPECT_EQ(*a_, 1);
  cudaFree(device);
  cudaGraphLaunch(exec, one_);
  EXPECT_EQ(cudaStreamSynchronize(one_), cudaErrorIllegalAddress);
  EXPECT_THAT(cuda_emulation::last_report(), HasSubstr("outside of what is allocated"));
  cudaGraphExecDestroy(exec);
}

}  // namespace
}  // namespace hone::kernels::cuda
