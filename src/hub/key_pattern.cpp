#include "hub/key_pattern.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace hone::hub {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

/// Compares two digit runs as numbers, whatever their length.
int compare_numbers(std::string_view a, std::string_view b) {
  a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
  b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  return a.compare(b);
}

int compare_components(std::string_view a, std::string_view b) {
  const bool a_is_number = is_number(a);
  const bool b_is_number = is_number(b);
  if (a_is_number != b_is_number) return a_is_number ? -1 : 1;
  return a_is_number ? compare_numbers(a, b) : a.compare(b);
}

std::string_view take_component(std::string_view& rest, bool& is_last) {
  const auto dot = rest.find('.');
  const std::string_view component = rest.substr(0, dot);
  is_last = dot == std::string_view::npos;
  rest.remove_prefix(is_last ? rest.size() : dot + 1);
  return component;
}

}  // namespace

KeyPattern::KeyPattern(std::string_view pattern) : text_(pattern) {
  while (true) {
    const auto open = pattern.find('{');
    HONE_CHECK(pattern.substr(0, open).find('}') == std::string_view::npos, "unbalanced braces in '{}'",
               text_);
    Part part{std::string(pattern.substr(0, open)), ""};
    if (open == std::string_view::npos) {
      parts_.push_back(std::move(part));
      return;
    }
    const auto close = pattern.find('}', open);
    HONE_CHECK(close != std::string_view::npos && close > open + 1, "unbalanced braces or no name in '{}'",
               text_);
    HONE_CHECK(!part.literal.empty() || parts_.empty(), "no text between two placeholders in '{}'", text_);
    part.name = pattern.substr(open + 1, close - open - 1);
    parts_.push_back(std::move(part));
    pattern.remove_prefix(close + 1);
  }
}

std::optional<KeyPattern::Captures> KeyPattern::match(std::string_view key) const {
  // Every placeholder takes all digits there are: what follows one is never a digit in a key, so no second
  // try is needed.
  Captures captures;
  for (const auto& part : parts_) {
    if (!key.starts_with(part.literal)) return std::nullopt;
    key.remove_prefix(part.literal.size());
    if (part.name.empty()) break;
    const auto end =
        static_cast<std::size_t>(std::find_if_not(key.begin(), key.end(), is_digit) - key.begin());
    if (end == 0) return std::nullopt;
    const auto [at, is_new] = captures.emplace(part.name, key.substr(0, end));
    if (!is_new && at->second != key.substr(0, end)) return std::nullopt;
    key.remove_prefix(end);
  }
  if (!key.empty()) return std::nullopt;
  return captures;
}

std::string KeyPattern::expand(const Captures& captures) const {
  std::string key;
  for (const auto& part : parts_) {
    key += part.literal;
    if (part.name.empty()) break;
    const auto found = captures.find(part.name);
    HONE_CHECK(found != captures.end(), "no value for {{{}}} in '{}'", part.name, text_);
    key += found->second;
  }
  return key;
}

bool natural_key_less(std::string_view a, std::string_view b) {
  while (true) {
    bool a_ends = false;
    bool b_ends = false;
    const int order = compare_components(take_component(a, a_ends), take_component(b, b_ends));
    if (order != 0) return order < 0;
    if (a_ends || b_ends) return a_ends && !b_ends;
  }
}

}  // namespace hone::hub
