#include "base/content_hash.h"

#include <array>
#include <cstring>

namespace hone {

namespace {

constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15U;

std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31U);
}

}  // namespace

std::uint64_t content_hash(std::span<const std::byte> bytes, std::uint64_t seed) {
  // Four words at a time, each in a lane of its own: multiplying is what one lane would wait for.
  std::array<std::uint64_t, 4> lanes{seed + kOdd, seed + 2 * kOdd, seed + 3 * kOdd, seed + 4 * kOdd};
  constexpr std::size_t kBlock = sizeof lanes;
  const auto take = [&](const std::byte* at) {
    std::array<std::uint64_t, 4> words{};
    std::memcpy(words.data(), at, kBlock);
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      lanes[i] = (lanes[i] ^ words[i]) * 0xBF58476D1CE4E5B9U;
      lanes[i] ^= lanes[i] >> 29U;
    }
  };
  std::size_t at = 0;
  for (; at + kBlock <= bytes.size(); at += kBlock) take(bytes.data() + at);
  std::array<std::byte, kBlock> rest{};
  if (at < bytes.size()) std::memcpy(rest.data(), bytes.data() + at, bytes.size() - at);
  take(rest.data());
  std::uint64_t hash = bytes.size();
  for (const std::uint64_t lane : lanes) hash = mix((hash ^ lane) + kOdd);
  return hash;
}

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t h = 14695981039346656037ULL;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return h;
}

}  // namespace hone
