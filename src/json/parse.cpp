#include "json/parse.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/message.h"

namespace hone {

namespace {

using Json = nlohmann::ordered_json;

/// Feeds the parser and counts what it has taken, which nlohmann's events do not tell.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* taken) : at_(at), taken_(taken) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*taken_;
    return *this;
  }
  CountingIterator operator++(int) {
    auto before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  std::size_t* taken_;
};

/// What is parsed, for messages.
struct Document {
  std::string_view text;
  const std::string& name;
  const JsonOptions& options;

  [[noreturn]] void fail_at(std::size_t offset, std::string_view what) const {
    const std::string_view before = text.substr(0, std::min(offset, text.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const auto start = before.rfind('\n');
    const std::string_view on_line = start == std::string_view::npos ? before : before.substr(start + 1);
    const auto is_lead = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
    const auto column = 1 + std::count_if(on_line.begin(), on_line.end(), is_lead);
    if (options.name_has_line && line == 1) fail("{}:{}: {}", name, column, what);
    fail("{}:{}:{}: {}", name, line, column, what);
  }
};

/// Python's NaN, Infinity and -Infinity, which are not JSON, replaced by floats of the same length for the
/// parser to read. `offsets` receives where they are.
std::string mask_python_numbers(std::string_view text, std::set<std::size_t>& offsets) {
  std::string masked(text);
  const auto mask = [&](std::size_t at, std::string_view word, std::string_view number) {
    if (text.substr(at, word.size()) != word) return;
    masked.replace(at, word.size(), number);
    offsets.insert(at);
  };
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string && c == '\\') {
      ++at;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && c == 'N' && (at == 0 || text[at - 1] != '-')) {
      mask(at, "NaN", "0e0");
    } else if (!in_string && c == 'I') {
      mask(at, "Infinity", "0e000000");
    }
  }
  return masked;
}

/// "… syntax error while parsing object key - unexpected '}'; last read: …; expected string literal" without
/// the noise.
std::string tidy(std::string_view message) {
  for (const std::string_view lead : {"] ", "syntax error while parsing "})
    if (const auto at = message.find(lead); at != std::string_view::npos)
      message.remove_prefix(at + lead.size());
  std::string result(message);
  if (const auto from = result.find("; last read: "); from != std::string::npos) {
    const auto to = result.find("; expected ", from);
    result.erase(from, to == std::string::npos ? to : to - from);
  }
  return shown(result, 200);
}

/// What other notations write where JSON has another word.
struct Foreign {
  std::string_view word, advice;
};
constexpr std::array<Foreign, 12> kForeign{{{"None", "write null"},
                                            {"True", "write true"},
                                            {"False", "write false"},
                                            {"undefined", "write null"},
                                            {"nan", "which JSON does not have; write null"},
                                            {"-nan", "which JSON does not have; write null"},
                                            {"-NaN", "which JSON does not have; write null"},
                                            {"inf", "which JSON does not have; write null"},
                                            {"-inf", "which JSON does not have; write null"},
                                            {"Inf", "which JSON does not have; write null"},
                                            {"-Inf", "which JSON does not have; write null"},
                                            {"NA", "which JSON does not have; write null"}}};

/// A hint where the offending word is another notation's, or its quotes are.
std::string advice_at(std::string_view text, std::size_t offset) {
  const auto in_word = [&](std::size_t at) {
    const char c = text[at];
    return c == '-' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  if (offset >= text.size()) return "; the text ends early";
  if (text[offset] == '\'') return "; JSON has its strings in \"…\"";
  std::size_t begin = offset;
  while (begin > 0 && in_word(begin - 1)) --begin;
  std::size_t end = begin;
  while (end < text.size() && in_word(end)) ++end;
  const std::string_view word = text.substr(begin, end - begin);
  for (const auto& [foreign, advice] : kForeign)
    if (word == foreign) return fmt::format("; it says {}, {}", word, advice);
  return "";
}

/// Builds the document from the parser's events.
class Builder {
 public:
  Builder(const Document& document, const std::set<std::size_t>& python_numbers, const std::size_t& taken)
      : document_(document), python_numbers_(python_numbers), taken_(taken) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) { return add(value); }
  bool number_float(double value, const std::string& token) {
    if (document_.options.exact_integers && token.find_first_of(".eE") == std::string::npos)
      return add(Json::binary({token.begin(), token.end()}, kBigIntegerSubtype));
    return add(python_number(token).value_or(value));
  }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& value) {
    slot_ = find_member(value);
    if (slot_ != nullptr && document_.options.repeated_keys == RepeatedKeys::kRefused)
      document_.fail_at(document_.text.rfind('"', taken_ - 2),
                        fmt::format("key \"{}\" appears twice in one object", shown(value)));
    key_ = std::move(value);
    has_key_ = true;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    const std::size_t offset = position == 0 ? 0 : position - 1;
    const std::string path = shown(this->path(), 200);
    document_.fail_at(offset, fmt::format("not valid JSON{}: {}{}", path.empty() ? "" : " in " + path,
                                          tidy(error.what()), advice_at(document_.text, offset)));
  }

  Json take() { return std::move(root_); }

 private:
  /// An object or array that is not closed yet. Beyond kFewMembers, members are found by hash.
  struct Level {
    Json* value;
    std::unordered_map<std::string, std::size_t> members;
  };
  static constexpr std::size_t kFewMembers = 16;

  /// The value of the innermost object's member `key`, or null.
  Json* find_member(const std::string& key) {
    auto& level = levels_.back();
    auto& members = level.value->get_ref<Json::object_t&>();
    if (members.size() < kFewMembers) {
      for (auto& [name, value] : members)
        if (name == key) return &value;
      return nullptr;
    }
    if (level.members.empty())
      for (std::size_t i = 0; i < members.size(); ++i)
        level.members.emplace((members.begin() + static_cast<std::ptrdiff_t>(i))->first, i);
    const auto [found, is_new] = level.members.emplace(key, members.size());
    return is_new ? nullptr : &(members.begin() + static_cast<std::ptrdiff_t>(found->second))->second;
  }

  template <typename T>
  bool add(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }
  Json* place(Json value) {
    if (++values_ > kMaxJsonValues)
      document_.fail_at(taken_ - 1, fmt::format("more than {} values in one document", kMaxJsonValues));
    has_key_ = false;
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (levels_.back().value->is_array())
      return &levels_.back().value->get_ref<Json::array_t&>().emplace_back(std::move(value));
    if (slot_ != nullptr) {
      *slot_ = std::move(value);
      return slot_;
    }
    // Not through operator[], which searches the whole object for the key each time.
    auto& members = levels_.back().value->get_ref<Json::object_t&>();
    return &members.emplace_back(std::move(key_), std::move(value)).second;
  }
  bool open(Json value) {
    if (levels_.size() >= kMaxJsonDepth)
      document_.fail_at(taken_ - 1, fmt::format("nested more than {} deep", kMaxJsonDepth));
    levels_.push_back({place(std::move(value)), {}});
    return true;
  }
  bool close() {
    levels_.pop_back();
    has_key_ = false;
    return true;
  }
  /// Where the parser is: "messages[1].content".
  std::string path() const {
    std::string path;
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      const Json& value = *levels_[i].value;
      const bool is_last = i + 1 == levels_.size();
      if (value.is_array()) {
        path += fmt::format("[{}]", is_last ? value.size() : value.size() - 1);
      } else if (is_last ? has_key_ : !value.empty()) {
        path += (path.empty() ? "" : ".") +
                (is_last ? key_ : value.get_ref<const Json::object_t&>().back().first);
      }
    }
    return path;
  }
  /// The value that mask_python_numbers hid behind `token`, if it did. The lexer has read the token, and one
  /// character more unless the text ended.
  std::optional<double> python_number(const std::string& token) const {
    if (python_numbers_.empty()) return std::nullopt;
    const bool is_negative = token.front() == '-';
    const std::size_t digits = token.size() - (is_negative ? 1 : 0);
    if (taken_ < digits) return std::nullopt;
    const std::size_t at = taken_ - digits;
    if (!python_numbers_.contains(at) && (at == 0 || !python_numbers_.contains(at - 1))) return std::nullopt;
    if (digits == 3) return std::numeric_limits<double>::quiet_NaN();
    return is_negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }

  const Document& document_;
  const std::set<std::size_t>& python_numbers_;
  const std::size_t& taken_;
  Json root_;
  std::vector<Level> levels_;
  std::string key_;
  Json* slot_ = nullptr;  // where a repeated key's value is
  bool has_key_ = false;  // a key was read, its value not yet
  std::size_t values_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& name, const JsonOptions& options) {
  if (is_lfs_pointer(text))
    fail("{}: is a Git LFS pointer, not the file; run `git lfs pull` in its directory", name);
  const Document document{text, name, options};
  // The parser would take it for the end of the text.
  if (const auto at = text.find('\0'); at != std::string_view::npos)
    document.fail_at(at, "not valid JSON: a zero byte");
  std::set<std::size_t> python_numbers;
  std::string masked;
  std::string_view input = text;
  if (text.find("NaN") != std::string_view::npos || text.find("Infinity") != std::string_view::npos) {
    masked = mask_python_numbers(text, python_numbers);
    input = masked;
  }
  std::size_t taken = 0;
  std::size_t unused = 0;
  Builder builder(document, python_numbers, taken);
  const bool done = Json::sax_parse(CountingIterator(input.data(), &taken),
                                    CountingIterator(input.data() + input.size(), &unused), &builder);
  HONE_CHECK(done, "{}: the parser stopped", name);
  return builder.take();
}

std::optional<std::string> find_non_finite(const Json& value, const std::string& name) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    return fmt::format("{} is {}", name, std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
  }
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i)
      if (auto found = find_non_finite(value[i], fmt::format("{}[{}]", name, i))) return found;
  } else if (value.is_object()) {
    for (const auto& [key, child] : value.get_ref<const Json::object_t&>())
      if (auto found = find_non_finite(child, name.empty() ? key : name + "." + key)) return found;
  }
  return std::nullopt;
}

}  // namespace hone
