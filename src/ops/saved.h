// What an operation keeps of a value for its gradient: the bytes, or, where they are cheap to make again from
// what is kept anyway, how to.
#pragma once

#include <functional>
#include <memory>

#include "ops/autograd.h"

namespace hone::ops {

/// Makes a value again, with the bits it had. Runs in backward, with no tape.
using Remake = std::function<Tensor(Context&)>;

/// Says that what keeps `y` for a gradient may keep `remake` instead of y's bytes. Only for an output that
/// has been recorded, of an operation that keeps its inputs itself and reads them but once: a norm's output,
/// a rotation's, an activation's. (At the benchmark's shape, Qwen3-MoE in f32 and 2,048 tokens, they are 14
/// of the 50 MiB that a layer keeps, and are made again in 0.5 ms of its 150.)
void can_remake(const Tensor& y, Remake remake);

/// A value kept for a gradient. Copies share what they keep, and so does everything else that keeps the same
/// value: the first get() makes it again, and it is free when the last Saved is gone.
class Saved {
 public:
  /// Nothing.
  Saved() = default;
  /// Keeps `value`, which may be undefined, without its gradient slot.
  explicit Saved(const Tensor& value);

  bool defined() const { return kept_ != nullptr; }
  /// Undefined where nothing is kept.
  Tensor get(Context& context) const;

 private:
  friend class GradSlot;
  struct Kept {
    Tensor value;   // undefined until it is made again
    Remake remake;  // null where the bytes are kept
  };
  std::shared_ptr<Kept> kept_;
};

}  // namespace hone::ops
