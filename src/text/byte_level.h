// GPT-2's alphabet of bytes: every byte has a printable character, so that BPE works on characters.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hone::text::tok {

/// The character that stands for a byte.
char32_t byte_to_code(unsigned char byte);
/// The byte that a character stands for, or nothing.
std::optional<unsigned char> code_to_byte(char32_t code);

/// Every byte as its character, in UTF-8.
std::string to_byte_level(std::string_view bytes);
/// The bytes of a token, or nothing where one of its characters stands for no byte.
std::optional<std::string> from_byte_level(std::string_view token);

/// The pattern of GPT-2's tokenizer (ByteLevel with use_regex).
extern const std::string_view kGpt2Pattern;

}  // namespace hone::text::tok
