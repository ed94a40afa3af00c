#include "base/message.h"

#include <fmt/format.h>

namespace hone {

namespace {

/// Length of the UTF-8 sequence that starts at text[at], 0 where the bytes are not one (overlong forms and
/// surrogates too).
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return 1;
  const std::size_t n = lead >= 0xc2 && lead < 0xe0   ? 2
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (n == 0 || at + n > text.size()) return 0;
  for (std::size_t i = 1; i < n; ++i)
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  const unsigned char second = byte(at + 1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0)) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90)) return 0;
  return n;
}

}  // namespace

std::string shown(std::string_view text, std::size_t max_bytes) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (result.size() >= max_bytes) return result + "…";
    const std::size_t n = sequence_length(text, at);
    const auto c = static_cast<unsigned char>(text[at]);
    if (n == 1 && c == '\n') {
      result += "\\n";
    } else if (n == 0 || c < 0x20 || c == 0x7f) {
      result += fmt::format("\\x{:02x}", c);
    } else {
      result += text.substr(at, n);
    }
    at += n == 0 ? 1 : n;
  }
  return result;
}

bool is_lfs_pointer(std::string_view content) {
  return content.starts_with("version https://git-lfs.github.com/spec/");
}

}  // namespace hone
