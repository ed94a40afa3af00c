#include "tests/kernels/emulated_amx.h"

#include <algorithm>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_backward.h"
#include "kernels/cpu/attention_few.h"
#include "kernels/cpu/attention_forward.h"
#include "kernels/cpu/matmul.h"
#include "tests/kernels/emulated_amx/simd_emulated_amx.h"

namespace hone::kernels::cpu {

template void MatrixKernels<EmulatedAmx>::matmul(const MatmulArgs& args, Stream& stream);
template struct AttentionCode<EmulatedAmx>;

}  // namespace hone::kernels::cpu

namespace hone::test {

using kernels::CpuIsa;
using kernels::cpu::EmulatedAmx;

bool can_emulate_amx() {
  const auto available = kernels::available_cpu_isas();  // of this processor and this build
  return std::ranges::find(available, CpuIsa::kAvx512Bf16) != available.end();
}

kernels::KernelTable emulated_amx_kernels() {
  using Code = kernels::cpu::AttentionCode<EmulatedAmx>;
  using Matrices = kernels::cpu::MatrixKernels<EmulatedAmx>;
  static constexpr kernels::cpu::AttentionFunctions kTiles{
      Code::forward,  Code::forward_scratch,  Code::few,
      Code::join_few, Code::few_partial,      Code::few_scratch,
      Code::backward, Code::backward_scratch, Code::sink_sums};
  kernels::KernelTable table = kernels::cpu_kernels(CpuIsa::kAvx512Bf16);
  table.matmul = Matrices::matmul;
  table.experts = Matrices::experts;
  table.experts_grad = Matrices::experts_grad;
  table.linear_cross_entropy = Matrices::linear_cross_entropy;
  table.head_statistics = Matrices::head_statistics;
  table.head_grad = Matrices::head_grad;
  table.attention = [](const kernels::AttentionArgs& a, device::Stream& stream) {
    if (a.q.dtype == DType::kF32) return kernels::cpu_kernels(CpuIsa::kAvx512).attention(a, stream);
    kernels::cpu::attention(kTiles, a, stream);
  };
  table.attention_grad = [](const kernels::AttentionGradArgs& g, device::Stream& stream) {
    if (g.forward.q.dtype == DType::kF32)
      return kernels::cpu_kernels(CpuIsa::kAvx512).attention_grad(g, stream);
    kernels::cpu::attention_grad(kTiles, g, stream);
  };
  return table;
}

}  // namespace hone::test
