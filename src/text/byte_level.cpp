// The byte alphabet of https://github.com/openai/gpt-2: printable Latin-1 characters stand for themselves,
// the other bytes, in order, for U+0100 and up.
#include "text/byte_level.h"

#include <array>

#include "text/unicode.h"

namespace hone::text::tok {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr char32_t kFirstStandIn = 0x100;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> codes{};
  std::array<unsigned char, 68> stand_ins{};  // of U+0100 and up
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  std::size_t next = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (stands_for_itself(byte)) {
      alphabet.codes[byte] = byte;
    } else {
      alphabet.codes[byte] = kFirstStandIn + static_cast<char32_t>(next);
      alphabet.stand_ins[next++] = static_cast<unsigned char>(byte);
    }
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

char32_t byte_to_code(unsigned char byte) {
  return kAlphabet.codes[byte];
}

std::optional<unsigned char> code_to_byte(char32_t code) {
  if (code < kFirstStandIn) {
    return stands_for_itself(code) ? std::optional(static_cast<unsigned char>(code)) : std::nullopt;
  }
  const std::size_t index = code - kFirstStandIn;
  return index < kAlphabet.stand_ins.size() ? std::optional(kAlphabet.stand_ins[index]) : std::nullopt;
}

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) unicode::append(out, byte_to_code(static_cast<unsigned char>(byte)));
  return out;
}

std::optional<std::string> from_byte_level(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t at = 0; at < token.size();) {
    const auto byte = code_to_byte(unicode::decode(token, at));
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
  }
  return bytes;
}

}  // namespace hone::text::tok
