// What follows an operand: attributes, subscripts, calls, filters and tests; and the targets of assignments.
#include <algorithm>
#include <utility>

#include "text/jinja/parser.h"

namespace hone::text::jinja {

ExprPtr ExpressionParser::parse_postfix(ExprPtr node) {
  while (true) {
    if (at_operator(".") || at_operator("[")) {
      node = parse_subscript(std::move(node));
    } else if (at_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::parse_filter_chain(ExprPtr node) {
  while (true) {
    if (at_operator("|")) {
      node = parse_filters(std::move(node), false);
    } else if (at_name("is")) {
      node = parse_test(std::move(node));
    } else if (at_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr object) {
  const Position at = position();
  if (skip_operator(".")) {
    const Token& token = next();
    if (token.type == TokenType::kName) {
      auto node = std::make_unique<AttributeExpr>();
      node->name = token.text;
      node->object = std::move(object);
      const std::initializer_list<const Expr*> children = {node->object.get()};
      return finish(std::move(node), at, children);
    }
    if (token.type != TokenType::kInteger) fail_at(token.line, "expected name or number");
    auto key = std::make_unique<ConstExpr>();
    key->value = token.number;
    auto node = std::make_unique<ItemExpr>();
    node->object = std::move(object);
    node->key = finish(std::move(key), at, {});
    const std::initializer_list<const Expr*> children = {node->object.get()};
    return finish(std::move(node), at, children);
  }
  expect_operator("[");
  auto keys = finish(std::make_unique<SequenceExpr>(ExprKind::kTuple), at, {});
  while (!at_operator("]")) {
    if (!keys->items.empty()) expect_operator(",");
    keys->items.push_back(parse_key());
    measure(*keys, keys->items.back().get());
    if (keys->items.size() > 1 &&
        (keys->items[0]->kind == ExprKind::kSlice || keys->items.back()->kind == ExprKind::kSlice)) {
      fail_at(at.line, "a slice beside other subscripts is not supported");
    }
  }
  expect_operator("]");
  auto node = std::make_unique<ItemExpr>();
  node->object = std::move(object);
  if (keys->items.size() == 1) {
    node->key = std::move(keys->items[0]);
  } else {
    node->key = std::move(keys);
  }
  const std::initializer_list<const Expr*> children = {node->object.get(), node->key.get()};
  return finish(std::move(node), at, children);
}

ExprPtr ExpressionParser::parse_key() {
  const Position at = position();
  ExprPtr start;
  if (!at_operator(":")) {
    start = parse_expression();
    if (!at_operator(":")) return start;
  }
  next();
  auto slice = std::make_unique<SliceExpr>();
  slice->start = std::move(start);
  const auto at_end = [this] { return at_operator("]") || at_operator(","); };
  if (!at_operator(":") && !at_end()) slice->stop = parse_expression();
  if (skip_operator(":") && !at_end()) slice->step = parse_expression();
  const std::initializer_list<const Expr*> children = {slice->start.get(), slice->stop.get(),
                                                       slice->step.get()};
  return finish(std::move(slice), at, children);
}

CallParts ExpressionParser::parse_arguments() {
  const std::uint32_t line = current().line;
  expect_operator("(");
  CallParts args;
  const auto ensure = [&](bool holds) {
    if (!holds) fail_at(line, "invalid syntax for function call expression");
  };
  bool needs_comma = false;
  while (!at_operator(")")) {
    if (needs_comma) {
      expect_operator(",");
      if (at_operator(")")) break;
    }
    needs_comma = true;
    if (skip_operator("*")) {
      ensure(!args.more_positional && !args.more_keyword);
      args.more_positional = parse_expression();
    } else if (skip_operator("**")) {
      ensure(!args.more_keyword);
      args.more_keyword = parse_expression();
    } else if (current().type == TokenType::kName && look().type == TokenType::kOperator &&
               look().text == "=") {
      ensure(!args.more_keyword);
      std::string name = next().text;
      next();
      args.keyword.emplace_back(std::move(name), parse_expression());
    } else {
      ensure(!args.more_positional && !args.more_keyword && args.keyword.empty());
      args.positional.push_back(parse_expression());
    }
  }
  expect_operator(")");
  return args;
}

ExprPtr ExpressionParser::parse_call(ExprPtr callee) {
  auto node = std::make_unique<CallExpr>();
  const Position at = position();
  node->args = parse_arguments();
  node->callee = std::move(callee);
  const std::initializer_list<const Expr*> children = {node->callee.get()};
  node = finish(std::move(node), at, children);
  measure(*node, node->args);
  return node;
}

ExprPtr ExpressionParser::parse_filters(ExprPtr operand, bool starts_inline) {
  while (starts_inline || at_operator("|")) {
    if (!starts_inline) next();
    starts_inline = false;
    auto node = std::make_unique<FilterExpr>();
    const Position at = position();
    node->name = expect_any_name();
    while (skip_operator(".")) node->name.append(".").append(expect_any_name());
    node->filter = find_filter(node->name);
    if (at_operator("(")) node->args = parse_arguments();
    node->operand = std::move(operand);
    const std::initializer_list<const Expr*> children = {node->operand.get()};
    node = finish(std::move(node), at, children);
    measure(*node, node->args);
    operand = std::move(node);
  }
  return operand;
}

ExprPtr ExpressionParser::parse_test(ExprPtr operand) {
  const Position at = position();
  expect_name("is");
  const bool is_negated = skip_name("not");
  auto node = std::make_unique<TestExpr>();
  node->name = expect_any_name();
  while (skip_operator(".")) node->name.append(".").append(expect_any_name());
  node->test = find_test(node->name);
  const TokenType type = current().type;
  const bool is_literal = type == TokenType::kName || type == TokenType::kString ||
                          type == TokenType::kInteger || type == TokenType::kFloat || at_operator("[") ||
                          at_operator("{");
  if (at_operator("(")) {
    node->args = parse_arguments();
  } else if (is_literal && !at_name("else") && !at_name("or") && !at_name("and")) {
    if (at_name("is")) fail_at(current().line, "You cannot chain multiple tests with is");
    const Nested guard(*this);
    node->args.positional.push_back(parse_postfix(parse_primary(false)));
  }
  node->operand = std::move(operand);
  const std::initializer_list<const Expr*> children = {node->operand.get()};
  node = finish(std::move(node), at, children);
  measure(*node, node->args);
  if (!is_negated) return node;
  auto negation = std::make_unique<UnaryExpr>();
  negation->op = '!';
  negation->operand = std::move(node);
  const std::initializer_list<const Expr*> operands = {negation->operand.get()};
  return finish(std::move(negation), at, operands);
}

void ExpressionParser::make_store(Expr& target) {
  switch (target.kind) {
    case ExprKind::kName:
      static_cast<NameExpr&>(target).access = Access::kStore;
      return;
    case ExprKind::kMemberTarget:
      return;
    case ExprKind::kTuple:
    case ExprKind::kList:
      for (const ExprPtr& item : static_cast<SequenceExpr&>(target).items) make_store(*item);
      return;
    default:
      fail_at(target.at.line, "can't assign to an expression that is not a name");
  }
}

ExprPtr ExpressionParser::parse_target(bool with_members, std::string_view end_name) {
  ExprPtr target = parse_tuple({.targets_only = true, .with_members = with_members, .end_name = end_name});
  make_store(*target);
  return target;
}

Symbol ExpressionParser::parse_name_target() {
  const std::uint32_t line = current().line;
  const std::string name = expect_any_name();
  if (name == "true" || name == "false" || name == "none" || name == "True" || name == "False" ||
      name == "None") {
    fail_at(line, fmt::format("can't assign to '{}'", name));
  }
  return symbols_.intern(name);
}

}  // namespace hone::text::jinja
