// The meta device's table: every kernel counts its work and touches no memory.
#include "kernels/kernels.h"

namespace hone::kernels {

namespace {

template <typename Args>
void count(const Args& a, Stream& stream) {
  stream.cost() += cost(a);
}

}  // namespace

const KernelTable& meta_kernels() {
  static const KernelTable kTable = [] {
    KernelTable t;
    for_each_slot(t, []<typename Args>(std::string_view, Kernel<Args>& slot) { slot = count<Args>; });
    return t;
  }();
  return kTable;
}

}  // namespace hone::kernels
