#include "kernels/cpu/attention_backward.h"
#include "kernels/cpu/attention_few.h"
#include "kernels/cpu/attention_forward.h"

#include "kernels/cpu/simd_avx512_amx.h"

namespace hone::kernels::cpu {

template struct AttentionCode<Avx512Amx>;

}  // namespace hone::kernels::cpu
