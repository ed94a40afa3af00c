// A stream of its own for updates that are made as gradients are ready.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "ops/context.h"
#include "tensor/tensor.h"
#include "train/host_states.h"

namespace hone::train {

/// Updates beside backward: the context's stream goes on with the next gradients while an update waits for
/// memory, or for its states from the host. Events order the two, and the host waits for none. A gradient's
/// memory is the context's stream's again, which then waits for its update, when more gradients are under way
/// than `most_bytes`.
class UpdateStream {
 public:
  /// `context` outlives this. make_stream: of its device; null: device::make_stream.
  UpdateStream(ops::Context& context, std::size_t most_bytes,
               const HostStates::MakeStream& make_stream = nullptr);
  ~UpdateStream();
  UpdateStream(const UpdateStream&) = delete;
  UpdateStream& operator=(const UpdateStream&) = delete;

  /// Calls work(the context of the updates), which puts into its stream what is to come after all that
  /// `context` was given so far: what made `gradient`, and what has read the weight. Nobody else keeps
  /// `gradient`. beside: what `work` reads besides, kept as long.
  void put(Tensor gradient, const std::function<void(ops::Context&)>& work, Tensor beside = {});
  /// What `context` is given from now on comes after all updates.
  void join();
  /// Stream::scratch_generation of the updates' stream.
  std::uint64_t scratch_generation() const { return updates_.stream().scratch_generation(); }

 private:
  struct UnderWay {
    Tensor gradient, beside;
    std::shared_ptr<const device::Event> done;
  };
  void wait_for_oldest();

  ops::Context& context_;
  ops::Context updates_;
  std::size_t most_bytes_, bytes_ = 0;  // of the gradients under way
  std::deque<UnderWay> under_way_;
};

}  // namespace hone::train
