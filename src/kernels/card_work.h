// What each slot's kernel does on an NVIDIA card, launch by launch, which way it goes about it and why not a
// faster one, and a model of the time. Modelled, not measured: each path's share of a card's peaks is stated
// with its reason (card_paths.cpp), to be replaced by what `hone bench step --profile` measures there.
//
// A slot that gets another way of working (a library, wgmma) adds a Path, takes it in its card_work() under
// the condition by which its kernel takes it, and says so in slot_paths().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cards.h"
#include "kernels/kernels.h"

namespace hone::kernels {

namespace cuda {
struct HeadLimits;  // cuda/cuts.h
}

/// A way to do a kernel's work.
struct Path {
  std::string_view name;
  /// The share of a card's peak (of bf16, of f32) that full tiles reach, and that of its memory's speed.
  double (*of_peak)(const Card& card, DType dtype);
  double of_memory = 0;
  double launch_us = 0;  // a launch's start and end, while the card does nothing else
  std::string_view why;  // where the three are from
};
std::span<const Path* const> all_paths();

/// One launch, or `kernels` of them that are alike.
struct Launch {
  const Path* path = nullptr;
  double flops = 0;  // of all numbers that are there
  double done = 0;   // with those by which tiles are filled up, and multiprocessors that wait for the last
  double bytes = 0;  // read and written, each once
  DType dtype = DType::kF32;
  double kernels = 1;
};
using Work = std::vector<Launch>;

/// A card, and what its machine lacks.
struct CardTarget {
  Card card;
  std::string no_cublaslt = {};  // why there is none; "": there is
  std::string no_cudnn = {};     // why there is none, as above
  std::string no_wgmma =
      {};  // why nothing goes by it on compute capability 9.0; "": experts, attention's gradient
};
/// A card of this machine; of one that cards.h does not know, peaks are those of the nearest. Throws
/// Error(kUser) where it cannot be used.
CardTarget target_of(device::Device card);

// Of every slot: what its kernel does. Of Args alone, whose pointers may be null; what depends on the routing
// is counted on one that is drawn at random, each token's experts uniformly.
#define HONE_SLOT(name, ArgsOf) Work card_work(const ArgsOf& a, const CardTarget& target);
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
// Of the head with other limits than the table's (cuda/head.h).
Work card_work(const LinearCrossEntropyArgs& a, const CardTarget& target, const cuda::HeadLimits& limits);
Work card_work(const HeadStatisticsArgs& a, const CardTarget& target, const cuda::HeadLimits& limits);
Work card_work(const HeadGradArgs& a, const CardTarget& target, const cuda::HeadLimits& limits);

/// Seconds of calls: the least, and what is beyond.
struct WorkTime {
  double least = 0;      // of its Cost, at the peaks of the card's data sheet (peak.h)
  double more_work = 0;  // what this way computes and moves beyond that
  double rounding = 0;   // tiles that are not full, multiprocessors that wait for the last
  double rate = 0;       // what the paths do not reach of the peaks
  double launches = 0;   // starts and ends
  double kernels = 0;    // launches, a count
  double total() const { return least + more_work + rounding + rate + launches; }
  WorkTime& operator+=(const WorkTime& other);
};
WorkTime work_time(const Work& work, const Cost& cost, const Card& card);
/// Of one launch: what work_time sums up.
double seconds_of(const Launch& launch, const Card& card);
/// The path that takes most of the time; "" where nothing is done.
std::string_view main_path(const Work& work, const Card& card);

/// (token, slot) pairs that each expert gets where every token's top_k experts are drawn uniformly.
std::vector<std::int64_t> drawn_rows(std::int64_t tokens, std::int64_t experts, std::int64_t top_k);

/// How the large calls of a slot are done on a card, and why not faster.
struct SlotPath {
  std::string_view slot, path;
  std::string_view faster = {};  // a path that would be; "": none is known
  std::string why_not = {};
};
/// Of every slot, in order.
std::vector<SlotPath> slot_paths(const CardTarget& target);
/// Of the products of those that multiply operands in FP8 where train.fp8 is block.
std::vector<SlotPath> fp8_paths(const CardTarget& target);

}  // namespace hone::kernels
