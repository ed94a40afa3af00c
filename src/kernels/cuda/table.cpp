#include "kernels/cuda/register.h"

namespace hone::kernels {

const KernelTable& cuda_kernels() {
  static const KernelTable kTable = [] {
    KernelTable table;
    register_cuda_norms(table);
    register_cuda_activations(table);
    register_cuda_index_rows(table);
    register_cuda_optimizers(table);
    return table;
  }();
  return kTable;
}

}  // namespace hone::kernels
