// What this machine can do at most, measured: the ceilings that kernels and steps are printed beside.
#pragma once

#include <span>

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

/// What the copy of MemoryPeak comes to over arrays of 64 MiB: a first look, in some 40 ms and 128 MiB.
double measure_copy_rate(CpuIsa isa, int num_threads);

/// What bounds the kernels of a machine. 0: not known, bounds nothing.
struct Ceilings {
  double f32_gflops = 0, bf16_gflops = 0;
  double gb_s = 0;
};
/// The least seconds that work can take: its arithmetic at the peak of what it multiplies, or its memory
/// traffic, whichever is longer (data that lies in a cache may take less).
double least_seconds(const Cost& cost, const Ceilings& ceilings);
/// Of kernels one after another: the sum of each one's, which is more than that of their sum.
double least_seconds(std::span<const device::KernelCost> kernels, const Ceilings& ceilings);

}  // namespace hone::kernels
