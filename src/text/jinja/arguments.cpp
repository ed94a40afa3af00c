// Argument binding.
#include "text/jinja/arguments.h"

#include "text/jinja/operators.h"

namespace hone::text::jinja {

Arguments::Arguments(std::string_view function, const CallArgs& args,
                     std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function), bound_(names.size(), nullptr) {
  if (args.positional.size() > names.size()) {
    raise(kTypeError, "{}() takes at most {} argument{} ({} given)", function, names.size(),
          names.size() == 1 ? "" : "s", args.positional.size());
  }
  for (std::size_t i = 0; i < args.positional.size(); ++i) bound_[i] = &args.positional[i];
  for (const auto& [key, value] : args.keyword) {
    std::size_t index = 0;
    while (index < names.size() && names.begin()[index] != key) ++index;
    if (index == names.size())
      raise(kTypeError, "{}() got an unexpected keyword argument '{}'", function, key);
    if (bound_[index] != nullptr)
      raise(kTypeError, "{}() got multiple values for argument '{}'", function, key);
    bound_[index] = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    std::string_view name = names.begin()[i];
    if (name.starts_with('/')) name.remove_prefix(1);
    if (bound_[i] == nullptr)
      raise(kTypeError, "{}() missing 1 required positional argument: '{}'", function, name);
  }
}

bool Arguments::flag(std::size_t index, bool fallback) const {
  return has(index) ? truth(*bound_[index]) : fallback;
}

std::int64_t Arguments::integer(std::size_t index, std::int64_t fallback) const {
  return has(index) ? to_index(*bound_[index]) : fallback;
}

const Text& Arguments::text(std::size_t index) const {
  const Value& value = *bound_[index];
  if (!value.is_string())
    raise(kTypeError, "{}() argument {} must be str, not {}", function_, index + 1, type_name(value));
  return value.text();
}

}  // namespace hone::text::jinja
