// The `loop` variable: a loop's place in its items, which it reads one ahead at most.
#pragma once

#include <memory>

#include "text/jinja/interpreter.h"

namespace hone::text::jinja {

class LoopState final : public Callable {
 public:
  /// `iterable` is what `loop.length` asks first; `items` is what the loop runs over (filtered, where the
  /// loop has an `if`).
  LoopState(const ForStmt& node, Value iterable, std::shared_ptr<Iterator> items)
      : node_(node), iterable_(std::move(iterable)), items_(std::move(items)) {}

  /// Moves on; false at the end.
  bool advance(Value& item);
  /// Throws Raise: a loop can be called where it is marked `recursive`, which is refused.
  Value call(Interpreter& interpreter, CallArgs& args) override;
  std::optional<Value> attribute(std::string_view name) override;
  std::string type_name() const override { return "LoopContext"; }
  std::string repr() const override { return "<LoopContext>"; }

 private:
  std::int64_t length();
  const Value* peek();

  const ForStmt& node_;
  Value iterable_;
  std::shared_ptr<Iterator> items_;
  std::int64_t index0_ = -1;
  std::int64_t length_ = -1;
  Value before_ = Value::missing();
  Value current_ = Value::missing();
  Value after_ = Value::missing();
};

/// The items that pass a loop's `if`, tested one by one as the loop asks for them.
class FilteredItems final : public Iterator {
 public:
  FilteredItems(Interpreter& interpreter, const ForStmt& node, std::shared_ptr<Iterator> items,
                ScopeRef scope)
      : interpreter_(interpreter), node_(node), items_(std::move(items)), scope_(std::move(scope)) {}
  bool advance(Value& out) override;

 private:
  Interpreter& interpreter_;
  const ForStmt& node_;
  std::shared_ptr<Iterator> items_;
  ScopeRef scope_;
};

}  // namespace hone::text::jinja
