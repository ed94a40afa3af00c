// Graphs of NVIDIA cards, captured from a stream (CUDA programming guide, "CUDA Graphs").
#include <algorithm>
#include <optional>
#include <utility>

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

/// A cudaGraph_t.
class OwnedGraph {
 public:
  explicit OwnedGraph(cudaGraph_t graph = nullptr) : graph_(graph) {}
  ~OwnedGraph() {
    if (graph_ != nullptr) (void)cudaGraphDestroy(graph_);
  }
  OwnedGraph(OwnedGraph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  OwnedGraph& operator=(OwnedGraph&&) = delete;

  cudaGraph_t get() const { return graph_; }
  std::vector<cudaGraphNode_t> nodes() const {
    std::size_t count = 0;
    check(cudaGraphGetNodes(graph_, nullptr, &count), "cudaGraphGetNodes");
    std::vector<cudaGraphNode_t> nodes(count);
    check(cudaGraphGetNodes(graph_, nodes.data(), &count), "cudaGraphGetNodes");
    return nodes;
  }

 private:
  cudaGraph_t graph_;
};

/// A cudaGraphExec_t, and its nodes that keep the time.
class Executable {
 public:
  Executable(OwnedGraph graph, std::vector<std::shared_ptr<CudaTimedEvent>> times)
      : graph_(std::move(graph)) {
    const auto nodes = graph_.nodes();
    size_ = nodes.size();
    for (const cudaGraphNode_t node : nodes) {
      cudaGraphNodeType type{};
      check(cudaGraphNodeGetType(node, &type), "cudaGraphNodeGetType");
      if (type != cudaGraphNodeTypeEventRecord) continue;
      cudaEvent_t event = nullptr;
      check(cudaGraphEventRecordNodeGetEvent(node, &event), "cudaGraphEventRecordNodeGetEvent");
      const auto of = std::ranges::find(times, event, &CudaTimedEvent::get);
      if (of != times.end()) times_.emplace_back(node, *of);
    }
    check(cudaGraphInstantiate(&exec_, graph_.get(), 0), "cudaGraphInstantiate");
  }
  ~Executable() { (void)cudaGraphExecDestroy(exec_); }
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  void launch(cudaStream_t stream) {
    for (const auto& [node, time] : times_)
      if (time->begin_launch())
        check(cudaGraphExecEventRecordNodeSetEvent(exec_, node, time->get()),
              "cudaGraphExecEventRecordNodeSetEvent");
    check(cudaGraphLaunch(exec_, stream), "cudaGraphLaunch");
  }
  std::size_t size() const { return size_; }

 private:
  OwnedGraph graph_;  // whose nodes are named where the executable is changed
  cudaGraphExec_t exec_ = nullptr;
  std::size_t size_ = 0;
  std::vector<std::pair<cudaGraphNode_t, std::shared_ptr<CudaTimedEvent>>> times_;
};

class CudaGraph final : public Graph {
 public:
  CudaGraph(CudaStream& stream, OwnedGraph graph, std::vector<std::shared_ptr<CudaTimedEvent>> times,
            BlockPool::Capture memory)
      : stream_(stream),
        executable_(std::move(graph), std::move(times)),
        memory_(std::move(memory)),
        scratch_generation_(stream.scratch_generation()) {
    for (const auto& block : memory_.in_use)
      held_.emplace_back(static_cast<const std::byte*>(block.data), block.size);
  }

  bool is_ready() const override {
    return stream_.scratch_generation() == scratch_generation_ && pool_of(stream_)->are_kept(memory_.kept);
  }
  void launch() override {
    HONE_CHECK(is_ready(), "a graph whose memory is in use");
    use_device(stream_.card().index);
    executable_.launch(stream_.handle());
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
    stream_.captured_times().clear();
    pool_.begin_capture();
  }
  ~Capturing() {
    if (!is_over_) (void)end();
    stream_.captured_times().clear();
  }
  Capturing(const Capturing&) = delete;
  Capturing& operator=(const Capturing&) = delete;

  cudaError_t end() {
    is_over_ = true;
    memory = pool_.end_capture();
    cudaGraph_t captured = nullptr;
    const cudaError_t status = cudaStreamEndCapture(stream_.handle(), &captured);
    if (status != cudaSuccess) (void)cudaGetLastError();  // which is told here
    graph.emplace(captured);
    return status;
  }

  BlockPool::Capture memory;        // of end()
  std::optional<OwnedGraph> graph;  // of end()

 private:
  CudaStream& stream_;
  BlockPool& pool_;
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
      return {.graph = std::make_unique<CudaGraph>(ours, std::move(*capturing.graph),
                                                   std::exchange(ours.captured_times(), {}),
                                                   std::move(capturing.memory))};
    } catch (const Error& error) {  // a card without memory for it
      (void)cudaGetLastError();
      why = error.what();
      break;
    }
  }
  return {.graph = nullptr, .why_none = why};
}

}  // namespace hone::device
