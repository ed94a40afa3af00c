#include "hub/stored_type.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"

namespace hone::hub {

namespace {

// Ranks follow the order of the library's Dtype enum, which is what it sorts by.
constexpr std::array<StoredType, 22> kTypes{{{"BOOL", 8, 0, DType::kBool},
                                             {"F4", 4, 1, std::nullopt},
                                             {"F6_E2M3", 6, 2, std::nullopt},
                                             {"F6_E3M2", 6, 3, std::nullopt},
                                             {"U8", 8, 4, DType::kU8},
                                             {"I8", 8, 5, DType::kI8},
                                             {"F8_E5M2", 8, 6, DType::kF8E5M2},
                                             {"F8_E4M3", 8, 7, DType::kF8E4M3},
                                             {"F8_E8M0", 8, 8, std::nullopt},
                                             {"F8_E4M3FNUZ", 8, 9, std::nullopt},
                                             {"F8_E5M2FNUZ", 8, 10, std::nullopt},
                                             {"I16", 16, 11, DType::kI16},
                                             {"U16", 16, 12, std::nullopt},
                                             {"F16", 16, 13, DType::kF16},
                                             {"BF16", 16, 14, DType::kBF16},
                                             {"I32", 32, 15, DType::kI32},
                                             {"U32", 32, 16, std::nullopt},
                                             {"F32", 32, 17, DType::kF32},
                                             {"C64", 64, 18, std::nullopt},
                                             {"F64", 64, 19, DType::kF64},
                                             {"I64", 64, 20, DType::kI64},
                                             {"U64", 64, 21, std::nullopt}}};

}  // namespace

const StoredType* find_stored_type(std::string_view name) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const StoredType& t) { return t.name == name; });
  return found == kTypes.end() ? nullptr : found;
}

const StoredType& stored_type(DType dtype) {
  for (const auto& type : kTypes)
    if (type.dtype == dtype) return type;
  HONE_CHECK(false, "dtype {} has no safetensors name", name_of(dtype));
}

bool is_weight_type(const StoredType& type) {
  return type.dtype == DType::kF32 || type.dtype == DType::kBF16 || type.dtype == DType::kF16 ||
         type.dtype == DType::kF64;
}

std::string_view stored_type_names() {
  static const std::string names = [] {
    std::string list;
    for (const auto& type : kTypes) list += (list.empty() ? "" : ", ") + std::string(type.name);
    return list;
  }();
  return names;
}

}  // namespace hone::hub
