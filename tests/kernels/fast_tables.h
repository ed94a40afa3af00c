// The tables that tests compare with the reference.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/register.h"
#include "kernels/kernels.h"
#include "tests/kernels/emulated_amx.h"

namespace hone::test {

using kernels::KernelTable;

/// The fast matrix kernels that this processor runs, by name, over the reference table.
inline std::vector<std::pair<std::string, KernelTable>> matrix_tables() {
  using kernels::CpuIsa;
  std::vector<std::pair<std::string, KernelTable>> tables;
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAvx512Amx}) {
    try {
      kernels::cpu_kernels(isa);
    } catch (const Error&) {
      continue;  // not on this processor
    }
    KernelTable table = kernels::cpu_kernels(CpuIsa::kReference);
    kernels::register_matrix_kernels(isa, table);
    tables.emplace_back(kernels::name_of(isa), table);
  }
  if (can_emulate_amx()) tables.emplace_back("emulated_amx", emulated_amx_kernels());
  return tables;
}

/// The tables of this processor's instruction sets.
inline std::vector<std::pair<std::string, KernelTable>> fast_tables() {
  using kernels::CpuIsa;
  std::vector<std::pair<std::string, KernelTable>> tables;
  for (const CpuIsa isa : kernels::available_cpu_isas())
    if (isa != CpuIsa::kReference) tables.emplace_back(kernels::name_of(isa), kernels::cpu_kernels(isa));
  if (can_emulate_amx()) tables.emplace_back("emulated_amx", emulated_amx_kernels());
  return tables;
}

}  // namespace hone::test
