// Patterns over tensor names: literal text with {name} placeholders, each a run of digits.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hone::hub {

/// "model.layers.{l}.mlp.experts.{e}.up_proj.weight". The same name twice must match the same digits.
class KeyPattern {
 public:
  using Captures = std::map<std::string, std::string, std::less<>>;

  /// Throws Error(kInternal) for unbalanced braces, an empty name, or two placeholders without text between
  /// them.
  explicit KeyPattern(std::string_view pattern);

  /// The digits of each placeholder where the whole key matches, else nullopt.
  std::optional<Captures> match(std::string_view key) const;
  /// The key with the placeholders filled in. Throws Error(kInternal) for a name without a value.
  std::string expand(const Captures& captures) const;
  const std::string& text() const { return text_; }

 private:
  struct Part {
    std::string literal;  // comes first
    std::string name;     // then this placeholder; empty at the end
  };
  std::string text_;
  std::vector<Part> parts_;
};

/// Less-than over dotted names that compares numeric components as numbers, and before words, as Transformers
/// orders keys.
bool natural_key_less(std::string_view a, std::string_view b);

}  // namespace hone::hub
