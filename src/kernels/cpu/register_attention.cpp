#include "kernels/cpu/attention.h"
#include "kernels/cpu/register.h"

namespace hone::kernels {

namespace {

template <class Isa>
void fill(KernelTable& table) {
  using Code = cpu::AttentionCode<Isa>;
  static constexpr cpu::AttentionFunctions kCode{Code::forward,  Code::forward_scratch, Code::few,
                                                 Code::join_few, Code::few_partial,     Code::few_scratch,
                                                 Code::backward, Code::backward_scratch};
  table.attention = [](const AttentionArgs& a, Stream& stream) { cpu::attention(kCode, a, stream); };
  table.attention_grad = [](const AttentionGradArgs& g, Stream& stream) {
    cpu::attention_grad(kCode, g, stream);
  };
}

}  // namespace

void register_attention_kernels(CpuIsa isa, KernelTable& table) {
  switch (isa) {
    case CpuIsa::kReference:
      return;
    case CpuIsa::kAvx2:
      return fill<cpu::Avx2>(table);
    case CpuIsa::kAvx512:
    case CpuIsa::kAvx512Amx:  // where VDPBF16PS has half the rate of an f32 multiply-add
      return fill<cpu::Avx512>(table);
    case CpuIsa::kAvx512Bf16:
      return fill<cpu::Avx512Bf16>(table);
  }
}

}  // namespace hone::kernels
