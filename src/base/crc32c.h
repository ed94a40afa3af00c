// CRC-32C (Castagnoli), as RFC 3720 defines it.
#pragma once

#include <cstdint>
#include <string_view>

namespace hone {

std::uint32_t crc32c(std::string_view bytes);

}  // namespace hone
