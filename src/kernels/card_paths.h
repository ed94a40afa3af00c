// The ways to do a kernel's work on a card (Path).
#pragma once

#include "kernels/card_work.h"

namespace hone::kernels::paths {

extern const Path kRows, kCodedUpdate, kCodedBf16Update, kCublasLt, kLargeTiles, kSmallTiles, kWgmma,
    kWgmmaE4m3, kF32Tiles, kAttention, kCudnn, kAttentionGrad, kWgmmaAttentionGrad, kWgmmaAttentionGrad64;

/// Why nothing goes by wgmma on a card; "" where what its kernels take does.
std::string why_no_wgmma(const CardTarget& target);
/// Why attention does not go by cuDNN; "" where large causal attention in bf16 does.
std::string why_no_cudnn(const CardTarget& target);

}  // namespace hone::kernels::paths
