// Attribute lookup on built-in types: the bound methods of str and dict.
#include "text/jinja/methods.h"

#include <algorithm>
#include <array>

#include "text/jinja/arguments.h"
#include "text/jinja/operators.h"
#include "text/jinja/refused.h"

namespace hone::text::jinja {
namespace {

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

constexpr std::array kDictMethods = {
    NamedMethod{"get", dict_get},
    NamedMethod{"items", dict_view<View::What::kItems>},
    NamedMethod{"keys", dict_view<View::What::kKeys>},
    NamedMethod{"values", dict_view<View::What::kValues>},
};

}  // namespace

std::optional<Value> builtin_attribute(const Value& object, std::string_view name) {
  Method method = nullptr;
  if (object.is_string()) method = find_text_method(name);
  if (object.is(Kind::kDict)) {
    const auto it = std::find_if(kDictMethods.begin(), kDictMethods.end(),
                                 [name](const NamedMethod& m) { return m.name == name; });
    if (it != kDictMethods.end()) method = it->method;
  }
  if (method != nullptr)
    return Value::object(Kind::kCallable, std::make_shared<BoundMethod>(object, name, method));
  refuse_attribute(object, name);
  return std::nullopt;
}

}  // namespace hone::text::jinja
