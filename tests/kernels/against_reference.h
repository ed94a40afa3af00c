// How the tests of the matrix kernels run: every instruction set of this processor against the reference, and
// every thread count against one thread.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "kernels/cpu/register.h"
#include "tests/kernels/arena.h"
#include "tests/kernels/emulated_amx.h"

namespace hone::test {

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

/// Calls a kernel once: makes its arguments in the arena, runs it from the table.
using Case = std::function<void(Arena&, const KernelTable&, Stream&)>;

inline Outputs run_case(const Case& call, const KernelTable& table, int threads, unsigned seed) {
  Arena arena(seed);
  Stream stream = make_stream(threads);
  call(arena, table, stream);
  return arena.outputs();
}

/// The fast kernels agree with the reference within the outputs' tolerances, and 1, 2, 3 and 8 threads agree
/// with each other bit for bit.
inline void expect_matches_reference(const Case& call, const std::string& what, unsigned seed = 1) {
  const Outputs want = run_case(call, kernels::cpu_kernels(kernels::CpuIsa::kReference), 2, seed);
  for (const auto& [name, table] : matrix_tables()) {
    const Outputs got = run_case(call, table, 1, seed);
    expect_near(got, want, name + " " + what);
    for (const int threads : {2, 3, 8}) {
      expect_equal(run_case(call, table, threads, seed), got,
                   name + " " + what + ", " + std::to_string(threads) + " threads");
    }
    if (testing::Test::HasFailure()) return;  // one case is enough to read
  }
}

}  // namespace hone::test
