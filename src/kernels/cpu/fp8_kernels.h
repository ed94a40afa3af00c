// The matrix kernels of operands in FP8, of one instruction set: they round, and multiply by its matmul. In
// fp8_matmul.h and fp8_experts.h, instantiated in units/fp8.cpp.
#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/kernels.h"

namespace hone::kernels::cpu {

template <class Isa>
struct Fp8Kernels {
  /// args.fp8 is set.
  static void matmul(const MatmulArgs& args, Stream& stream);
  /// args.fp8 is set.
  static void experts(const ExpertsArgs& args, Stream& stream);
  static void experts_grad(const ExpertsGradArgs& args, Stream& stream);
};

}  // namespace hone::kernels::cpu
