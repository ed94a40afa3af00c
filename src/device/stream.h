// A stream: the order in which a device's work runs, the threads that run it, and the scratch memory it may
// use meanwhile.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "device/memory.h"

namespace hone::device {

/// What one kernel does.
struct Cost {
  double flops = 0;           // floating-point operations, a multiply-add being two
  double bytes = 0;           // moved to and from memory
  DType dtype = DType::kF32;  // what its products multiply: which peak of the machine bounds them
};

/// A kernel that was called on the meta device.
struct KernelCost {
  std::string_view slot;  // in the kernel table
  Cost cost;
};

/// In-order work queue of one device. On the CPU work runs at once, on num_threads() threads, and returns
/// when it is done.
class Stream {
 public:
  /// num_threads 0: one per core that this process may use.
  Stream(std::shared_ptr<Allocator> allocator, int num_threads);

  int num_threads() const { return num_threads_; }
  Allocator& allocator() const { return *allocator_; }
  /// Whether nothing is computed here: a kernel takes the scratch memory that it would need, so that it is
  /// counted, and returns.
  bool is_meta() const;

  /// Scratch memory of thread `thread` (0 … num_threads-1), 64-byte aligned, uninitialised, at least
  /// size_bytes. It is valid until the next call with the same thread; grows and is kept. Different threads
  /// may call at the same time. Null on the meta device.
  void* workspace(int thread, std::size_t size_bytes);
  /// The scratch memory that all threads of one kernel share; as above, called outside parallel regions.
  void* shared_workspace(std::size_t size_bytes);
  /// Frees all scratch memory.
  void release_workspaces();

  /// On the meta device: what the kernels called so far cost, in order.
  std::vector<KernelCost>& costs() { return costs_; }
  const std::vector<KernelCost>& costs() const { return costs_; }

 private:
  void* grow(std::shared_ptr<Buffer>& buffer, std::size_t size_bytes);
  std::shared_ptr<Allocator> allocator_;
  int num_threads_;
  std::vector<std::shared_ptr<Buffer>> workspaces_;
  std::shared_ptr<Buffer> shared_workspace_;
  std::vector<KernelCost> costs_;
};

/// Cores that this process may run on (its affinity mask).
int available_cores();

}  // namespace hone::device
