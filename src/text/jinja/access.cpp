// Iteration, attributes, items and slices of values.
#include <algorithm>
#include <array>

#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

class SequenceIterator final : public Iterator {
 public:
  explicit SequenceIterator(Value sequence) : sequence_(std::move(sequence)) {}
  bool advance(Value& out) override {
    const auto& items = sequence_.list().items;
    if (index_ >= items.size()) return false;
    out = items[index_++];
    return true;
  }

 private:
  Value sequence_;
  std::size_t index_ = 0;
};

class DictIterator final : public Iterator {
 public:
  DictIterator(Value dict, View::What what) : dict_(std::move(dict)), what_(what) {}
  bool advance(Value& out) override {
    const auto& entries = dict_.dict().entries;
    if (index_ >= entries.size()) return false;
    const auto& [key, value] = entries[index_++];
    out = what_ == View::What::kKeys     ? key
          : what_ == View::What::kValues ? value
                                         : make_tuple({key, value}, dict_.own_source());
    return true;
  }

 private:
  Value dict_;
  View::What what_;
  std::size_t index_ = 0;
};

TextRef plain_piece(const Text& text, std::size_t begin, std::size_t end) {
  TextBuilder out;
  out.append(text, begin, end);
  return out.finish();
}

class TextIterator final : public Iterator {
 public:
  explicit TextIterator(TextRef text) : text_(std::move(text)) {}
  bool advance(Value& out) override {
    if (at_ >= text_->bytes.size()) return false;
    const std::size_t begin = at_;
    decode_utf8(text_->bytes, at_);
    out = Value::text(plain_piece(*text_, begin, at_));  // iterating over Markup gives plain strings
    return true;
  }

 private:
  TextRef text_;
  std::size_t at_ = 0;
};

class RangeIterator final : public Iterator {
 public:
  explicit RangeIterator(Value range) : range_(std::move(range)) {}
  bool advance(Value& out) override {
    const Range& range = range_.as<Range>();
    if (index_ >= range.length) return false;
    out = Value::integer(range.at(index_++), range_.own_source());
    return true;
  }

 private:
  Value range_;
  std::int64_t index_ = 0;
};

struct EmptyIterator final : Iterator {
  bool advance(Value&) override { return false; }
};

/// Python's slice.indices(): the first index, the number of indices, and the step.
struct Slice {
  std::int64_t start = 0;
  std::int64_t step = 1;
  std::int64_t count = 0;
};

std::int64_t slice_bound(const Value& bound, std::int64_t length, std::int64_t fallback, std::int64_t low,
                         std::int64_t high) {
  if (bound.is_none()) return fallback;
  if (bound.is_undefined() || !bound.is_integral()) {
    raise(kTypeError, "slice indices must be integers or None or have an __index__ method");
  }
  std::int64_t index = bound.integer();
  if (index < 0) index = index < -length ? -length - 1 + length : index + length;
  return std::clamp(index, low, high);
}

Slice resolve_slice(std::int64_t length, const Value& start, const Value& stop, const Value& step) {
  Slice slice;
  if (!step.is_none()) {
    if (!step.is_integral())
      raise(kTypeError, "slice indices must be integers or None or have an __index__ method");
    slice.step = std::clamp<std::int64_t>(step.integer(), -(std::int64_t{1} << 40), std::int64_t{1} << 40);
  }
  if (slice.step == 0) raise(kValueError, "slice step cannot be zero");
  const bool forward = slice.step > 0;
  const std::int64_t low = forward ? 0 : -1;
  const std::int64_t high = forward ? length : length - 1;
  slice.start = slice_bound(start, length, forward ? low : high, low, high);
  const std::int64_t end = slice_bound(stop, length, forward ? high : low, low, high);
  const std::int64_t span = forward ? end - slice.start : slice.start - end;
  const std::int64_t stride = forward ? slice.step : -slice.step;
  slice.count = span <= 0 ? 0 : (span - 1) / stride + 1;
  return slice;
}

Value slice_text(const Text& text, const Slice& slice) {
  if (slice.step == 1) {
    const std::size_t begin = text.offset(static_cast<std::size_t>(slice.start));
    const std::size_t end =
        slice.count == 0 ? begin : text.offset(static_cast<std::size_t>(slice.start + slice.count));
    return sub_text(text, begin, end);
  }
  std::vector<std::size_t> starts;
  for (std::size_t at = 0; at < text.bytes.size(); decode_utf8(text.bytes, at)) starts.push_back(at);
  starts.push_back(text.bytes.size());
  TextBuilder out;
  for (std::int64_t i = 0; i < slice.count; ++i) {
    const auto index = static_cast<std::size_t>(slice.start + i * slice.step);
    out.append(text, starts[index], starts[index + 1]);
  }
  return Value::text(out.finish(text.markup));
}

Value slice_range(const Range& range, const Slice& slice, Source source) {
  auto result = std::make_shared<Range>();
  result->start = range.at(slice.start);
  result->step = static_cast<std::int64_t>(static_cast<std::uint64_t>(range.step) *
                                           static_cast<std::uint64_t>(slice.step));
  result->length = slice.count;
  result->stop = result->at(slice.count);
  return Value::object(Kind::kRange, std::move(result), source);
}

/// obj[key] of Python, or nullopt where it raises LookupError or TypeError.
std::optional<Value> item_of(const Value& object, const Value& key) {
  const auto index_in = [&key](std::int64_t length) -> std::optional<std::int64_t> {
    if (!key.is_integral()) return std::nullopt;
    const std::int64_t index = key.integer() < 0 ? key.integer() + length : key.integer();
    return index >= 0 && index < length ? std::optional(index) : std::nullopt;
  };
  switch (object.kind()) {
    case Kind::kDict: {
      if (key.is_sequence() || key.is(Kind::kDict)) {
        try {
          hash(key);
        } catch (const Raise&) {
          return std::nullopt;
        }
      }
      const Value* value = object.dict().find(key);
      return value == nullptr ? std::nullopt : std::optional<Value>(*value);
    }
    case Kind::kList:
    case Kind::kTuple: {
      const auto& items = object.list().items;
      const auto index = index_in(static_cast<std::int64_t>(items.size()));
      return index ? std::optional<Value>(items[static_cast<std::size_t>(*index)]) : std::nullopt;
    }
    case Kind::kString: {
      const Text& text = object.text();
      const auto index = index_in(static_cast<std::int64_t>(text.length));
      if (!index) return std::nullopt;
      const std::size_t begin = text.offset(static_cast<std::size_t>(*index));
      std::size_t end = begin;
      decode_utf8(text.bytes, end);
      return sub_text(text, begin, end);
    }
    case Kind::kRange: {
      const Range& range = object.as<Range>();
      const auto index = index_in(range.length);
      return index ? std::optional<Value>(Value::integer(range.at(*index), object.own_source()))
                   : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

bool is_dunder(std::string_view name) {
  // The attributes that every Python object has; the sandbox hides them.
  constexpr std::array<std::string_view, 24> kNames = {"__class__",        "__init__",
                                                       "__doc__",          "__dir__",
                                                       "__eq__",           "__ne__",
                                                       "__hash__",         "__str__",
                                                       "__repr__",         "__reduce__",
                                                       "__new__",          "__lt__",
                                                       "__le__",           "__gt__",
                                                       "__ge__",           "__format__",
                                                       "__sizeof__",       "__getattribute__",
                                                       "__setattr__",      "__delattr__",
                                                       "__reduce_ex__",    "__init_subclass__",
                                                       "__subclasshook__", "__module__"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

bool changes_its_object(const Value& object, std::string_view name) {
  constexpr std::array<std::string_view, 8> kOfList = {"append", "clear", "pop",    "reverse",
                                                       "insert", "sort",  "extend", "remove"};
  constexpr std::array<std::string_view, 5> kOfDict = {"clear", "pop", "popitem", "setdefault", "update"};
  if (object.is(Kind::kList)) return std::find(kOfList.begin(), kOfList.end(), name) != kOfList.end();
  if (object.is(Kind::kDict)) return std::find(kOfDict.begin(), kOfDict.end(), name) != kOfDict.end();
  return false;
}

/// getattr(object, name) as the immutable sandbox allows it, or nullopt where Python raises AttributeError.
std::optional<Value> attribute_of(const Value& object, std::string_view name) {
  if (is_dunder(name) || changes_its_object(object, name)) {
    return make_undefined_hint(
        fmt::format("access to attribute {} of '{}' object is unsafe.", in_quotes(name), type_name(object)));
  }
  switch (object.kind()) {
    case Kind::kNamespace:
    case Kind::kCallable:
    case Kind::kOpaque:
    case Kind::kIterator:
      return object.object()->attribute(name);
    default:
      return builtin_attribute(object, name);
  }
}

}  // namespace

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kView:
    case Kind::kIterator:
      return true;
    default:
      return false;
  }
}

std::shared_ptr<Iterator> iterate(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return std::make_shared<EmptyIterator>();
    case Kind::kString:
      return std::make_shared<TextIterator>(value.text_ref());
    case Kind::kList:
    case Kind::kTuple:
      return std::make_shared<SequenceIterator>(value);
    case Kind::kDict:
      return std::make_shared<DictIterator>(value, View::What::kKeys);
    case Kind::kRange:
      return std::make_shared<RangeIterator>(value);
    case Kind::kView:
      return std::make_shared<DictIterator>(value.as<View>().dict, value.as<View>().what);
    case Kind::kIterator:
      return std::static_pointer_cast<Iterator>(value.object());
    default:
      raise(kTypeError, "'{}' object is not iterable", type_name(value));
  }
}

std::vector<Value> to_vector(const Value& value) {
  if (value.is_sequence()) {
    Budget::spend(value.list().items.size() / 8);
    return value.list().items;
  }
  std::vector<Value> items;
  const auto iterator = iterate(value);
  for (Value item; iterator->next(item);) {
    items.push_back(std::move(item));
    if (items.size() > kMaxItems)
      raise("MemoryError", "a list of the template grew beyond {} items", kMaxItems);
  }
  return items;
}

std::vector<Value> view_items(const View& view) {
  std::vector<Value> items;
  DictIterator iterator(view.dict, view.what);
  for (Value item; iterator.next(item);) items.push_back(std::move(item));
  return items;
}

std::optional<Value> get_python_attribute(const Value& object, std::string_view name) {
  auto value = attribute_of(object, name);
  if (!value && object.is_undefined()) raise_undefined(object);
  return value;
}

Value get_attribute(const Value& object, std::string_view name) {
  if (auto value = get_python_attribute(object, name)) return *value;
  if (object.is(Kind::kDict)) {
    if (const Value* value = object.dict().find(name)) return *value;
  }
  return make_undefined_member(object, Value::string(name));
}

Value get_item(const Value& object, const Value& key) {
  if (object.is_undefined()) raise_undefined(object);
  if (auto value = item_of(object, key)) return *value;
  if (key.is_string()) {
    if (auto value = attribute_of(object, key.text().bytes)) return *value;
  }
  return make_undefined_member(object, key);
}

Value get_slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) raise_undefined(object);
  const bool sliceable = object.is_string() || object.is_sequence() || object.is(Kind::kRange);
  if (object.is(Kind::kDict)) raise(kTypeError, "unhashable type: 'slice'");
  if (!sliceable) raise(kTypeError, "'{}' object is not subscriptable", type_name(object));
  const Slice slice = resolve_slice(length(object), start, stop, step);
  if (object.is_string()) return slice_text(object.text(), slice);
  if (object.is(Kind::kRange)) return slice_range(object.as<Range>(), slice, object.own_source());
  std::vector<Value> items;
  items.reserve(static_cast<std::size_t>(slice.count));
  for (std::int64_t i = 0; i < slice.count; ++i) {
    items.push_back(object.list().items[static_cast<std::size_t>(slice.start + i * slice.step)]);
  }
  return object.is(Kind::kList) ? make_list(std::move(items), object.own_source())
                                : make_tuple(std::move(items), object.own_source());
}

Value sub_text(const Text& text, std::size_t begin, std::size_t end) {
  TextBuilder out;
  out.append(text, begin, end);
  return Value::text(out.finish(text.markup));
}

}  // namespace hone::text::jinja
