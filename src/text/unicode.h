// UTF-8 and the character classes of the tokenizer: what Rust's standard library, its regex crate and the
// `tokenizers` library's normalizers answer, at the Unicode versions that library is built with.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hone::text::unicode {

/// Byte length of the UTF-8 sequence that starts with `lead`, for valid text.
constexpr std::size_t sequence_length(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}
/// Does a character start at this byte (of valid text)?
constexpr bool is_boundary_byte(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

/// The code point at byte `at` of valid UTF-8; moves `at` behind it.
char32_t decode(std::string_view text, std::size_t& at);
void append(std::string& out, char32_t code);
/// Code points of valid UTF-8.
std::vector<char32_t> to_codes(std::string_view text);
/// The offset of the first byte that is not UTF-8 (overlong forms and surrogates included), or npos.
std::size_t find_invalid(std::string_view text);
/// `bytes` with every maximal broken part replaced by U+FFFD (Rust's String::from_utf8_lossy).
std::string from_utf8_lossy(std::string_view bytes);

bool is_white_space(char32_t code);     ///< the White_Space property
bool is_word(char32_t code);            ///< `\w` of Rust's regex crate
bool is_numeric(char32_t code);         ///< Rust's char::is_numeric
bool is_punctuation(char32_t code);     ///< what the Punctuation pre-tokenizer splits at
bool is_combining_mark(char32_t code);  ///< what the StripAccents normalizer drops
void append_lower(std::vector<char32_t>& out, char32_t code);  ///< Rust's char::to_lowercase

/// The normal forms of Unicode Standard Annex 15.
enum class Form { kNfc, kNfd, kNfkc, kNfkd };

/// A character of a normalized text. `change` says how it came about, as the library counts: 1 for one that
/// was inserted, 0 for one in the place of one character, -n for one that also swallowed the n characters
/// behind.
struct NormalizedCode {
  char32_t code;
  int change;
};

/// Is the text certainly in the form already?
bool is_plainly_normalized(std::string_view text, Form form);
std::vector<NormalizedCode> normalize(std::string_view text, Form form);

}  // namespace hone::text::unicode
