#include "kernels/cpu/attention_backward.h"
#include "kernels/cpu/attention_few.h"
#include "kernels/cpu/attention_forward.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template struct AttentionCode<HONE_ISA>;

}  // namespace hone::kernels::cpu
