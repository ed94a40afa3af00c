// Lazy sequences from a function: what the filters that stream return.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// A stream of values; `next` returns false at the end.
class Generator final : public Iterator {
 public:
  Generator(std::string name, std::function<bool(Value&)> next)
      : name_(std::move(name)), next_(std::move(next)) {}
  bool advance(Value& out) override { return !is_done_ && (next_(out) || !(is_done_ = true)); }
  std::string type_name() const override { return name_; }
  std::string repr() const override { return fmt::format("<{} object>", name_); }

 private:
  std::string name_;
  std::function<bool(Value&)> next_;
  bool is_done_ = false;
};

/// `source` is what the generator reads from: it bounds how deeply generators may nest.
inline Value make_generator(const Value& source, std::function<bool(Value&)> next,
                            std::string name = "generator") {
  auto generator = std::make_shared<Generator>(std::move(name), std::move(next));
  generator->depth = checked_depth(source.depth() + 1);
  return Value::object(Kind::kIterator, std::move(generator), source.own_source());
}

}  // namespace hone::text::jinja
