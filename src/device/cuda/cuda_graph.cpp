// Graphs of NVIDIA cards, captured from a stream (CUDA programming guide, "CUDA Graphs").
#include "base/error.h"
#include "device/block_pool.h"
#include "device/cuda/check.h"
#include "device/cuda/cuda_stream.h"
#include "device/graph.h"

namespace hone::device {

using cuda::check;
using cuda::use_device;

namespace {

/// Each ends at the first block that is not there: what the step before had in it was larger, and kept for
/// something else.
constexpr int kMostAttempts = 64;

BlockPool* pool_of(const Stream& stream) {
  auto* allocator = dynamic_cast<PoolAllocator*>(&stream.allocator());
  return allocator != nullptr ? &allocator->pool() : nullptr;
}

/// A cudaGraphExec_t.
class Executable {
 public:
  explicit Executable(cudaGraph_t graph) {
    check(cudaGraphGetNodes(graph, nullptr, &size_), "cudaGraphGetNodes");
    check(cudaGraphInstantiate(&exec_, graph, 0), "cudaGraphInstantiate");
  }
  ~Executable() { (void)cudaGraphExecDestroy(exec_); }
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;
  cudaGraphExec_t get() const { return exec_; }
  std::size_t size() const { return size_; }

 private:
  cudaGraphExec_t exec_ = nullptr;
  std::size_t size_ = 0;
};

class CudaGraph final : public Graph {
 public:
  CudaGraph(CudaStream& stream, cudaGraph_t graph, BlockPool::Capture memory)
      : stream_(stream),
        executable_(graph),
        memory_(std::move(memory)),
        scratch_generation_(stream.scratch_generation()) {
    for (const auto& block : memory_.in_use)
      held_.emplace_back(static_cast<const std::byte*>(block.data), block.size);
  }

  bool launch() override {
    if (stream_.scratch_generation() != scratch_generation_) return false;
    if (!pool_of(stream_)->are_kept(memory_.kept)) return false;
    use_device(stream_.card().index);
    check(cudaGraphLaunch(executable_.get(), stream_.handle()), "cudaGraphLaunch");
    return true;
  }
  std::size_t size() const override { return executable_.size(); }
  std::span<const std::span<const std::byte>> held() const override { return held_; }

 private:
  CudaStream& stream_;
  Executable executable_;
  BlockPool::Capture memory_;
  std::uint64_t scratch_generation_;
  std::vector<std::span<const std::byte>> held_;
};

/// A capture that goes on, of stream and pool; ends with its scope.
class Capturing {
 public:
  Capturing(CudaStream& stream, BlockPool& pool) : stream_(stream), pool_(pool) {
    // This thread's calls are held to what a capture allows; another thread may allocate meanwhile.
    check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    pool_.begin_capture();
  }
  ~Capturing() {
    if (!is_over_) (void)end();
    if (graph_ != nullptr) (void)cudaGraphDestroy(graph_);
  }
  Capturing(const Capturing&) = delete;
  Capturing& operator=(const Capturing&) = delete;

  cudaError_t end() {
    is_over_ = true;
    memory = pool_.end_capture();
    const cudaError_t status = cudaStreamEndCapture(stream_.handle(), &graph_);
    if (status != cudaSuccess) (void)cudaGetLastError();  // which is told here
    return status;
  }
  cudaGraph_t graph() const { return graph_; }

  BlockPool::Capture memory;  // of end()

 private:
  CudaStream& stream_;
  BlockPool& pool_;
  cudaGraph_t graph_ = nullptr;
  bool is_over_ = false;
};

}  // namespace

std::string why_no_cuda_graph(const Stream& stream) {
  if (cuda::is_synchronous()) return "HONE_CUDA_SYNC=1 waits for each kernel";
  if (pool_of(stream) == nullptr) return "HONE_GUARDED=1 gives each buffer an allocation of its own";
  return "";
}

Captured capture_cuda_graph(Stream& stream, const std::function<void()>& work) {
  auto& ours = dynamic_cast<CudaStream&>(stream);
  BlockPool& pool = *pool_of(stream);
  use_device(ours.card().index);
  std::string why;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    Capturing capturing(ours, pool);
    why.clear();
    try {
      work();
    } catch (const Error& error) {
      why = error.what();
    }
    const cudaError_t status = capturing.end();
    if (capturing.memory.missed > 0 && pool.keep_another(capturing.memory.missed)) continue;
    if (why.empty() && status != cudaSuccess)
      why = fmt::format("the capture ended with {}", cudaGetErrorName(status));
    if (!why.empty()) break;
    try {
      return {.graph = std::make_unique<CudaGraph>(ours, capturing.graph(), std::move(capturing.memory))};
    } catch (const Error& error) {  // a card without memory for it
      (void)cudaGetLastError();
      why = error.what();
      break;
    }
  }
  return {.graph = nullptr, .why_none = why};
}

}  // namespace hone::device
