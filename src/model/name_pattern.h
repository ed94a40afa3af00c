// Patterns by which recipes name parameters: method.freeze, train.optimizer.groups.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace hone::model {

/// A regular expression (PCRE2's syntax, that of Perl) that is searched for in parameter names.
class NamePattern {
 public:
  /// Throws Error(kUser) "pattern 'PATTERN' is not a regular expression: WHY" for what is none.
  explicit NamePattern(const std::string& pattern);
  const std::string& text() const { return text_; }
  /// Whether it matches anywhere in `name`. Throws Error(kUser) where the search takes more than 100,000
  /// steps.
  bool found_in(std::string_view name) const;

 private:
  struct Compiled;
  std::string text_;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace hone::model
