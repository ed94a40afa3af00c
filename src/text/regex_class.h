// Character classes of the regex translation: what one class may hold, and how it is spelt for PCRE2.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hone::text::tok {

/// A set of code points under construction: ranges and properties that fit into one PCRE2 class, and
/// expressions of one character each that do not.
class CodeSet {
 public:
  void add_range(char32_t first, char32_t last);
  /// A property by name (general category, script, ...). Returns false where the name is unknown.
  bool add_property(std::string_view name, bool negated);
  /// `\s`, `\d`, `\w`, `\h` and their capitals; `bare` is outside a class, where `\w` has six more code
  /// points.
  void add_shorthand(char32_t letter, bool bare);
  /// A POSIX bracket such as "alpha". Returns false where the name is unknown.
  bool add_posix(std::string_view name, bool negated);
  void add_set(const CodeSet& other);

  /// The code points in every set, the union so far included.
  void intersect_with_next();
  void negate();

  /// A PCRE2 expression that matches exactly one code point of the set. Final: call once, last.
  std::string spell();

 private:
  std::string spell_union() const;

  std::string items_;                   // inside [ ]
  std::vector<std::string> others_;     // expressions of one character
  std::vector<std::string> conjuncts_;  // finished operands of &&
  bool intersected_ = false;
  bool negated_ = false;
};

/// Any one code point, line ends included.
std::string any_code_expression();

}  // namespace hone::text::tok
