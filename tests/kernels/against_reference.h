// How the tests of the matrix kernels run: every instruction set of this processor against the reference, and
// every thread count against one thread.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "tests/kernels/arena.h"
#include "tests/kernels/fast_tables.h"

namespace hone::test {

/// Calls a kernel once: makes its arguments in the arena, runs it from the table.
using Case = std::function<void(Arena&, const KernelTable&, Stream&)>;

inline Outputs run_case(const Case& call, const KernelTable& table, int threads, unsigned seed) {
  Arena arena(seed);
  device::CpuStream stream = make_stream(threads);
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
