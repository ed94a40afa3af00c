// Values: construction, equality and hashing, and the builder of marked text.
#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

constexpr std::size_t kNotFound = static_cast<std::size_t>(-1);
constexpr std::size_t kIndexedDictSize = 16;

bool sequences_equal(const List& a, const List& b) {
  return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), equals);
}

bool dicts_equal(const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&b](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && equals(entry.second, *other);
  });
}

bool numbers_equal(const Value& a, const Value& b) {
  if (a.is(Kind::kBigInt) || b.is(Kind::kBigInt)) {
    return a.is(Kind::kBigInt) && b.is(Kind::kBigInt) &&
           a.as<BigInteger>().digits == b.as<BigInteger>().digits;
  }
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  const auto wide = [](const Value& v) {
    return v.is(Kind::kFloat) ? static_cast<long double>(v.real()) : static_cast<long double>(v.integer());
  };
  return wide(a) == wide(b);
}

bool ranges_equal(const Range& a, const Range& b) {
  if (a.length != b.length) return false;
  return a.length == 0 || (a.start == b.start && (a.length == 1 || a.step == b.step));
}

std::size_t combine(std::size_t seed, std::size_t value) {
  return seed ^ (value + 0x9E3779B97F4A7C15ULL + (seed << 6) + (seed >> 2));
}

}  // namespace

std::optional<Value> Object::attribute(std::string_view) {
  return std::nullopt;
}

Value Value::boolean(bool value, Source source) {
  Value v(Kind::kBool);
  v.integer_ = value ? 1 : 0;
  v.source_ = source;
  return v;
}

Value Value::integer(std::int64_t value, Source source) {
  Value v(Kind::kInt);
  v.integer_ = value;
  v.source_ = source;
  return v;
}

Value Value::real(double value, Source source) {
  Value v(Kind::kFloat);
  v.real_ = value;
  v.source_ = source;
  return v;
}

Value Value::text(TextRef text) {
  Value v(Kind::kString);
  v.object_ = std::const_pointer_cast<Text>(std::move(text));
  return v;
}

Value Value::string(std::string_view bytes, const Mark& mark) {
  TextBuilder builder;
  builder.append(bytes, mark);
  return text(builder.finish());
}

Value Value::object(Kind kind, std::shared_ptr<Object> object, Source source) {
  Value v(kind);
  v.object_ = std::move(object);
  v.source_ = source;
  return v;
}

const List& Value::list() const {
  return static_cast<const List&>(*object_);
}
const Dict& Value::dict() const {
  return static_cast<const Dict&>(*object_);
}

Source Value::source() const {
  return is_string() ? text().mark_of_all().source : source_;
}

Value Value::with_source(Source source) const {
  Value v = *this;
  v.source_ = source;
  return v;
}

std::uint32_t checked_depth(std::uint32_t depth) {
  if (depth > kMaxNesting) raise("RecursionError", "values nest more than {} deep", kMaxNesting);
  return depth;
}

void set_depth(Object& holder, const std::vector<Value>& held) {
  std::uint32_t depth = 0;
  for (const Value& value : held) depth = std::max(depth, value.depth() + 1);
  holder.depth = checked_depth(depth);
}

namespace {

Value make_sequence(Kind kind, std::vector<Value> items, Source source) {
  if (items.size() > kMaxItems)
    raise("MemoryError", "a list of the template grew beyond {} items", kMaxItems);
  Budget::spend(items.size() / 8);
  auto list = std::make_shared<List>();
  list->holding.take(sizeof(List) + items.size() * sizeof(Value));
  list->items = std::move(items);
  set_depth(*list, list->items);
  return Value::object(kind, std::move(list), source);
}

}  // namespace

Value make_list(std::vector<Value> items, Source source) {
  return make_sequence(Kind::kList, std::move(items), source);
}

Value make_tuple(std::vector<Value> items, Source source) {
  return make_sequence(Kind::kTuple, std::move(items), source);
}

Value make_dict(std::shared_ptr<Dict> dict, Source source) {
  std::uint32_t depth = 0;
  for (const auto& [key, value] : dict->entries)
    depth = std::max({depth, key.depth() + 1, value.depth() + 1});
  dict->depth = checked_depth(depth);
  dict->holding.take(sizeof(Dict) + dict->entries.size() * sizeof(dict->entries[0]));
  return Value::object(Kind::kDict, std::move(dict), source);
}

Value make_undefined(std::string_view name) {
  auto reason = std::make_shared<UndefinedReason>();
  reason->name = in_quotes(name);
  return Value::object(Kind::kUndefined, std::move(reason));
}

Value make_undefined_hint(std::string hint) {
  auto reason = std::make_shared<UndefinedReason>();
  reason->hint = std::move(hint);
  return Value::object(Kind::kUndefined, std::move(reason));
}

Value make_undefined_member(const Value& object, const Value& name) {
  auto reason = std::make_shared<UndefinedReason>();
  reason->object_type = object_type(object);
  reason->name = repr(name);
  reason->is_element = !name.is_string();
  return Value::object(Kind::kUndefined, std::move(reason));
}

Value make_big_integer(std::string digits, Source source) {
  auto big = std::make_shared<BigInteger>();
  big->digits = std::move(digits);
  return Value::object(Kind::kBigInt, std::move(big), source);
}

std::string UndefinedReason::message() const {
  if (!hint.empty()) return hint;
  if (object_type.empty()) return fmt::format("{} is undefined", name);
  if (is_element) return fmt::format("{} has no element {}", object_type, name);
  return fmt::format("{} has no attribute {}", in_quotes(object_type), name);
}

std::string View::type_name() const {
  return what == What::kKeys ? "dict_keys" : what == What::kValues ? "dict_values" : "dict_items";
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  if (name.starts_with("_")) {
    raise(kPlain,
          "Chat templates cannot store underscore-prefixed attributes on a namespace, but got {}. "
          "Please rename the attribute.",
          in_quotes(name));
  }
  for (auto& [key, old] : attributes) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(name, std::move(value));
}

std::optional<Value> Namespace::attribute(std::string_view name) {
  const Value* value = find(name);
  return value == nullptr ? std::nullopt : std::optional<Value>(*value);
}

std::string Namespace::repr() const {
  // A namespace may hold itself; what Python prints then is no template's business.
  std::string out = "<Namespace {";
  for (const auto& [name, value] : attributes) {
    if (out.back() != '{') out += ", ";
    out += in_quotes(name) + ": " + (value.is(Kind::kNamespace) ? "<Namespace ...>" : jinja::repr(value));
  }
  return out + "}>";
}

std::size_t Dict::index_of(const Value& key) const {
  if (by_hash_.empty()) {
    if (!key.is_string()) hash(key);  // an unhashable key is an error even in an empty dict
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (equals(entries[i].first, key)) return i;
    }
    return kNotFound;
  }
  const auto [first, last] = by_hash_.equal_range(hash(key));
  for (auto it = first; it != last; ++it) {
    if (equals(entries[it->second].first, key)) return it->second;
  }
  return kNotFound;
}

void Dict::insert(Value key, Value value) {
  const std::size_t index = index_of(key);
  if (index != kNotFound) {
    entries[index].second = std::move(value);
    return;
  }
  entries.emplace_back(std::move(key), std::move(value));
  if (!by_hash_.empty()) {
    by_hash_.emplace(hash(entries.back().first), entries.size() - 1);
  } else if (entries.size() > kIndexedDictSize) {
    for (std::size_t i = 0; i < entries.size(); ++i) by_hash_.emplace(hash(entries[i].first), i);
  }
}

const Value* Dict::find(const Value& key) const {
  const std::size_t index = index_of(key);
  return index == kNotFound ? nullptr : &entries[index].second;
}

const Value* Dict::find(std::string_view key) const {
  if (!by_hash_.empty()) return find(Value::string(key));
  for (const auto& [name, value] : entries) {
    if (name.is_string() && name.text().bytes == key) return &value;
  }
  return nullptr;
}

bool equals(const Value& a, const Value& b) {
  Budget::spend(1);
  if (a.is_number() && b.is_number()) return numbers_equal(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      Budget::spend_on_text(std::min(a.text().bytes.size(), b.text().bytes.size()));
      return a.text().bytes == b.text().bytes;
    case Kind::kList:
    case Kind::kTuple:
      return sequences_equal(a.list(), b.list());
    case Kind::kDict:
      return dicts_equal(a.dict(), b.dict());
    case Kind::kRange:
      return ranges_equal(a.as<Range>(), b.as<Range>());
    case Kind::kView:
      return a.as<View>().what == b.as<View>().what && a.as<View>().what != View::What::kValues &&
             equals(a.as<View>().dict, b.as<View>().dict);
    default:
      return a.object() == b.object();
  }
}

std::size_t hash(const Value& value) {
  Budget::spend(1);
  switch (value.kind()) {
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<std::int64_t>{}(value.integer());
    case Kind::kFloat: {
      const double real = value.real();
      if (real == std::floor(real) && std::abs(real) < 9.2e18) {
        return std::hash<std::int64_t>{}(static_cast<std::int64_t>(real));
      }
      return std::hash<double>{}(real);
    }
    case Kind::kBigInt:
      return std::hash<std::string>{}(value.as<BigInteger>().digits);
    case Kind::kString:
      Budget::spend_on_text(value.text().bytes.size());
      return std::hash<std::string>{}(value.text().bytes);
    case Kind::kTuple: {
      std::size_t seed = value.list().items.size();
      for (const Value& item : value.list().items) seed = combine(seed, hash(item));
      return seed;
    }
    case Kind::kList:
    case Kind::kDict:
      raise(kTypeError, "unhashable type: '{}'", type_name(value));
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return static_cast<std::size_t>(value.kind());
    default:
      return std::hash<const void*>{}(value.object().get());
  }
}

std::string type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
    case Kind::kBigInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.text().markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    default:
      return value.object()->type_name();
  }
}

std::string object_type(const Value& value) {
  if (value.is_none()) return "None";
  if (value.is_string() && value.text().markup) return "markupsafe.Markup object";
  const std::string type = type_name(value);
  const std::string_view module = type == "TemplateNamespace" ? "transformers.utils.chat_template_utils."
                                  : type == "LoopContext" || type == "Macro" || type == "TemplateReference"
                                      ? "jinja2.runtime."
                                      : "";
  return fmt::format("{}{} object", module, type);
}

}  // namespace hone::text::jinja
