// The meta device's table: every kernel records its cost and touches no memory. It takes from the stream the
// scratch memory that the kernel of the device takes for which it stands, so that the ledger counts it.
#include "kernels/cuda/register.h"
#include "kernels/kernels.h"

namespace hone::kernels {

namespace {

/// Takes from a meta stream what a kernel takes. The CPU's is run, which does nothing else there; its
/// reference takes nothing.
template <typename Args>
void take_scratch(const Args& a, Stream& stream) {
  if (stream.device().stands_for == device::DeviceType::kCuda) {
    if (const std::int64_t bytes = cuda_scratch_bytes(a); bytes > 0)
      stream.shared_workspace(static_cast<std::size_t>(bytes));
    return;
  }
  constexpr auto kSlot = slot_of<Args>().member;
  static const Kernel<Args> kKernel = cpu_kernels(choose_cpu_isa()).*kSlot;
  static const bool kIsReference = kKernel == cpu_kernels(CpuIsa::kReference).*kSlot;
  if (!kIsReference) kKernel(a, stream);
}

template <typename Args>
std::int64_t counted_scratch(const Args& a, int num_threads) {
  device::MetaStream stream(num_threads);
  take_scratch(a, stream);
  return stream.allocator().ledger().current(device::Purpose::kWorkspace);
}

template <typename Args>
void record(const Args& a, Stream& stream) {
  stream.costs().push_back({slot_of<Args>().name, cost(a)});
  take_scratch(a, stream);
}

}  // namespace

#define HONE_SLOT(name, Args)                                  \
  std::int64_t scratch_bytes(const Args& a, int num_threads) { \
    return counted_scratch(a, num_threads);                    \
  }
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

const KernelTable& meta_kernels() {
  static const KernelTable kTable = [] {
    KernelTable table;
    for_each_slot(table, []<typename Args>(std::string_view, Kernel<Args>& slot) { slot = record<Args>; });
    return table;
  }();
  return kTable;
}

}  // namespace hone::kernels
