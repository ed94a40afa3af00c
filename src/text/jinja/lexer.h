// Template source to tokens, with Jinja's white-space rules (trim_blocks, lstrip_blocks, the signs - and +,
// one trailing newline dropped).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace hone::text::jinja {

enum class TokenType : std::uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;  ///< data, name, unescaped string, or the operator's characters
  Value number;      ///< of kInteger and kFloat
  std::uint32_t line = 1;
  std::uint32_t tag = 0;  ///< index into TokenStream::tags; 0 outside of tags
};

/// Bytes [begin, end) of the source that one `{{ … }}` or `{% … %}` takes.
struct Tag {
  std::size_t begin = 0;
  std::size_t end = 0;
};

struct TokenStream {
  std::vector<Token> tokens;  ///< ends with kEnd
  std::vector<Tag> tags;      ///< the first one is empty
};

/// Where and why a template is malformed.
class SyntaxError : public std::runtime_error {
 public:
  SyntaxError(std::uint32_t line, const std::string& message) : std::runtime_error(message), line_(line) {}
  std::uint32_t line() const { return line_; }

 private:
  std::uint32_t line_;
};

/// The source as Jinja reads it: every kind of line end is "\n", and the last one is dropped.
std::string normalize_source(std::string_view source);

/// Throws SyntaxError. `source` is normalised and valid UTF-8.
TokenStream tokenize(std::string_view source);

}  // namespace hone::text::jinja
