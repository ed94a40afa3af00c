// The label that both who writes labels and who computes with them know.
#pragma once

#include <cstdint>

namespace hone {

/// A label that is not learnt from, as in Transformers.
inline constexpr std::int32_t kIgnoredLabel = -100;

}  // namespace hone
