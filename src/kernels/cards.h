// What NVIDIA's cards can do at most, for models of steps on a card that is not here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/peak.h"

namespace hone::kernels {

/// Dense products without sparsity, of e4m3 and of bf16 summed in f32, and of f32 by the ordinary cores (hone
/// never lets f32 go through TF32).
struct Card {
  std::string_view name;  // what --card takes: "H200"
  int major = 0, minor = 0;
  int multiprocessors = 0;
  double memory_gib = 0;
  double e4m3_tflops = 0;                            // where hone has kernels for it: compute capability 9.0
  double bf16_tflops = 0, f32_tflops = 0, gb_s = 0;  // of its data sheet
  /// Floating-point operations of bf16 products that a multiprocessor does in a clock; what mma.sync does of
  /// them (Hopper's and Blackwell's data-centre cards reach their peaks by wgmma and tcgen05 alone).
  double clock_flops = 0, mma_sync_flops = 0;
  std::string_view source;  // of the figures
};

std::span<const Card> known_cards();
/// By name, whatever the case. Throws Error(kUser) that lists the known ones.
const Card& find_card(std::string_view name);
/// The one that the driver calls so ("NVIDIA A100-SXM4-80GB"); where none is, one of its compute capability.
const Card& nearest_card(std::string_view drivers_name, int major, int minor);

/// The data sheet's peaks as what bounds kernels.
Ceilings ceilings_of(const Card& card);

}  // namespace hone::kernels
