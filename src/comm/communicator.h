// Communicator: what a group of ranks can do together, over Tensors. One rank alone is a group, too: nothing
// above this room asks how many there are.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "device/stream.h"
#include "tensor/tensor.h"

namespace hone::comm {

enum class Reduction { kSum, kAverage, kMax };

/// A group of ranks and its collective operations. Every rank of the group calls the same operations in the
/// same order. An operation runs after the work already in `stream` and before the work put there later; on
/// the CPU it is done on return. Tensors are contiguous; arguments are checked alike for every kind of group
/// and throw Error(kInternal) that names operation and sizes.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// tensor = its reduction over the ranks, in place. f32, bf16, f64, i32 or i64.
  void all_reduce(const Tensor& tensor, Reduction reduction, device::Stream& stream);
  /// whole = every rank's part, in the order of ranks, along the first dimension. part may be a view of its
  /// own place in whole.
  void all_gather(const Tensor& part, const Tensor& whole, device::Stream& stream);
  /// part = this rank's share, along the first dimension, of the reduction of whole. part may be a view of
  /// its own place in whole.
  void reduce_scatter(const Tensor& whole, const Tensor& part, Reduction reduction, device::Stream& stream);
  /// tensor = rank root's.
  void broadcast(const Tensor& tensor, int root, device::Stream& stream);
  /// Sends the next send_rows[r] rows of `send` to rank r, and receives receive_rows[r] rows from it, in the
  /// order of ranks. send and receive are different memory.
  void all_to_all(const Tensor& send, const std::vector<std::int64_t>& send_rows, const Tensor& receive,
                  const std::vector<std::int64_t>& receive_rows, device::Stream& stream);
  /// Returns when every rank has come here and all work in `stream` is done.
  void barrier(device::Stream& stream);

 private:
  virtual void do_all_reduce(const Tensor& tensor, Reduction reduction, device::Stream& stream) = 0;
  virtual void do_all_gather(const Tensor& part, const Tensor& whole, device::Stream& stream) = 0;
  virtual void do_reduce_scatter(const Tensor& whole, const Tensor& part, Reduction reduction,
                                 device::Stream& stream) = 0;
  virtual void do_broadcast(const Tensor& tensor, int root, device::Stream& stream) = 0;
  virtual void do_all_to_all(const Tensor& send, const std::vector<std::int64_t>& send_rows,
                             const Tensor& receive, const std::vector<std::int64_t>& receive_rows,
                             device::Stream& stream) = 0;
  virtual void do_barrier(device::Stream& stream) = 0;
};

/// A group of one: every reduction is the identity, every exchange a copy (none where source and target are
/// the same memory).
std::shared_ptr<Communicator> make_self_communicator();

}  // namespace hone::comm
