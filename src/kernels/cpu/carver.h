// Work memory cut into pieces.
#pragma once

#include "kernels/cpu/isa.h"

namespace hone::kernels::cpu {

/// Takes pieces, each aligned to 64 bytes, off a block of memory; or, with no memory, counts them. Everything
/// is inlined: instruction-set units share the class (isa.h).
class Carver {
 public:
  [[gnu::always_inline]] explicit Carver(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class S>
  [[gnu::always_inline]] S* take(Index n) {
    S* piece = memory_ != nullptr ? reinterpret_cast<S*>(memory_ + used_) : nullptr;
    used_ += round_up(n * Index{sizeof(S)}, 64);
    return piece;
  }
  /// Bytes so far; a multiple of 64.
  [[gnu::always_inline]] Index used() const { return used_; }
  [[gnu::always_inline]] Index used_floats() const { return used_ / Index{sizeof(float)}; }

 private:
  char* memory_;
  Index used_ = 0;
};

/// The distance between rows of `n` elements in work memory: room for whole vectors, and never a multiple of
/// 4 KiB, whose lines would share one place in the cache.
template <class E>
[[gnu::always_inline]] constexpr Index padded(Index n) {
  return round_up(n, 64 / Index{sizeof(E)}) + 64 / Index{sizeof(E)};
}

}  // namespace hone::kernels::cpu
