// A fast 64-bit hash of bytes, to notice files that changed or rotted. Not for security.
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

}  // namespace hone
