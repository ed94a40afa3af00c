// The matrix kernels of one instruction set. Each member is defined in the header of its kernel and
// instantiated in the units of src/kernels/cpu/units/.
#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/kernels.h"

namespace hone::kernels::cpu {

template <class Isa>
struct MatrixKernels {
  static void matmul(const MatmulArgs& args, Stream& stream);
  static void experts(const ExpertsArgs& args, Stream& stream);
  static void experts_grad(const ExpertsGradArgs& args, Stream& stream);
  static void linear_cross_entropy(const LinearCrossEntropyArgs& args, Stream& stream);
  static void head_statistics(const HeadStatisticsArgs& args, Stream& stream);
  static void head_grad(const HeadGradArgs& args, Stream& stream);
};

}  // namespace hone::kernels::cpu
