// What this machine can do at most, measured: the ceilings that kernels and steps are printed beside.
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels {

/// Multiply-adds on registers alone, GFLOP/s (a multiply-add is two). Takes some 100 ms.
struct ComputePeak {
  double f32 = 0;
  bool f32_by_parts = false;  // on AMX: each float is multiplied as three bf16
  /// Of bf16 products summed in f32; where the instruction set has none, f32's: bf16 is widened.
  double bf16 = 0;
};
ComputePeak measure_compute_peak(CpuIsa isa, int num_threads);

/// Memory traffic over arrays of 128 MiB, GB/s, each byte counted once where it is read and once where
/// it is written. Takes some 200 ms and 384 MiB.
struct MemoryPeak {
  double read = 0;   // a sum
  double copy = 0;   // a[i] = b[i], stored past the caches
  double triad = 0;  // a[i] = b[i] + s * c[i], stored past the caches
};
MemoryPeak measure_memory_peak(CpuIsa isa, int num_threads);

/// The part of a ceiling that work of this cost reached in `seconds`: the larger of its parts of the compute
/// and of the memory ceiling (0 … 1, above where the data lay in a cache).
double fraction_of_peak(const Cost& cost, double seconds, double gflops, double gigabytes_per_second);

}  // namespace hone::kernels
