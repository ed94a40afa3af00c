// The loops that peak.cpp times, for one instruction set.
#pragma once

#include "kernels/cpu/isa.h"

namespace hone::kernels::cpu {

/// Each returns what it did: floating-point operations, or bytes moved.
struct PeakLoops {
  double (*multiply_add)(Index rounds);
  double (*dot_bf16)(Index rounds);   // null: none
  double (*split_f32)(Index rounds);  // f32 by three bf16 parts; null: none
  double (*sum)(const float* a, Index n, float* result);
  double (*copy)(float* a, const float* b, Index n);  // arrays aligned to 64 bytes, n a multiple of 64
  double (*triad)(float* a, const float* b, const float* c, Index n);
};

/// Defined for each type of isa.h in src/kernels/cpu/units/.
template <class Isa>
PeakLoops peak_loops();

}  // namespace hone::kernels::cpu
