// Python's values as chat templates use them. Strings are texts with marks; every other value knows the
// message it was computed from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/text.h"

namespace hone::text::jinja {

class Interpreter;

enum class Kind : std::uint8_t {
  kMissing,  ///< a name bound to nothing yet; never seen by expressions
  kUndefined,
  kNone,
  kBool,
  kInt,
  kBigInt,  ///< an integer beyond 64 bits: printed and compared, but not computed with
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kView,      ///< dict.keys(), .values(), .items()
  kIterator,  ///< a generator: can be read once
  kCallable,
  kNamespace,
  kOpaque,
};

struct List;
struct Dict;

/// A Python value. Small and cheap to copy; containers are shared and never change (the sandbox forbids it).
class Value {
 public:
  Value() : integer_(0) {}
  static Value missing() { return Value(Kind::kMissing); }
  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool value, Source source = {});
  static Value integer(std::int64_t value, Source source = {});
  static Value real(double value, Source source = {});
  static Value text(TextRef text);
  static Value string(std::string_view bytes, const Mark& mark = {});
  static Value object(Kind kind, std::shared_ptr<Object> object, Source source = {});

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_string() const { return kind_ == Kind::kString; }
  /// int or bool, as Python's isinstance(x, int) has it (64-bit ones).
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat || kind_ == Kind::kBigInt; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }

  std::int64_t integer() const { return integer_; }  ///< kInt, kBool
  bool boolean() const { return integer_ != 0; }     ///< kBool
  double real() const { return real_; }              ///< kFloat
  const Text& text() const { return static_cast<const Text&>(*object_); }
  TextRef text_ref() const { return std::static_pointer_cast<const Text>(object_); }
  const List& list() const;
  const Dict& dict() const;
  template <typename T>
  T& as() const {
    return static_cast<T&>(*object_);
  }
  const std::shared_ptr<Object>& object() const { return object_; }
  std::uint32_t depth() const { return object_ ? object_->depth : 0; }

  /// Where a value that is not a string comes from; for a string, see Text::runs.
  Source own_source() const { return source_; }
  /// The same for any kind; strings merge their runs.
  Source source() const;
  Mark mark() const { return Mark{source_, 0}; }
  Value with_source(Source source) const;

 private:
  explicit Value(Kind kind) : kind_(kind), integer_(0) {}

  Kind kind_ = Kind::kUndefined;
  Source source_;
  union {
    std::int64_t integer_;
    double real_;
  };
  std::shared_ptr<Object> object_;
};

/// list and tuple.
struct List final : Object {
  std::vector<Value> items;
};

struct Dict final : Object {
  std::vector<std::pair<Value, Value>> entries;
  /// Keeps the first position and the last value of equal keys, as Python does. Throws Raise for an
  /// unhashable key.
  void insert(Value key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;

 private:
  std::size_t index_of(const Value& key) const;
  std::unordered_multimap<std::size_t, std::size_t> by_hash_;  ///< filled once the dict is large
};

struct Range final : Object {
  std::int64_t start = 0;
  std::int64_t stop = 0;
  std::int64_t step = 1;
  std::int64_t length = 0;
  /// Wraps around where Python's range would need more than 64 bits (one step behind its last element).
  std::int64_t at(std::int64_t index) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(start) +
                                     static_cast<std::uint64_t>(index) * static_cast<std::uint64_t>(step));
  }
};

struct View final : Object {
  enum class What { kKeys, kValues, kItems };
  What what = What::kKeys;
  Value dict;
  std::string type_name() const override;
};

/// A one-pass stream of values: what select, map, reverse, … return.
struct Iterator : Object {
  /// False at the end; then `out` is untouched.
  bool next(Value& out) {
    Budget::spend(1);
    return advance(out);
  }
  std::string type_name() const override { return "generator"; }

 private:
  virtual bool advance(Value& out) = 0;
};

struct BigInteger final : Object {
  std::string digits;  ///< decimal, perhaps with a leading '-'
};

/// Why a value is undefined; the message is made when it is used.
struct UndefinedReason final : Object {
  std::string hint;         ///< the whole message, if not empty
  std::string object_type;  ///< "dict object", or empty for a plain name
  std::string name;         ///< repr of the missing name or element
  bool is_element = false;  ///< an index rather than an attribute
  std::string message() const;
};

/// The arguments of a call.
struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

struct Callable : Object {
  virtual Value call(Interpreter& interpreter, CallArgs& args) = 0;
  std::string type_name() const override { return "function"; }
};

struct Namespace final : Object {
  std::vector<std::pair<std::string, Value>> attributes;
  const Value* find(std::string_view name) const;
  /// Throws Raise for names that begin with an underscore, as Transformers' sandbox does.
  void set(std::string_view name, Value value);
  std::string type_name() const override { return "TemplateNamespace"; }
  std::string repr() const override;
  std::optional<Value> attribute(std::string_view name) override;
};

Value make_list(std::vector<Value> items, Source source = {});
Value make_tuple(std::vector<Value> items, Source source = {});
Value make_dict(std::shared_ptr<Dict> dict, Source source = {});
Value make_undefined(std::string_view name);
Value make_undefined_hint(std::string hint);
/// The undefined that `object.name` or `object[name]` gives.
Value make_undefined_member(const Value& object, const Value& name);
Value make_big_integer(std::string digits, Source source = {});
/// Sets the depth of a holder of values; throws Raise where values nest too deeply.
void set_depth(Object& holder, const std::vector<Value>& held);
std::uint32_t checked_depth(std::uint32_t depth);

/// type(value).__name__, and the longer form that Jinja's messages use.
std::string type_name(const Value& value);
std::string object_type(const Value& value);

bool equals(const Value& a, const Value& b);
/// Consistent with equals. Throws Raise (TypeError) for lists and dicts.
std::size_t hash(const Value& value);

}  // namespace hone::text::jinja
