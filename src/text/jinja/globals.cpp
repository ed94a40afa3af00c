// Global functions: Jinja's own, and the two that Transformers adds.
#include <ctime>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/refused.h"

namespace hone::text::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100000;

class GlobalFunction final : public Callable {
 public:
  using Function = Value (*)(Interpreter& interpreter, const CallArgs& args);
  GlobalFunction(std::string_view name, Function function) : name_(name), function_(function) {}
  Value call(Interpreter& interpreter, CallArgs& args) override { return function_(interpreter, args); }
  std::string repr() const override { return fmt::format("<function {}>", name_); }
  std::optional<Value> attribute(std::string_view name) override;

 private:
  std::string_view name_;
  Function function_;
};

Value function_value(std::string_view name, GlobalFunction::Function function) {
  return Value::object(Kind::kCallable, std::make_shared<GlobalFunction>(name, function));
}

/// dict(mapping or pairs, **more)
std::shared_ptr<Dict> build_dict(std::string_view function, const CallArgs& args) {
  auto dict = std::make_shared<Dict>();
  if (args.positional.size() > 1) {
    raise(kTypeError, "{} expected at most 1 argument, got {}", function, args.positional.size());
  }
  if (!args.positional.empty() && args.positional[0].is(Kind::kDict)) {
    for (const auto& [key, value] : args.positional[0].dict().entries) dict->insert(key, value);
  } else if (!args.positional.empty()) {
    std::size_t index = 0;
    for (const Value& pair : to_vector(args.positional[0])) {
      if (!is_iterable(pair)) {
        raise(kTypeError, "cannot convert dictionary update sequence element #{} to a sequence", index);
      }
      const std::vector<Value> parts = to_vector(pair);
      if (parts.size() != 2) {
        raise(kValueError, "dictionary update sequence element #{} has length {}; 2 is required", index,
              parts.size());
      }
      dict->insert(parts[0], parts[1]);
      ++index;
    }
  }
  for (const auto& [name, value] : args.keyword) dict->insert(Value::string(name), value);
  return dict;
}

Value call_dict(Interpreter&, const CallArgs& args) {
  return make_dict(build_dict("dict", args));
}

Value call_namespace(Interpreter& interpreter, const CallArgs& args) {
  const auto held = interpreter.make_namespace();
  const auto dict = build_dict("namespace", args);
  for (const auto& [key, value] : dict->entries) {
    if (key.is_string()) held->set(key.text().bytes, value);
  }
  return Value::object(Kind::kNamespace, held);
}

Value call_range(Interpreter&, const CallArgs& call) {
  const Arguments args("range", call, {"/start", "/stop", "/step"}, 1);
  auto range = std::make_shared<Range>();
  range->start = args.has(1) ? to_index(args[0]) : 0;
  range->stop = to_index(args.has(1) ? args[1] : args[0]);
  range->step = args.integer(2, 1);
  if (range->step == 0) raise(kValueError, "range() arg 3 must not be zero");
  const bool forward = range->step > 0;
  const auto span = forward ? static_cast<long double>(range->stop) - static_cast<long double>(range->start)
                            : static_cast<long double>(range->start) - static_cast<long double>(range->stop);
  const auto stride =
      forward ? static_cast<long double>(range->step) : -static_cast<long double>(range->step);
  if (span > 0 && (span - 1) / stride >= static_cast<long double>(kMaxRange)) {
    raise(kOverflowError, "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kMaxRange);
  }
  range->length = span <= 0 ? 0 : static_cast<std::int64_t>((span - 1) / stride) + 1;
  return Value::object(Kind::kRange, std::move(range));
}

Value call_raise_exception(Interpreter&, const CallArgs& call) {
  const Arguments args("raise_exception", call, {"message"}, 1);
  raise(kPlain, "{}", to_text(args[0])->bytes);
}

/// strftime of Python's naive datetime: no zone, and microseconds that are always zero here.
Value call_strftime_now(Interpreter& interpreter, const CallArgs& call) {
  const Arguments args("strftime_now", call, {"format"}, 1);
  const std::string& given = args.text(0).bytes;
  std::string format;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (given[i] != '%' || i + 1 >= given.size()) {
      format += given[i];
      continue;
    }
    const char directive = given[++i];
    if (directive == 'f') {
      format += "000000";
    } else if (directive != 'z' && directive != 'Z') {
      format += '%';
      format += directive;
    }
  }
  if (format.empty()) return Value::string("");
  const std::tm now = interpreter.now();
  // strftime tells "does not fit" and "empty" apart by no means but a sentinel.
  format += '.';
  for (std::size_t size = 256; size <= (std::size_t{1} << 22); size *= 4) {
    std::string out(size, '\0');
    if (const std::size_t written = std::strftime(out.data(), out.size(), format.c_str(), &now);
        written > 0) {
      return Value::string(std::string_view(out).substr(0, written - 1));
    }
  }
  raise(kValueError, "the format of strftime_now is too long");
}

/// Functions of Jinja that no chat template of the field calls.
template <const char* const& kName>
Value refuse(Interpreter&, const CallArgs&) {
  raise(kPlain, "{}", refusal("function", kName));
}
constexpr const char* kLipsum = "lipsum";
constexpr const char* kCycler = "cycler";
constexpr const char* kJoiner = "joiner";

std::optional<Value> GlobalFunction::attribute(std::string_view name) {
  if (name_ == "dict" && name == "fromkeys") raise(kPlain, "{}", refusal("attribute", name, "dicts"));
  return std::nullopt;
}

/// `self`, which has the blocks of a template: none here.
class TemplateReference final : public Object {
 public:
  std::string type_name() const override { return "TemplateReference"; }
  std::string repr() const override { return "<TemplateReference None>"; }
};

}  // namespace

std::vector<std::pair<std::string_view, Value>> global_functions() {
  std::vector<std::pair<std::string_view, Value>> functions;
  const auto add = [&functions](std::string_view name, GlobalFunction::Function function) {
    functions.emplace_back(name, function_value(name, function));
  };
  add("range", call_range);
  add("dict", call_dict);
  add("namespace", call_namespace);
  add(kLipsum, refuse<kLipsum>);
  add(kCycler, refuse<kCycler>);
  add(kJoiner, refuse<kJoiner>);
  add("raise_exception", call_raise_exception);
  add("strftime_now", call_strftime_now);
  functions.emplace_back("self", Value::object(Kind::kOpaque, std::make_shared<TemplateReference>()));
  return functions;
}

}  // namespace hone::text::jinja
