#include "kernels/cpu/attention_backward.h"
#include "kernels/cpu/attention_few.h"
#include "kernels/cpu/attention_forward.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template struct AttentionCode<Avx2>;

}  // namespace hone::kernels::cpu
