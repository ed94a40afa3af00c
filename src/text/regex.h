// The regular expressions of tokenizer.json: Oniguruma's Ruby syntax, run by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "text/function_ref.h"

namespace hone::text::tok {

/// Rewrites an Oniguruma pattern as a PCRE2 pattern (options UTF, UCP, MULTILINE) with the same matches:
/// classes get the Unicode version of the `tokenizers` library, nested and intersected classes are unfolded,
/// `{n,m}+` repeats the repetition as Oniguruma has it, and so on. Throws Error, beginning with `where`, that
/// names the construct and its byte for what has no exact counterpart.
std::string translate_regex(std::string_view pattern, std::string_view where);

/// What a search needs to write to: one per thread, for any number of patterns.
class RegexScratch {
 public:
  RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;
  RegexScratch& operator=(RegexScratch&&) noexcept;
  ~RegexScratch();

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

/// A compiled pattern; copies share it, and many threads may search with it at once.
class Regex {
 public:
  /// Compiles an Oniguruma pattern. Throws Error, beginning with `where`.
  Regex(std::string_view pattern, std::string_view where);

  /// Calls `found(begin, end)` for every match in valid UTF-8 `text`, left to right and without overlaps; an
  /// empty match that touches the match before it is left out. Throws Error where PCRE2 gives up: its limits
  /// are never taken for "no match".
  void for_each_match(std::string_view text, RegexScratch& scratch,
                      FunctionRef<void(std::size_t, std::size_t)> found) const;

 private:
  struct Compiled;
  bool find(std::string_view text, std::size_t from, RegexScratch& scratch, std::size_t& begin,
            std::size_t& end) const;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace hone::text::tok
