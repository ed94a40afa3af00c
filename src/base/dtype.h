// Element types and the conversions between them. bfloat16 and float16 are storage types: arithmetic is in
// float.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace hone {

/// Element types a Tensor or a checkpoint entry may have.
enum class DType : std::uint8_t {
  kF32,
  kBF16,
  kF16,
  kF64,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool
};

/// Bytes of one element.
std::size_t size_of(DType dtype);
/// True for the floating types.
bool is_floating(DType dtype);
/// "f32", "bf16", "i64" …: hone's own short names, as in recipes and messages.
std::string_view name_of(DType dtype);
/// The inverse of name_of; also takes Transformers' words ("float32", "bfloat16", "float16"). nullopt for an
/// unknown name.
std::optional<DType> parse_dtype(std::string_view name);

/// A bfloat16 number: the upper half of a float. Rounds to nearest even; NaN stays NaN.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    bits = std::isnan(value) ? static_cast<std::uint16_t>((u >> 16) | 0x40)
                             : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// An IEEE half-precision number. Only read and written in files; nothing computes in it.
struct Float16 {
  std::uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value);
  explicit operator float() const;
};

/// Converts n elements between two of {f32, bf16, f16, f64}; regions must not overlap.
/// Throws Error(kInternal) for other types.
void convert(DType from, const void* source, DType to, void* target, std::size_t n);

}  // namespace hone
