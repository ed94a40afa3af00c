// Every slot of the kernel table over sweeps of shapes, dtypes and options; run against any table.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/kernels/arena.h"

namespace hone::test {

struct Case {
  std::string slot;  // the slot's name in KernelTable
  std::string name;  // the slot with the parameters of the case
  std::function<Outputs(const KernelTable&, Stream&)> run;
};

std::vector<Case> matrix_cases();
std::vector<Case> norm_cases();
std::vector<Case> row_cases();
std::vector<Case> attention_cases();
std::vector<Case> mla_cases();
std::vector<Case> moe_cases();
std::vector<Case> fp8_cases();
std::vector<Case> optimizer_cases();
std::vector<Case> all_cases();

/// What makes inputs of a kernel by others, as what forward leaves for backward: fast, for the sweeps do it
/// many times, and the same whatever table is tested.
inline const KernelTable& input_kernels() {
  return kernels::cpu_kernels(kernels::choose_cpu_isa());
}

inline constexpr DType kBothDtypes[] = {DType::kF32, DType::kBF16};

/// The narrower of two dtypes.
inline DType narrower(DType a, DType b) {
  return a == DType::kBF16 ? a : b;
}

}  // namespace hone::test
