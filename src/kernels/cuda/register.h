// The kernels for NVIDIA cards, as a table.
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels {

/// What there is so far; the other slots are null.
const KernelTable& cuda_kernels();

// Each fills the slots that its file has.
void register_cuda_norms(KernelTable& table);
void register_cuda_activations(KernelTable& table);
void register_cuda_index_rows(KernelTable& table);
void register_cuda_optimizers(KernelTable& table);

}  // namespace hone::kernels
