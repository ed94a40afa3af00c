// What this machine can do at most, measured: the ceilings that kernels and steps are printed beside.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/team.h"
#include "kernels/kernels.h"

namespace hone::kernels {

/// What computes on a device.
struct DeviceDescription {
  std::string processor;               // its maker's name for it
  std::string kernels;                 // those that kernels_for gives: "avx512_bf16"
  std::string forced_by;               // the environment variable that chose them; "": they are the best
  std::vector<std::string> available;  // all that it could run, the best last
  bool multiplies_bf16 = false;        // in hardware; else bf16 is widened
  // Of a card's maker, which, or why there is none: for large dense products, and for attention.
  std::string library, attention_library;
};
/// Throws Error(kUser) as choose_cpu_isa.
DeviceDescription describe(device::Device device);

/// Multiply-adds on registers alone, GFLOP/s (a multiply-add is two). Takes some 100 ms.
struct ComputePeak {
  double f32 = 0;
  bool f32_by_parts = false;  // on AMX: each float is multiplied as three bf16
  /// Of bf16 products summed in f32; where the instruction set has none, f32's: bf16 is widened.
  double bf16 = 0;
};
ComputePeak measure_compute_peak(CpuIsa isa, Team& team);
/// With the device's kernels; of a card by the products that it does (kernels/cuda/card.h). Throws
/// Error(kInternal) for one that computes nothing (meta), as the others do.
ComputePeak measure_compute_peak(device::Device device, Team& team);

/// Memory traffic over arrays of 128 MiB, GB/s, each byte counted once where it is read and once where
/// it is written. Takes some 200 ms and 384 MiB.
struct MemoryPeak {
  double read = 0;   // a sum
  double copy = 0;   // a[i] = b[i], stored past the caches
  double triad = 0;  // a[i] = b[i] + s * c[i], stored past the caches
};
MemoryPeak measure_memory_peak(CpuIsa isa, Team& team);
MemoryPeak measure_memory_peak(device::Device device, Team& team);

/// What the copy of MemoryPeak comes to over arrays of 64 MiB: a first look, in some 40 ms and 128 MiB.
double measure_copy_rate(CpuIsa isa, Team& team);
double measure_copy_rate(device::Device device, Team& team);

/// What bounds the kernels of a machine. 0: not known, bounds nothing.
struct Ceilings {
  double f32_gflops = 0, bf16_gflops = 0;
  double e4m3_gflops = 0;  // of cards
  double gb_s = 0;
};
/// The least seconds that work can take: its arithmetic at the peak of what it multiplies, or its memory
/// traffic, whichever is longer (data that lies in a cache may take less).
double least_seconds(const Cost& cost, const Ceilings& ceilings);
/// Of kernels one after another: the sum of each one's, which is more than that of their sum.
double least_seconds(std::span<const device::KernelCost> kernels, const Ceilings& ceilings);

}  // namespace hone::kernels
