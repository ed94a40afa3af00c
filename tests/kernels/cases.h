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
  /// What tolerances are more where tensor cores for e4m3 sum.
  double by_e4m3 = 0;
};

/// How far such a product may be off, as tolerances are: sums of 128 keep 14 bits (kernels/cuda/wgmma.cuh).
/// By that model sums of normal numbers are off by 2^-12.9 in the norm, with outliers by less, of positive
/// ones by 2^-10.6: all that is cut off has one sign. Longer sums are off by as much: they add up in f32.
inline constexpr double kE4m3Sums = 0x1p-10;
/// And of what was rounded to e4m3 from numbers that are off by so much: they are bf16, of which one in 16
/// has e4m3's next number on its other side, so that where one in four of them is another, one in 64 moves by
/// up to 2^-3 of itself, by 2^-6 in the norm.
inline constexpr double kE4m3Again = 0x1p-6;

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

/// Fails the running test where the squares of experts' gradients that a kernel has said are not those of
/// what it has written: rows x cols of each expert. Of nothing where null.
void expect_squares_of(const double* squares, const void* gradients, DType dtype, std::int64_t experts,
                       std::int64_t rows, std::int64_t cols);

}  // namespace hone::test
