// The AMX kernels on processors without AMX: the same templates, compiled once more over tiles that are
// arrays. What a sum is rounded to is what the processor's manual says it is; only the speed is not.
#pragma once

#include "kernels/kernels.h"

namespace hone::test {

/// Whether this processor has AVX-512 with BF16, which all but the tiles are made of.
bool can_emulate_amx();
/// The matrix and attention kernels of AMX over emulated tiles, the rest AVX-512's. Only if
/// can_emulate_amx().
kernels::KernelTable emulated_amx_kernels();

}  // namespace hone::test
