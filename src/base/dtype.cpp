#include "base/dtype.h"

#include <array>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace hone {

namespace {

struct Info {
  DType dtype;
  std::string_view name;
  std::string_view long_name;
  std::size_t size;
  bool floating;
};

constexpr std::array<Info, 12> kInfos{{{DType::kF32, "f32", "float32", 4, true},
                                       {DType::kBF16, "bf16", "bfloat16", 2, true},
                                       {DType::kF16, "f16", "float16", 2, true},
                                       {DType::kF64, "f64", "float64", 8, true},
                                       {DType::kF8E4M3, "f8e4m3", "float8_e4m3fn", 1, true},
                                       {DType::kF8E5M2, "f8e5m2", "float8_e5m2", 1, true},
                                       {DType::kI64, "i64", "int64", 8, false},
                                       {DType::kI32, "i32", "int32", 4, false},
                                       {DType::kI16, "i16", "int16", 2, false},
                                       {DType::kI8, "i8", "int8", 1, false},
                                       {DType::kU8, "u8", "uint8", 1, false},
                                       {DType::kBool, "bool", "bool", 1, false}}};

const Info& info(DType dtype) {
  return kInfos.at(static_cast<std::size_t>(dtype));
}

template <typename To, typename From>
void convert_elements(const void* source, void* target, std::size_t n) {
  const auto* s = static_cast<const From*>(source);
  auto* t = static_cast<To*>(target);
  for (std::size_t i = 0; i < n; ++i) t[i] = To(static_cast<float>(s[i]));
}

template <typename From>
void convert_from(const void* source, DType to, void* target, std::size_t n) {
  switch (to) {
    case DType::kF32:
      return convert_elements<float, From>(source, target, n);
    case DType::kBF16:
      return convert_elements<BFloat16, From>(source, target, n);
    case DType::kF16:
      return convert_elements<Float16, From>(source, target, n);
    case DType::kF64:
      return convert_elements<double, From>(source, target, n);
    default:
      HONE_CHECK(false, "no conversion to {}", name_of(to));
  }
}

}  // namespace

std::size_t size_of(DType dtype) {
  return info(dtype).size;
}
bool is_floating(DType dtype) {
  return info(dtype).floating;
}
std::string_view name_of(DType dtype) {
  return info(dtype).name;
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const auto& i : kInfos)
    if (name == i.name || name == i.long_name) return i.dtype;
  return std::nullopt;
}

Float16::Float16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint32_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) {  // infinity or NaN
    bits = static_cast<std::uint16_t>(sign | 0x7c00u | (magnitude > 0x7f800000u ? 0x200u : 0u));
  } else if (magnitude >= 0x477ff000u) {  // rounds beyond 65504
    bits = static_cast<std::uint16_t>(sign | 0x7c00u);
  } else if (magnitude < 0x38800000u) {  // subnormal half: let the float adder round
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    bits = static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  } else {
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    bits = static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
}

Float16::operator float() const {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0u ? -value : value;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

void convert(DType from, const void* source, DType to, void* target, std::size_t n) {
  if (from == to) {
    std::memcpy(target, source, n * size_of(from));
    return;
  }
  switch (from) {
    case DType::kF32:
      return convert_from<float>(source, to, target, n);
    case DType::kBF16:
      return convert_from<BFloat16>(source, to, target, n);
    case DType::kF16:
      return convert_from<Float16>(source, to, target, n);
    case DType::kF64:
      return convert_from<double>(source, to, target, n);
    default:
      HONE_CHECK(false, "no conversion from {}", name_of(from));
  }
}

}  // namespace hone
