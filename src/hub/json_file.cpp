#include "hub/json_file.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/suggest.h"
#include "hub/message.h"

namespace hone::hub {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxDepth = 500;  // Python's parser gives up at about 1000

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

[[noreturn]] void fail_at(const std::string& name, std::string_view text, std::size_t offset,
                          std::string_view what) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto start = before.rfind('\n');
  const std::string_view on_line = start == std::string_view::npos ? before : before.substr(start + 1);
  const auto is_lead = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  fail("{}:{}:{}: {}", name, line, 1 + std::count_if(on_line.begin(), on_line.end(), is_lead), what);
}

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
  return "not valid JSON: " + shown(result, 200);
}

/// Builds the document from the parser's events: keeps order, refuses repeated keys (nlohmann would keep the
/// last).
class Builder {
 public:
  Builder(std::string_view text, const std::string& name, const std::set<std::size_t>& python_numbers,
          const std::size_t& taken)
      : text_(text), name_(name), python_numbers_(python_numbers), taken_(taken) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) { return add(value); }
  bool number_float(double value, const std::string& token) {
    return add(python_number(token).value_or(value));
  }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& value) {
    if (!keys_.back().insert(value).second)
      fail_at(name_, text_, text_.rfind('"', taken_ - 2),
              "key \"" + shown(value) + "\" appears twice in one object");
    key_ = std::move(value);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    fail_at(name_, text_, position == 0 ? 0 : position - 1, tidy(error.what()));
  }

  Json take() { return std::move(root_); }

 private:
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array())
      return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
    // Not through operator[], which searches the whole object for the key each time.
    auto& members = open_.back()->get_ref<Json::object_t&>();
    return &members.emplace_back(std::move(key_), std::move(value)).second;
  }
  bool open(Json value) {
    if (open_.size() >= kMaxDepth) fail_at(name_, text_, taken_ - 1, "nested more than 500 deep");
    open_.push_back(place(std::move(value)));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
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

  std::string_view text_;
  const std::string& name_;
  const std::set<std::size_t>& python_numbers_;
  const std::size_t& taken_;
  Json root_;
  std::vector<Json*> open_;
  std::vector<std::unordered_set<std::string>> keys_;
  std::string key_;
};

}  // namespace

nlohmann::ordered_json parse_json(std::string_view text, const std::string& name) {
  if (is_lfs_pointer(text))
    fail("{}: is a Git LFS pointer, not the file; run `git lfs pull` in its directory", name);
  // The parser would take it for the end of the text.
  if (const auto at = text.find('\0'); at != std::string_view::npos)
    fail_at(name, text, at, "not valid JSON: a zero byte");
  std::set<std::size_t> python_numbers;
  std::string masked;
  std::string_view input = text;
  if (text.find("NaN") != std::string_view::npos || text.find("Infinity") != std::string_view::npos) {
    masked = mask_python_numbers(text, python_numbers);
    input = masked;
  }
  std::size_t taken = 0;
  std::size_t unused = 0;
  Builder builder(text, name, python_numbers, taken);
  const bool done = Json::sax_parse(CountingIterator(input.data(), &taken),
                                    CountingIterator(input.data() + input.size(), &unused), &builder);
  HONE_CHECK(done, "{}: the parser stopped", name);
  return builder.take();
}

struct JsonNode::Document {
  std::string name;
  Json root;
};

JsonNode::JsonNode(std::shared_ptr<const Document> document, const nlohmann::ordered_json* value,
                   std::string path)
    : document_(std::move(document)), value_(value), path_(std::move(path)) {}

JsonNode JsonNode::read(const std::filesystem::path& path) {
  return parse(read_regular_file(path), path.string());
}

JsonNode JsonNode::parse(std::string_view text, const std::string& name) {
  auto document = std::make_shared<Document>(Document{name, parse_json(text, name)});
  const Json* root = &document->root;
  return {std::move(document), root, ""};
}

bool JsonNode::is_null() const {
  return value_->is_null();
}
bool JsonNode::is_object() const {
  return value_->is_object();
}
bool JsonNode::is_array() const {
  return value_->is_array();
}
bool JsonNode::is_string() const {
  return value_->is_string();
}
bool JsonNode::is_bool() const {
  return value_->is_boolean();
}
bool JsonNode::is_integer() const {
  return value_->is_number_integer();
}
bool JsonNode::is_number() const {
  return value_->is_number();
}

bool JsonNode::has(std::string_view key) const {
  return is_object() && find(key).has_value();
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  if (!is_object()) fail_expected("an object");
  for (const auto& [name, child] : value_->get_ref<const Json::object_t&>())
    if (name == key) return JsonNode(document_, &child, child_path(key));
  return std::nullopt;
}

JsonNode JsonNode::at(std::string_view key) const {
  if (auto child = find(key)) return *std::move(child);
  const auto known = keys();
  fail("{}: no key {}{}", file(), shown(child_path(key)), shown(suggestion(key, known), 300));
}

std::vector<std::string> JsonNode::keys() const {
  if (!is_object()) fail_expected("an object");
  std::vector<std::string> names;
  for (const auto& member : value_->get_ref<const Json::object_t&>()) names.push_back(member.first);
  return names;
}

std::size_t JsonNode::size() const {
  if (!is_object() && !is_array()) fail_expected("a list or an object");
  return value_->size();
}

JsonNode JsonNode::operator[](std::size_t index) const {
  if (!is_array()) fail_expected("a list");
  HONE_CHECK(index < value_->size(), "element {} of {} in {}", index, value_->size(), path_);
  return {document_, &(*value_)[index], fmt::format("{}[{}]", path_, index)};
}

std::vector<JsonNode> JsonNode::elements() const {
  if (!is_array()) fail_expected("a list");
  std::vector<JsonNode> all;
  for (std::size_t i = 0; i < value_->size(); ++i) all.push_back((*this)[i]);
  return all;
}

std::string JsonNode::as_string() const {
  if (!is_string()) fail_expected("a string");
  return value_->get<std::string>();
}

bool JsonNode::as_bool() const {
  if (!is_bool()) fail_expected("true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::as_integer() const {
  if (value_->is_number_float()) {
    const double value = value_->get<double>();
    if (std::trunc(value) == value && std::abs(value) < 0x1p53) return static_cast<std::int64_t>(value);
  }
  if (!is_integer()) fail_expected("an integer");
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > kMax)
    fail_expected("an integer below 2^63");
  return value_->get<std::int64_t>();
}

double JsonNode::as_number() const {
  if (!is_number()) fail_expected("a number");
  return value_->get<double>();
}

std::string JsonNode::text(std::size_t max_chars) const {
  if (value_->is_number_float() && !std::isfinite(value_->get<double>()))
    return fmt::format("{}", value_->get<double>());
  return shown(value_->dump(-1, ' ', false, Json::error_handler_t::replace), max_chars);
}

const std::string& JsonNode::file() const {
  return document_->name;
}

void JsonNode::fail_expected(std::string_view what) const {
  fail("{}: {} is {}, expected {}", file(), path_.empty() ? "the document" : shown(path_, 200), text(), what);
}

std::string JsonNode::child_path(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

}  // namespace hone::hub
