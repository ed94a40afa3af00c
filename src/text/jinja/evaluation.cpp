// Expressions.
#include <algorithm>

#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/refused.h"

namespace hone::text::jinja {

Value Interpreter::eval_maybe(const ExprPtr& expr, const ScopeRef& scope) {
  return expr ? eval(*expr, scope) : Value::none();
}

Value Interpreter::eval(const Expr& expr, const ScopeRef& scope) {
  const Deeper guard(*this, 1);
  switch (expr.kind) {
    case ExprKind::kConst:
      return static_cast<const ConstExpr&>(expr).value;
    case ExprKind::kName:
      return eval_name(static_cast<const NameExpr&>(expr).symbol, scope);
    case ExprKind::kList:
    case ExprKind::kTuple:
      return eval_sequence(static_cast<const SequenceExpr&>(expr), scope);
    case ExprKind::kDict:
      return eval_dict(static_cast<const DictExpr&>(expr), scope);
    case ExprKind::kUnary:
      return eval_unary(static_cast<const UnaryExpr&>(expr), scope);
    case ExprKind::kBinary:
      return eval_binary(static_cast<const BinaryExpr&>(expr), scope);
    case ExprKind::kLogic:
      return eval_logic(static_cast<const LogicExpr&>(expr), scope);
    case ExprKind::kCompare:
      return eval_compare(static_cast<const CompareExpr&>(expr), scope);
    case ExprKind::kConcat:
      return eval_concat(static_cast<const ConcatExpr&>(expr), scope);
    case ExprKind::kConditional:
      return eval_conditional(static_cast<const ConditionalExpr&>(expr), scope);
    case ExprKind::kAttribute:
      return eval_attribute(static_cast<const AttributeExpr&>(expr), scope);
    case ExprKind::kItem:
      return eval_item(static_cast<const ItemExpr&>(expr), scope);
    case ExprKind::kCall:
      return eval_call(static_cast<const CallExpr&>(expr), scope, nullptr);
    case ExprKind::kFilter:
      return eval_filter(static_cast<const FilterExpr&>(expr), scope, nullptr);
    case ExprKind::kTest:
      return eval_test(static_cast<const TestExpr&>(expr), scope);
    case ExprKind::kSlice:
    case ExprKind::kMemberTarget:
      break;
  }
  raise("RuntimeError", "this expression has no value of its own");
}

Value Interpreter::eval_name(Symbol name, const ScopeRef& scope) {
  for (Scope* at = scope.get(); at != nullptr; at = at->parent.get()) {
    if (const Value* value = at->find(name)) {
      return value->is(Kind::kMissing) ? make_undefined(template_.symbols.name(name)) : *value;
    }
  }
  if (name < context_.size() && !context_[name].is(Kind::kMissing)) return context_[name];
  return make_undefined(template_.symbols.name(name));
}

Value Interpreter::eval_sequence(const SequenceExpr& node, const ScopeRef& scope) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExprPtr& item : node.items) items.push_back(eval(*item, scope));
  position_ = node.at;
  return node.kind == ExprKind::kList ? make_list(std::move(items)) : make_tuple(std::move(items));
}

Value Interpreter::eval_dict(const DictExpr& node, const ScopeRef& scope) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : node.entries) {
    Value k = eval(*key, scope);
    Value v = eval(*value, scope);
    position_ = node.at;
    dict->insert(std::move(k), std::move(v));
  }
  return make_dict(std::move(dict));
}

Value Interpreter::eval_unary(const UnaryExpr& node, const ScopeRef& scope) {
  const Value value = eval(*node.operand, scope);
  position_ = node.at;
  if (node.op == '!') return Value::boolean(!truth(value), value.source());
  return node.op == '-' ? negate(value) : positive(value);
}

Value Interpreter::eval_binary(const BinaryExpr& node, const ScopeRef& scope) {
  const Value left = eval(*node.left, scope);
  const Value right = eval(*node.right, scope);
  position_ = node.at;
  return binary(node.op, left, right);
}

Value Interpreter::eval_logic(const LogicExpr& node, const ScopeRef& scope) {
  Value left = eval(*node.left, scope);
  return truth(left) == node.is_and ? eval(*node.right, scope) : std::move(left);
}

Value Interpreter::eval_compare(const CompareExpr& node, const ScopeRef& scope) {
  Value left = eval(*node.first, scope);
  Source source = left.source();
  for (const auto& [op, operand] : node.rest) {
    Value right = eval(*operand, scope);
    source = merge(source, right.source());
    position_ = node.at;
    if (right.is_string()) Budget::spend_on_text(right.text().bytes.size());
    if (!compare(op, left, right)) return Value::boolean(false, source);
    left = std::move(right);
  }
  return Value::boolean(true, source);
}

Value Interpreter::eval_concat(const ConcatExpr& node, const ScopeRef& scope) {
  TextBuilder out;
  for (const ExprPtr& part : node.parts) {
    const Value value = eval(*part, scope);
    position_ = node.at;
    print(out, value);
  }
  return Value::text(out.finish());
}

Value Interpreter::eval_conditional(const ConditionalExpr& node, const ScopeRef& scope) {
  if (truth(eval(*node.test, scope))) return eval(*node.yes, scope);
  if (node.no) return eval(*node.no, scope);
  return make_undefined_hint(
      fmt::format("the inline if-expression on line {} evaluated to false and no else section was defined.",
                  node.at.line));
}

Value Interpreter::eval_attribute(const AttributeExpr& node, const ScopeRef& scope) {
  const Value object = eval(*node.object, scope);
  position_ = node.at;
  return get_attribute(object, node.name);
}

Value Interpreter::eval_item(const ItemExpr& node, const ScopeRef& scope) {
  const Value object = eval(*node.object, scope);
  if (node.key->kind == ExprKind::kSlice) {
    const auto& slice = static_cast<const SliceExpr&>(*node.key);
    const Value start = eval_maybe(slice.start, scope);
    const Value stop = eval_maybe(slice.stop, scope);
    const Value stride = eval_maybe(slice.step, scope);
    position_ = node.at;
    return get_slice(object, start, stop, stride);
  }
  const Value key = eval(*node.key, scope);
  position_ = node.at;
  return get_item(object, key);
}

CallArgs Interpreter::eval_args(const CallParts& parts, const ScopeRef& scope) {
  CallArgs args;
  args.positional.reserve(parts.positional.size());
  for (const ExprPtr& part : parts.positional) args.positional.push_back(eval(*part, scope));
  if (parts.more_positional) {
    for (Value& value : to_vector(eval(*parts.more_positional, scope)))
      args.positional.push_back(std::move(value));
  }
  const auto add = [&args](const std::string& name, Value value) {
    for (const auto& [known, _] : args.keyword) {
      if (known == name) raise(kTypeError, "got multiple values for keyword argument '{}'", name);
    }
    args.keyword.emplace_back(name, std::move(value));
  };
  for (const auto& [name, part] : parts.keyword) add(name, eval(*part, scope));
  if (parts.more_keyword) {
    const Value more = eval(*parts.more_keyword, scope);
    if (!more.is(Kind::kDict))
      raise(kTypeError, "argument after ** must be a mapping, not {}", type_name(more));
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.is_string()) raise(kTypeError, "keywords must be strings");
      add(key.text().bytes, value);
    }
  }
  return args;
}

Value Interpreter::call(const Value& callee, CallArgs& args) {
  if (callee.is_undefined()) raise_undefined(callee);
  if (!callee.is(Kind::kCallable)) raise(kTypeError, "'{}' object is not callable", type_name(callee));
  const std::shared_ptr<Object> keep_alive = callee.object();
  return static_cast<Callable&>(*keep_alive).call(*this, args);
}

Value Interpreter::eval_call(const CallExpr& node, const ScopeRef& scope, const Value* caller) {
  const Value callee = eval(*node.callee, scope);
  CallArgs args = eval_args(node.args, scope);
  if (caller != nullptr) args.keyword.emplace_back("caller", *caller);
  position_ = node.at;
  return call(callee, args);
}

Value Interpreter::eval_filter(const FilterExpr& node, const ScopeRef& scope, const Value* block_text) {
  const Value value = !node.operand           ? *block_text
                      : block_text == nullptr ? eval(*node.operand, scope)
                      : node.operand->kind == ExprKind::kFilter
                          ? eval_filter(static_cast<const FilterExpr&>(*node.operand), scope, block_text)
                          : eval(*node.operand, scope);
  const CallArgs args = eval_args(node.args, scope);
  position_ = node.at;
  if (node.filter == nullptr && !is_refused_filter(node.name))
    raise(kPlain, "No filter named {} found.", in_quotes(node.name));
  const Filter filter = node.filter != nullptr ? node.filter : require_filter(node.name);
  if (value.is_string()) Budget::spend_on_text(value.text().bytes.size());
  return filter(*this, value, args);
}

Value Interpreter::eval_test(const TestExpr& node, const ScopeRef& scope) {
  const Value value = eval(*node.operand, scope);
  const CallArgs args = eval_args(node.args, scope);
  position_ = node.at;
  if (node.test == nullptr && !is_refused_test(node.name))
    raise(kPlain, "No test named {} found.", in_quotes(node.name));
  const Test test = node.test != nullptr ? node.test : require_test(node.name);
  return Value::boolean(test(*this, value, args), value.source());
}

}  // namespace hone::text::jinja
