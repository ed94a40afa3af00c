// The one table of device work: every kernel that a device can run, as a function over raw pointers
// (arguments.h). No Tensor, no ownership, no model.
#pragma once

#include <string_view>
#include <vector>

#include "device/stream.h"
#include "kernels/arguments.h"

namespace hone::kernels {

using device::Cost;
using device::Stream;

// Every slot of the table, in order, with what it takes: the one list. The table, what a slot is named, and
// the declarations of its cost, its validation, its scratch memory and its reference follow from it, so that
// a slot that lacks one of these does not build.
#define HONE_KERNEL_SLOTS(X)                      \
  X(matmul, MatmulArgs)                           \
  X(embedding_grad, EmbeddingGradArgs)            \
  X(rms_norm, RmsNormArgs)                        \
  X(rms_norm_grad, RmsNormGradArgs)               \
  X(head_norm_rope, HeadNormRopeArgs)             \
  X(head_norm_rope_grad, HeadNormRopeGradArgs)    \
  X(attention, AttentionArgs)                     \
  X(attention_grad, AttentionGradArgs)            \
  X(mla_keys_values, MlaKeysValuesArgs)           \
  X(mla_keys_values_grad, MlaKeysValuesGradArgs)  \
  X(activation, ActivationArgs)                   \
  X(activation_grad, ActivationGradArgs)          \
  X(row_gate, RowGateArgs)                        \
  X(row_gate_grad, RowGateGradArgs)               \
  X(copy, CopyArgs)                               \
  X(clamp, ClampArgs)                             \
  X(clamp_grad, ClampGradArgs)                    \
  X(take_rows, TakeRowsArgs)                      \
  X(put_rows, PutRowsArgs)                        \
  X(column_sum, ColumnSumArgs)                    \
  X(router, RouterArgs)                           \
  X(router_grad, RouterGradArgs)                  \
  X(moe_plan, MoePlanArgs)                        \
  X(experts, ExpertsArgs)                         \
  X(experts_grad, ExpertsGradArgs)                \
  X(load_balancing, LoadBalancingArgs)            \
  X(linear_cross_entropy, LinearCrossEntropyArgs) \
  X(head_statistics, HeadStatisticsArgs)          \
  X(head_grad, HeadGradArgs)                      \
  X(sum_of_squares, SumOfSquaresArgs)             \
  X(finish_norm, FinishNormArgs)                  \
  X(next_step, NextStepArgs)                      \
  X(adamw, AdamWArgs)                             \
  X(sgd, SgdArgs)

template <typename Args>
using Kernel = void (*)(const Args&, Stream&);

/// The kernels of one device. A null slot is "unsupported here"; the op then says so by name.
struct KernelTable {
#define HONE_SLOT(name, ArgsOf) Kernel<ArgsOf> name = nullptr;
  HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
};

/// One slot: its name, and where it is in a table.
template <typename ArgsOf>
struct Slot {
  using Args = ArgsOf;
  std::string_view name;
  Kernel<Args> KernelTable::*member;
};

/// Calls f(Slot<Args>) for every slot, in order.
template <typename F>
constexpr void for_each_slot(F f) {
#define HONE_SLOT(name, ArgsOf) f(Slot<ArgsOf>{#name, &KernelTable::name});
  HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
}
/// Calls f("name", Kernel<Args>&) for every slot of a table, in order.
template <typename Table, typename F>
constexpr void for_each_slot(Table& table, F f) {
  for_each_slot([&](auto slot) { f(slot.name, table.*slot.member); });
}

/// The slot that takes these Args: there is one.
template <typename Args>
constexpr Slot<Args> slot_of() = delete;
#define HONE_SLOT(name, ArgsOf)              \
  template <>                                \
  constexpr Slot<ArgsOf> slot_of<ArgsOf>() { \
    return {#name, &KernelTable::name};      \
  }
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

// Of every slot:
//   Cost cost(const Args&)       what the kernel costs, for the roofline of `hone bench kernels` and for
//                                forecasts: told from Args alone, whose pointers are null on the meta device;
//   void validate(const Args&)   throws Error(kInternal), "[kernels.matmul] c is bf16, wanted f32", where
//                                dtypes, shapes, ranges or overlaps are not as the comments above say: the
//                                kernels themselves trust them. ops::launch always calls it;
//   std::int64_t scratch_bytes(const Args&, int num_threads)
//                                what the kernel of choose_cpu_isa() takes of a stream's workspaces, all
//                                threads together. Pointers may be null.
#define HONE_SLOT(name, ArgsOf)   \
  Cost cost(const ArgsOf& a);     \
  void validate(const ArgsOf& a); \
  std::int64_t scratch_bytes(const ArgsOf& a, int num_threads);
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

/// The (query, key) pairs that a head of causal attention looks at in one sequence, whose last query sees its
/// last key and of the others what `window` (0: all) leaves.
std::int64_t attended_pairs(std::int64_t queries, std::int64_t keys, std::int64_t window);

/// The instruction sets that the CPU kernels are written for, best last. kReference is plain C++ and the
/// oracle of the others.
enum class CpuIsa { kReference, kAvx2, kAvx512, kAvx512Bf16, kAvx512Amx };
std::string_view name_of(CpuIsa isa);
/// The best this processor runs, or what the environment variable HONE_CPU_ISA (reference, avx2, avx512,
/// avx512_bf16, avx512_amx) asks for. Throws Error(kUser) where that is unknown or this processor lacks it.
CpuIsa choose_cpu_isa();
/// Those that this processor runs, the reference first, best last.
std::vector<CpuIsa> available_cpu_isas();

/// The tables. cpu_kernels throws Error(kUser) where this processor lacks the instruction set.
const KernelTable& cpu_kernels(CpuIsa isa);
const KernelTable& meta_kernels();
/// The table for a device; for the CPU, cpu_kernels(choose_cpu_isa()).
const KernelTable& kernels_for(device::Device device);

}  // namespace hone::kernels
