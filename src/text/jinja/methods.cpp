// Attribute lookup on built-in types: bound methods of str, list, tuple, dict, range and numbers.
#include "text/jinja/methods.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "text/jinja/arguments.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

/// Python has them; no chat template of the field calls them.
bool is_refused_method(std::string_view name) {
  static constexpr std::array<std::string_view, 11> kRefused = {
      "format",   "format_map", "isprintable", "istitle",   "isidentifier", "swapcase",
      "casefold", "expandtabs", "translate",   "maketrans", "encode"};
  return std::find(kRefused.begin(), kRefused.end(), name) != kRefused.end();
}

/// A method with the object it belongs to.
class BoundMethod final : public Callable {
 public:
  BoundMethod(Value self, std::string_view name, Method method)
      : self_(std::move(self)), name_(name), method_(method) {
    depth = checked_depth(self_.depth() + 1);
  }
  Value call(Interpreter&, CallArgs& args) override {
    if (self_.is_string()) Budget::spend_on_text(self_.text().bytes.size());
    return method_(self_, args);
  }
  std::string type_name() const override { return "builtin_function_or_method"; }
  std::string repr() const override {
    return fmt::format("<built-in method {} of {} object>", name_, jinja::type_name(self_));
  }

 private:
  Value self_;
  std::string name_;
  Method method_;
};

template <bool (*kPredicate)(char32_t)>
Value all_of_text(const Value& self, const CallArgs& call) {
  const Arguments args("is…", call, {});
  const std::string& bytes = self.text().bytes;
  bool holds = !bytes.empty();
  for (std::size_t at = 0; at < bytes.size() && holds;) holds = kPredicate(decode_utf8(bytes, at));
  return Value::boolean(holds, self.source());
}

Value is_ascii(const Value& self, const CallArgs& call) {
  const Arguments args("isascii", call, {});
  return Value::boolean(self.text().is_ascii(), self.source());
}

Value is_lower_method(const Value& self, const CallArgs& call) {
  const Arguments args("islower", call, {});
  return Value::boolean(is_lower_text(self.text()), self.source());
}

Value is_upper_method(const Value& self, const CallArgs& call) {
  const Arguments args("isupper", call, {});
  return Value::boolean(is_upper_text(self.text()), self.source());
}

constexpr std::array kMoreTextMethods = {
    NamedMethod{"isdigit", all_of_text<is_digit>},
    NamedMethod{"isdecimal", all_of_text<is_decimal>},
    NamedMethod{"isnumeric", all_of_text<is_numeric>},
    NamedMethod{"isalpha", all_of_text<is_alpha>},
    NamedMethod{"isalnum", all_of_text<is_alnum>},
    NamedMethod{"isspace", all_of_text<is_space>},
    NamedMethod{"isascii", is_ascii},
    NamedMethod{"islower", is_lower_method},
    NamedMethod{"isupper", is_upper_method},
};

Value sequence_count(const Value& self, const CallArgs& call) {
  const Arguments args("count", call, {"/value"}, 1);
  const std::vector<Value> items = to_vector(self);
  const auto count =
      std::count_if(items.begin(), items.end(), [&](const Value& item) { return equals(item, args[0]); });
  return Value::integer(count, self.own_source());
}

Value sequence_index(const Value& self, const CallArgs& call) {
  const Arguments args("index", call, {"/value", "/start", "/stop"}, 1);
  const std::vector<Value> items = to_vector(self);
  const auto size = static_cast<std::int64_t>(items.size());
  const auto bound = [&](std::size_t i, std::int64_t fallback) {
    const std::int64_t value = args.integer(i, fallback);
    return value < 0 ? std::max<std::int64_t>(value + size, 0) : std::min(value, size);
  };
  const std::int64_t stop = bound(2, size);
  for (std::int64_t i = bound(1, 0); i < stop; ++i) {
    if (equals(items[static_cast<std::size_t>(i)], args[0])) return Value::integer(i, self.own_source());
  }
  raise(kValueError, "{} is not in {}", repr(args[0]), type_name(self));
}

Value list_copy(const Value& self, const CallArgs& call) {
  const Arguments args("copy", call, {});
  return self;
}

constexpr std::array kSequenceMethods = {
    NamedMethod{"count", sequence_count},
    NamedMethod{"index", sequence_index},
};

template <View::What kWhat>
Value dict_view(const Value& self, const CallArgs& call) {
  const Arguments args("keys", call, {});
  auto view = std::make_shared<View>();
  view->what = kWhat;
  view->dict = self;
  view->depth = checked_depth(self.depth() + 1);
  return Value::object(Kind::kView, std::move(view), self.own_source());
}

Value dict_get(const Value& self, const CallArgs& call) {
  const Arguments args("get", call, {"/key", "/default"}, 1);
  const Value* value = self.dict().find(args[0]);
  return value != nullptr ? *value : args.has(1) ? args[1] : Value::none();
}

Value dict_from_keys(const Value&, const CallArgs& call) {
  const Arguments args("fromkeys", call, {"/iterable", "/value"}, 1);
  auto dict = std::make_shared<Dict>();
  for (Value& key : to_vector(args[0])) dict->insert(std::move(key), args.has(1) ? args[1] : Value::none());
  return make_dict(std::move(dict));
}

constexpr std::array kDictMethods = {
    NamedMethod{"get", dict_get},
    NamedMethod{"items", dict_view<View::What::kItems>},
    NamedMethod{"keys", dict_view<View::What::kKeys>},
    NamedMethod{"values", dict_view<View::What::kValues>},
    NamedMethod{"copy", list_copy},
    NamedMethod{"fromkeys", dict_from_keys},
};

Value is_integer_number(const Value& self, const CallArgs& call) {
  const Arguments args("is_integer", call, {});
  return Value::boolean(std::isfinite(self.real()) && self.real() == std::floor(self.real()),
                        self.own_source());
}

Value bit_length(const Value& self, const CallArgs& call) {
  const Arguments args("bit_length", call, {});
  auto magnitude = static_cast<std::uint64_t>(self.integer());
  if (self.integer() < 0) magnitude = 0 - magnitude;
  std::int64_t bits = 0;
  for (; magnitude > 0; magnitude >>= 1) ++bits;
  return Value::integer(bits, self.own_source());
}

template <std::size_t N>
Method find_in(const std::array<NamedMethod, N>& methods, std::string_view name) {
  const auto it =
      std::find_if(methods.begin(), methods.end(), [name](const NamedMethod& m) { return m.name == name; });
  return it == methods.end() ? nullptr : it->method;
}

Method find_method(const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::kString: {
      const Method method = find_text_method(name);
      return method != nullptr ? method : find_in(kMoreTextMethods, name);
    }
    case Kind::kList:
      if (name == "copy") return list_copy;
      return find_in(kSequenceMethods, name);
    case Kind::kTuple:
    case Kind::kRange:
      return find_in(kSequenceMethods, name);
    case Kind::kDict:
      return find_in(kDictMethods, name);
    case Kind::kFloat:
      return name == "is_integer" ? is_integer_number : nullptr;
    case Kind::kInt:
    case Kind::kBool:
      return name == "bit_length" ? bit_length : nullptr;
    default:
      return nullptr;
  }
}

/// Attributes that are values rather than methods.
std::optional<Value> data_attribute(const Value& object, std::string_view name) {
  if (object.is(Kind::kRange)) {
    const Range& range = object.as<Range>();
    if (name == "start") return Value::integer(range.start);
    if (name == "stop") return Value::integer(range.stop);
    if (name == "step") return Value::integer(range.step);
  }
  if (object.is_integral()) {
    if (name == "real" || name == "numerator") return Value::integer(object.integer(), object.own_source());
    if (name == "imag") return Value::integer(0);
    if (name == "denominator") return Value::integer(1);
  }
  if (object.is(Kind::kFloat) || object.is(Kind::kBigInt)) {
    if (name == "real") return object;
    if (name == "imag") return object.is(Kind::kFloat) ? Value::real(0) : Value::integer(0);
  }
  if (object.is(Kind::kView) && name == "mapping") return object.as<View>().dict;
  return std::nullopt;
}

}  // namespace

std::optional<Value> builtin_attribute(const Value& object, std::string_view name) {
  if (auto value = data_attribute(object, name)) return value;
  const Method method = find_method(object, name);
  if (method == nullptr && object.is_string() && is_refused_method(name))
    raise(kPlain, "the method '{}' of strings is not supported in chat templates", name);
  if (method == nullptr) return std::nullopt;
  return Value::object(Kind::kCallable, std::make_shared<BoundMethod>(object, name, method));
}

}  // namespace hone::text::jinja
