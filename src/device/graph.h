// Graphs: work of a stream that the host puts together once, and has done again by one call.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/stream.h"

namespace hone::device {

/// Work that was captured. Kernels are called again with the arguments that they had, so all that changes
/// from one launch to the next must lie in device memory. Ends before its stream.
class Graph {
 public:
  virtual ~Graph() = default;
  /// False where memory that it works in is in use, or the stream's scratch memory is another by now.
  virtual bool is_ready() const = 0;
  /// Puts all of it, which must be ready, into the stream.
  virtual void launch() = 0;
  /// Kernels, copies, fills and places that keep the time.
  virtual std::size_t size() const = 0;
  /// Memory that was allocated while it was captured and is still held: of results, which whoever captured
  /// must hold as long as the graph. All else that was allocated then is anybody's between two launches.
  virtual std::span<const std::span<const std::byte>> held() const = 0;
};

struct Captured {
  std::unique_ptr<Graph> graph;  // null: none
  std::string why_none = {};     // then: one line
};

/// Why no work of this stream can be captured: one line; "" where it can.
std::string why_no_graph(const Stream& stream);
/// Captures what `work` puts into the stream, and into others that wait for its events and for which it waits
/// again; nothing of it is done before the graph is launched. Meanwhile nothing may be uploaded, downloaded
/// or waited for by the host, memory comes from kept blocks alone, and an Error that `work` throws is why
/// there is no graph. What was left undone then is the caller's to clear up.
Captured capture(Stream& stream, const std::function<void()>& work);

}  // namespace hone::device
