// Binding the arguments of a call to the parameters of a built-in, with Python's complaints.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// The parameters of one call, by position in the signature. Values are borrowed from the CallArgs.
class Arguments {
 public:
  /// `names` are the parameters in order, of which the first `required` have no default; a name that begins
  /// with '/' is positional only.
  Arguments(std::string_view function, const CallArgs& args, std::initializer_list<std::string_view> names,
            std::size_t required = 0);

  bool has(std::size_t index) const { return bound_[index] != nullptr; }
  /// Given, and not none.
  bool is_set(std::size_t index) const { return has(index) && !bound_[index]->is_none(); }
  const Value& operator[](std::size_t index) const { return *bound_[index]; }
  bool flag(std::size_t index, bool fallback) const;
  std::int64_t integer(std::size_t index, std::int64_t fallback) const;
  /// The argument as a string; throws Raise (TypeError) for other kinds.
  const Text& text(std::size_t index) const;

 private:
  std::string_view function_;
  std::vector<const Value*> bound_;
};

}  // namespace hone::text::jinja
