// The element types that a safetensors file may hold. More than hone computes in: what it cannot compute in
// still passes through as bytes, under the name the file gave it.
#pragma once

#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace hone::hub {

/// One element type of the safetensors format (its Rust library, 0.8).
struct StoredType {
  std::string_view name;       ///< as in the file: "BF16", "F8_E4M3" …
  int bits;                    ///< of one element; 4 and 6 are packed
  int rank;                    ///< the library writes tensors of higher rank first
  std::optional<DType> dtype;  ///< hone's type; nullopt where hone only carries the bytes
};

/// The type of that name, or nullptr. Points to a constant that lives as long as the program.
const StoredType* find_stored_type(std::string_view name);
/// How a DType is written.
const StoredType& stored_type(DType dtype);
/// True for the types that weights can be loaded from and saved to: F32, BF16, F16, F64.
bool is_weight_type(const StoredType& type);
/// "F32, BF16, …": every name, for messages.
std::string_view stored_type_names();

}  // namespace hone::hub
