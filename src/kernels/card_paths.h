// The ways to do a kernel's work on a card (Path).
#pragma once

#include "kernels/card_work.h"

namespace hone::kernels::paths {

extern const Path kRows, kCodedUpdate, kCodedBf16Update, kCublasLt, kLargeTiles, kSmallTiles, kWgmma,
    kWgmmaE4m3, kF32Tiles, kAttention, kCudnn, kAttentionGrad, kWgmmaAttentionGrad, kWgmmaAttentionGrad64;

}  // namespace hone::kernels::paths
