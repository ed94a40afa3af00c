#include "kernels/cpu/attention.h"
#include "kernels/cpu/register.h"

namespace hone::kernels {

namespace {

template <class Isa>
constexpr cpu::AttentionFunctions functions() {
  using Code = cpu::AttentionCode<Isa>;
  return {Code::forward,  Code::forward_scratch,  Code::few,
          Code::join_few, Code::few_partial,      Code::few_scratch,
          Code::backward, Code::backward_scratch, Code::sink_sums};
}

template <class Isa>
void fill_attention(KernelTable& table) {
  static constexpr cpu::AttentionFunctions kCode = functions<Isa>();
  table.attention = [](const AttentionArgs& a, Stream& stream) { cpu::attention(kCode, a, stream); };
  table.attention_grad = [](const AttentionGradArgs& g, Stream& stream) {
    cpu::attention_grad(kCode, g, stream);
  };
}

#if HONE_AVX512
/// On AMX tiles bf16 is multiplied; f32 as without them, by the code that is there.
void fill_attention_amx(KernelTable& table) {
  static constexpr cpu::AttentionFunctions kVectors = functions<cpu::Avx512>();
  static constexpr cpu::AttentionFunctions kTiles = functions<cpu::Avx512Amx>();
  table.attention = [](const AttentionArgs& a, Stream& stream) {
    cpu::attention(a.q.dtype == DType::kF32 ? kVectors : kTiles, a, stream);
  };
  table.attention_grad = [](const AttentionGradArgs& g, Stream& stream) {
    cpu::attention_grad(g.forward.q.dtype == DType::kF32 ? kVectors : kTiles, g, stream);
  };
}
#endif

}  // namespace

void register_attention_kernels(CpuIsa isa, KernelTable& table) {
  switch (isa) {
    case CpuIsa::kReference:
      return;
    case CpuIsa::kAvx2:
      return fill_attention<cpu::Avx2>(table);
#if HONE_AVX512
    case CpuIsa::kAvx512:
      return fill_attention<cpu::Avx512>(table);
    case CpuIsa::kAvx512Bf16:
      return fill_attention<cpu::Avx512Bf16>(table);
    case CpuIsa::kAvx512Amx:
      return fill_attention_amx(table);
#else
    default:
      return;
#endif
  }
}

}  // namespace hone::kernels
