// The emulated twins of the tensor cores' instructions and of those that feed them, with the fragment layouts
// of the PTX ISA ("Matrix Fragments for mma.m16n8k16", "ldmatrix", "stmatrix").
#pragma once

#include <cuda_runtime.h>

namespace cuda_emulation {

enum class Element { kBF16, kF16, kTF32, kE4M3, kE5M2 };
/// d += a b of one warp: m16 n8, and k of 32 bytes a row (16 of 16 bits, 8 of TF32, 32 of 8 bits).
void mma(Element element, float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
/// 8 x 8 matrices of 16 bits, each row of them where a lane says: lanes 8i … 8i+7 those of matrix i.
void ldmatrix(std::uint32_t* to, int matrices, bool transposed, const void* row);
void stmatrix(const std::uint32_t* from, int matrices, bool transposed, void* row);

}  // namespace cuda_emulation
