// Fast 64-bit hashes of bytes, names and numbers, to notice what changed or rotted. Not for security.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace hone {

/// Some 10 GB/s a core. `seed` chains hashes of several pieces.
std::uint64_t content_hash(std::span<const std::byte> bytes, std::uint64_t seed = 0);

/// FNV-1a of a name: what seeds a parameter's random stream, so it never changes. For short texts.
std::uint64_t hash_name(std::string_view name);

/// `hash` with one more value: the finalizer of splitmix64 (Steele et al., "Fast splittable pseudorandom
/// number generators", 2014) on the sum.
inline std::uint64_t mix_hash(std::uint64_t hash, std::uint64_t value) {
  std::uint64_t z = hash * 0x9E3779B97F4A7C15u + value + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace hone
