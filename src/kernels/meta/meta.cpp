// The meta device's table: every kernel counts its work and touches no memory. Those that take scratch memory
// on the CPU take as much from the stream, so that the ledger counts it.
#include "kernels/kernels.h"

namespace hone::kernels {

namespace {

template <typename Args>
void count(const Args& a, Stream& stream) {
  stream.cost() += cost(a);
}

/// Counts, and has the CPU's kernel take its scratch memory.
template <typename Args, Kernel<Args> KernelTable::*kSlot>
void count_with_scratch(const Args& a, Stream& stream) {
  stream.cost() += cost(a);
  static const CpuIsa kIsa = choose_cpu_isa();
  if (kIsa != CpuIsa::kReference) (cpu_kernels(kIsa).*kSlot)(a, stream);
}

}  // namespace

const KernelTable& meta_kernels() {
  static const KernelTable kTable = [] {
    KernelTable t;
    for_each_slot(t, []<typename Args>(std::string_view, Kernel<Args>& slot) { slot = count<Args>; });
    t.matmul = count_with_scratch<MatmulArgs, &KernelTable::matmul>;
    t.attention = count_with_scratch<AttentionArgs, &KernelTable::attention>;
    t.attention_grad = count_with_scratch<AttentionGradArgs, &KernelTable::attention_grad>;
    t.experts = count_with_scratch<ExpertsArgs, &KernelTable::experts>;
    t.experts_grad = count_with_scratch<ExpertsGradArgs, &KernelTable::experts_grad>;
    t.linear_cross_entropy = count_with_scratch<LinearCrossEntropyArgs, &KernelTable::linear_cross_entropy>;
    return t;
  }();
  return kTable;
}

}  // namespace hone::kernels
