// The kernel tables of this program's devices, and the choice of the processor's instruction set.
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"
#include "kernels/cpu/register.h"
#include "kernels/cuda/register.h"
#include "kernels/kernels.h"
#include "kernels/reference/reference.h"

namespace hone::kernels {

namespace {

constexpr std::array kAllIsas{CpuIsa::kReference, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16,
                              CpuIsa::kAvx512Amx};

/// Asks the operating system, once, to keep AMX tiles across context switches, for all threads of this
/// process: Linux wants to be asked before the first use, because a thread's tiles take 8 KiB.
bool may_use_tiles() {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}

/// What the processor has, the operating system keeps across context switches, and this build has kernels for
/// (HONE_AVX512: cmake/isa.cmake).
bool processor_has(CpuIsa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  const bool avx512 = HONE_AVX512 != 0 && avx2 && __builtin_cpu_supports("avx512f") != 0 &&
                      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
                      __builtin_cpu_supports("avx512vl") != 0;
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16") != 0;
  switch (isa) {
    case CpuIsa::kReference:
      return true;
    case CpuIsa::kAvx2:
      return avx2;
    case CpuIsa::kAvx512:
      return avx512;
    case CpuIsa::kAvx512Bf16:
      return avx512_bf16;
    case CpuIsa::kAvx512Amx:
      return avx512_bf16 && __builtin_cpu_supports("amx-tile") != 0 &&
             __builtin_cpu_supports("amx-bf16") != 0 && may_use_tiles();
  }
#endif
  return isa == CpuIsa::kReference;
}

void require(CpuIsa isa, std::string_view asked_by) {
  if (processor_has(isa)) return;
  std::string has;
  for (const CpuIsa other : available_cpu_isas())
    has += (has.empty() ? "" : ", ") + std::string(name_of(other));
  fail("{}: this processor has no {}; it has {}", asked_by, name_of(isa), has);
}

KernelTable make_cpu_table(CpuIsa isa) {
  KernelTable table = reference::table();
  if (isa == CpuIsa::kReference) return table;
  register_matrix_kernels(isa, table);
  register_row_kernels(isa, table);
  register_attention_kernels(isa, table);
  return table;
}

}  // namespace

std::string_view name_of(CpuIsa isa) {
  constexpr std::array<std::string_view, kAllIsas.size()> kNames{"reference", "avx2", "avx512", "avx512_bf16",
                                                                 "avx512_amx"};
  return kNames.at(static_cast<std::size_t>(isa));
}

std::vector<CpuIsa> available_cpu_isas() {
  std::vector<CpuIsa> isas;
  for (const CpuIsa isa : kAllIsas)
    if (processor_has(isa)) isas.push_back(isa);
  return isas;
}

CpuIsa choose_cpu_isa() {
  const char* asked = std::getenv("HONE_CPU_ISA");
  const CpuIsa best = available_cpu_isas().back();
  if (asked == nullptr || *asked == '\0') return best;
  std::vector<std::string> known;
  for (const CpuIsa isa : kAllIsas) {
    known.emplace_back(name_of(isa));
    if (known.back() != asked) continue;
    require(isa, "HONE_CPU_ISA");
    return isa;
  }
  fail("HONE_CPU_ISA: unknown instruction set '{}'{}; this processor's best is {}", asked,
       suggestion(asked, known), name_of(best));
}

const KernelTable& cpu_kernels(CpuIsa isa) {
  static const std::array<KernelTable, kAllIsas.size()> kTables = [] {
    std::array<KernelTable, kAllIsas.size()> tables;
    for (const CpuIsa each : kAllIsas) tables.at(static_cast<std::size_t>(each)) = make_cpu_table(each);
    return tables;
  }();
  require(isa, "cpu kernels");
  return kTables.at(static_cast<std::size_t>(isa));
}

const KernelTable& kernels_for(device::Device device) {
  switch (device.type) {
    case device::DeviceType::kCpu:
      return cpu_kernels(choose_cpu_isa());
    case device::DeviceType::kCuda:
      return cuda_kernels();
    case device::DeviceType::kMeta:
      return meta_kernels();
  }
  HONE_CHECK(false, "no device of type {}", static_cast<int>(device.type));
}

}  // namespace hone::kernels
