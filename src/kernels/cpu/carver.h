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

}  // namespace hone::kernels::cpu
