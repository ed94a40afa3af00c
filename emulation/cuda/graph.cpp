// Graphs: what is put into streams while one is captured (CUDA programming guide, "CUDA Graphs": stream
// capture), and its launches. A launch runs the nodes one by one in an order drawn among those that the edges
// allow.
#include <algorithm>
#include <thread>

#include "streams.h"

struct CUgraphNode_st {
  std::function<void()> run;    // null: of an event
  CUevent_st* event = nullptr;  // that is recorded here
  std::set<std::size_t> after;  // nodes
};

namespace cuda_emulation {

using Nodes = std::vector<CUgraphNode_st>;

struct Capture {
  cudaStreamCaptureMode mode{};
  std::thread::id thread;
  CUstream_st* origin = nullptr;
  std::vector<CUstream_st*> streams;  // that take part
  Nodes nodes;
  bool invalid = false, ended = false;
};

}  // namespace cuda_emulation

using cuda_emulation::Capture;
using cuda_emulation::Nodes;

struct CUgraph_st {
  int card = 0;
  std::shared_ptr<Nodes> nodes;
};
struct CUgraphExec_st {
  int card = 0;
  std::shared_ptr<const Nodes> nodes;
  std::vector<CUevent_st*> events;    // that its next launch records, of each node; null: of another kind
  std::weak_ptr<const Nodes> graphs;  // of the graph, whose nodes have names as long as it lives
};

namespace cuda_emulation {

namespace {

/// Captures that have not ended. Under the runtime's mutex.
std::vector<std::shared_ptr<Capture>>& ongoing() {
  static auto* kept = new std::vector<std::shared_ptr<Capture>>;
  return *kept;
}

cudaError_t invalidate(Capture& capture, cudaError_t why) {
  capture.invalid = true;
  return note(why);
}

void add(CUstream_st& stream, CUgraphNode_st node) {
  Capture& capture = *stream.capture;
  node.after = stream.last;
  capture.nodes.push_back(std::move(node));
  stream.last = {capture.nodes.size() - 1};
}

/// Whether every node that any stream put in last is one that the origin's last ones come after.
bool is_joined(const Capture& capture) {
  std::vector<bool> reached(capture.nodes.size());
  std::vector<std::size_t> open(capture.origin->last.begin(), capture.origin->last.end());
  while (!open.empty()) {
    const std::size_t at = open.back();
    open.pop_back();
    if (reached[at]) continue;
    reached[at] = true;
    open.insert(open.end(), capture.nodes[at].after.begin(), capture.nodes[at].after.end());
  }
  return std::ranges::all_of(capture.streams, [&](const CUstream_st* stream) {
    return std::ranges::all_of(stream->last, [&](std::size_t node) { return reached[node]; });
  });
}

void run_nodes(const Nodes& nodes) {
  std::vector<std::size_t> waits_for(nodes.size()), ready;
  std::vector<std::vector<std::size_t>> before(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    waits_for[i] = nodes[i].after.size();
    for (const std::size_t node : nodes[i].after) before[node].push_back(i);
    if (waits_for[i] == 0) ready.push_back(i);
  }
  while (!ready.empty() && runtime().sticky == cudaSuccess) {
    std::swap(ready[runtime().random() % ready.size()], ready.back());
    const std::size_t at = ready.back();
    ready.pop_back();
    if (nodes[at].run) nodes[at].run();
    for (const std::size_t next : before[at])
      if (--waits_for[next] == 0) ready.push_back(next);
  }
}

}  // namespace

cudaError_t put_captured(CUstream_st& stream, Operation operation) {
  if (stream.capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
  add(stream, {std::move(operation.run), nullptr, {}});
  return cudaSuccess;
}

cudaError_t record_captured(CUevent_st& event, CUstream_st& stream, unsigned flags) {
  if (stream.capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
  if ((flags & cudaEventRecordExternal) != 0) {
    add(stream, {nullptr, &event, {}});
    return cudaSuccess;
  }
  event.capture = stream.capture;
  event.last = stream.last;
  return cudaSuccess;
}

cudaError_t wait_captured(CUstream_st& stream, const CUevent_st& event) {
  if (event.capture == nullptr)  // work outside of the graph
    return invalidate(*stream.capture, cudaErrorStreamCaptureIsolation);
  if (event.capture->ended) return note(cudaErrorCapturedEvent);
  if (event.capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
  if (stream.capture != nullptr && stream.capture != event.capture) {
    invalidate(*stream.capture, cudaErrorStreamCaptureMerge);
    return invalidate(*event.capture, cudaErrorStreamCaptureMerge);
  }
  if (stream.capture == nullptr) {
    stream.capture = event.capture;
    stream.capture->streams.push_back(&stream);
  }
  stream.last.insert(event.last.begin(), event.last.end());
  return cudaSuccess;
}

cudaError_t refuse_unsafe() {
  cudaError_t status = cudaSuccess;
  for (const auto& capture : ongoing())
    if (capture->mode == cudaStreamCaptureModeGlobal ||
        (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread == std::this_thread::get_id()))
      status = invalidate(*capture, cudaErrorStreamCaptureUnsupported);
  return status;
}

cudaError_t refuse_query(CUstream_st* stream) {
  if (stream != nullptr && stream->capture != nullptr)
    return invalidate(*stream->capture, cudaErrorStreamCaptureUnsupported);
  return refuse_unsafe();
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(runtime().mutex);
  if (runtime().sticky != cudaSuccess) return runtime().sticky;
  if (stream == nullptr) return note(cudaErrorStreamCaptureUnsupported);  // the legacy stream
  if (stream->capture != nullptr) return invalidate(*stream->capture, cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream;
  capture->streams = {stream};
  ongoing().push_back(capture);
  stream->capture = std::move(capture);
  stream->last.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(runtime().mutex);
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream != nullptr ? stream->capture : nullptr;
  if (capture == nullptr) return note(cudaErrorIllegalState);
  if (capture->origin != stream) return invalidate(*capture, cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return invalidate(*capture, cudaErrorStreamCaptureWrongThread);
  const bool joined = is_joined(*capture);
  for (CUstream_st* taking_part : capture->streams) {
    taking_part->capture = nullptr;
    taking_part->last.clear();
  }
  std::erase(ongoing(), capture);
  capture->ended = true;
  if (capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
  if (!joined) return note(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{stream->card, std::make_shared<Nodes>(std::move(capture->nodes))};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(runtime().mutex);
  *status = stream == nullptr || stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->invalid                      ? cudaStreamCaptureStatusInvalidated
                                                            : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (nodes != nullptr) {
    if (*count != graph->nodes->size()) return note(cudaErrorInvalidValue);  // which nobody asks for
    for (std::size_t i = 0; i < *count; ++i) nodes[i] = &(*graph->nodes)[i];
  }
  *count = graph->nodes->size();
  return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  *type = node->event != nullptr ? cudaGraphNodeTypeEventRecord : cudaGraphNodeTypeKernel;
  return cudaSuccess;
}

cudaError_t cudaGraphEventRecordNodeGetEvent(cudaGraphNode_t node, cudaEvent_t* event) {
  if (node->event == nullptr) return note(cudaErrorInvalidValue);
  *event = node->event;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags) {
  const std::lock_guard lock(runtime().mutex);
  if (graph == nullptr || flags != 0) return note(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{graph->card, std::make_shared<const Nodes>(*graph->nodes), {}, graph->nodes};
  for (const auto& node : *graph->nodes) (*exec)->events.push_back(node.event);
  return cudaSuccess;
}

cudaError_t cudaGraphExecEventRecordNodeSetEvent(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                 cudaEvent_t event) {
  const std::lock_guard lock(runtime().mutex);
  const auto nodes = exec->graphs.lock();
  if (nodes == nullptr || event == nullptr || event->card != exec->card) return note(cudaErrorInvalidValue);
  for (std::size_t i = 0; i < nodes->size(); ++i)
    if (node == &(*nodes)[i] && exec->events[i] != nullptr) {
      exec->events[i] = event;
      return cudaSuccess;
    }
  return note(cudaErrorInvalidValue);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;  // launches that have not run hold the nodes
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (stream == nullptr || stream->capture != nullptr || exec->card != stream->card)
    return note(cudaErrorInvalidValue);  // graphs within graphs are not emulated
  for (std::size_t i = 0; i < exec->events.size(); ++i)
    if (CUevent_st* event = exec->events[i]; event != nullptr) {
      event->stream = stream;
      event->place = stream->put + 1;
      event->within = i;
      event->capture = nullptr;
    }
  return note(put(stream, {[nodes = exec->nodes] { run_nodes(*nodes); }, nullptr, 0}));
}
