// What this process has resident in memory, as Linux counts it.
#pragma once

#include <cstdint>

namespace hone {

/// Bytes resident now: its own, and pages of files that it has mapped and touched. 0 where /proc is not
/// there.
std::int64_t resident_bytes();
/// The most bytes that were ever resident at once, or since the last reset_peak_resident().
std::int64_t peak_resident_bytes();
void reset_peak_resident();
/// Gives what malloc keeps of freed memory, of every thread, back to the system: reading a million rows
/// leaves hundreds of MiB of it.
void trim_heap();

}  // namespace hone
