// A second stream of a context's device, for work that nothing in the context's own stream waits for soon:
// gradients of weights, and updates that are made as gradients are ready.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "ops/context.h"
#include "tensor/tensor.h"

namespace hone::ops {

/// Work beside a context's: the context's stream goes on while this one's work is under way, in the order in
/// which it was put. Events order the two, and the host waits for none. What the work reads is the context's
/// memory, in the order of its stream, which therefore is told to wait for the work before that memory is
/// another's: for the oldest, where work under way reads more than `most_bytes`, and for all in join().
class SideStream {
 public:
  using MakeStream = std::function<std::unique_ptr<device::Stream>()>;
  using Work = std::function<void(Context&)>;
  /// `context` outlives this. make_stream: of its device; null: device::make_stream.
  SideStream(Context& context, std::size_t most_bytes, const MakeStream& make_stream = nullptr);
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  /// Calls work(the context of this stream), which puts there what is to come after all that `context` was
  /// given so far, and after all work before. `work` itself, with what it captured, and `reads` are kept
  /// until the context's stream has been told to wait for it. reads: those that would be free by now if it
  /// were done, which count. writes: what wait_for is asked about; kept likewise. Memory that `work`
  /// allocates by its context is of this stream's own allocator.
  void put(std::vector<Tensor> reads, std::vector<Tensor> writes, Work work);
  /// What `context` is given from now on comes after the work, if any, that writes memory of `written`.
  void wait_for(const Tensor& written);
  /// What `context` is given from now on comes after all work.
  void join();

  /// Stream::scratch_generation of this stream.
  std::uint64_t scratch_generation() const { return side_.stream().scratch_generation(); }
  /// The most bytes that this stream's own allocator has held at once: scratch memory of kernels, which no
  /// ledger of `context` counts.
  std::int64_t most_own_bytes() const { return side_.ledger().peak_total(); }

 private:
  struct UnderWay {
    std::vector<Tensor> reads, writes;
    Work work;
    std::shared_ptr<const device::Event> done;
    std::size_t read_bytes() const;
  };
  void wait_for_first(std::size_t count);

  Context& context_;
  Context side_;
  std::size_t most_bytes_, bytes_ = 0;  // of what is read by what is under way
  std::deque<UnderWay> under_way_;
};

/// Gradients of weights that operations make in backward go to `side` while this lives
/// (Context::side_stream). The end joins it, but tells of no error: join before, where one is to be told.
class SideStreamScope {
 public:
  SideStreamScope(Context& context, SideStream* side);
  ~SideStreamScope();
  SideStreamScope(const SideStreamScope&) = delete;
  SideStreamScope& operator=(const SideStreamScope&) = delete;

 private:
  Context& context_;
  SideStream* before_;
};

}  // namespace hone::ops
