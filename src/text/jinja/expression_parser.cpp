// Expressions: one function per level of precedence, as in Jinja's grammar.
#include <algorithm>
#include <utility>

#include "text/jinja/parser.h"
#include "text/jinja/print.h"

namespace hone::text::jinja {
namespace {

constexpr std::uint16_t kMaxTreeHeight = 500;

}  // namespace

std::string ExpressionParser::describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "template data / text";
    case TokenType::kVariableBegin:
      return "begin of print statement";
    case TokenType::kVariableEnd:
      return "end of print statement";
    case TokenType::kBlockBegin:
      return "begin of statement block";
    case TokenType::kBlockEnd:
      return "end of statement block";
    case TokenType::kEnd:
      return "end of template";
    default:
      return token.text;
  }
}

const Token& ExpressionParser::next() {
  const Token& token = stream_.tokens[index_];
  if (index_ + 1 < stream_.tokens.size()) ++index_;
  return token;
}

bool ExpressionParser::skip_operator(std::string_view text) {
  if (!at_operator(text)) return false;
  next();
  return true;
}

bool ExpressionParser::skip_name(std::string_view text) {
  if (!at_name(text)) return false;
  next();
  return true;
}

void ExpressionParser::fail_expected(std::string_view what) const {
  if (current().type == TokenType::kEnd) {
    fail_at(current().line, fmt::format("unexpected end of template, expected '{}'.", what));
  }
  fail_at(current().line, fmt::format("expected token '{}', got {}", what, in_quotes(describe(current()))));
}

void ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) fail_expected(text);
}

void ExpressionParser::expect_name(std::string_view text) {
  if (!skip_name(text)) fail_expected(text);
}

std::string ExpressionParser::expect_any_name() {
  if (current().type != TokenType::kName) fail_expected("name");
  return next().text;
}

void ExpressionParser::expect(TokenType type, std::string_view description) {
  if (current().type != type) fail_expected(description);
  next();
}

void ExpressionParser::measure(Expr& node, const Expr* child) {
  if (child == nullptr) return;
  node.depth = std::max<std::uint16_t>(node.depth, static_cast<std::uint16_t>(child->depth + 1));
  if (node.depth > kMaxTreeHeight) fail_at(node.at.line, "the expression nests too deeply");
}

void ExpressionParser::measure(Expr& node, const CallParts& args) {
  for (const ExprPtr& arg : args.positional) measure(node, arg.get());
  for (const auto& [name, arg] : args.keyword) measure(node, arg.get());
  measure(node, args.more_positional.get());
  measure(node, args.more_keyword.get());
}

ExprPtr ExpressionParser::make_binary(Binary op, Position at, ExprPtr left, ExprPtr right) {
  auto node = std::make_unique<BinaryExpr>();
  node->op = op;
  node->left = std::move(left);
  node->right = std::move(right);
  const std::initializer_list<const Expr*> children = {node->left.get(), node->right.get()};
  return finish(std::move(node), at, children);
}

ExprPtr ExpressionParser::parse_expression(bool with_conditional) {
  const Nested guard(*this);
  return with_conditional ? parse_conditional() : parse_or();
}

ExprPtr ExpressionParser::parse_conditional() {
  const Nested guard(*this);
  Position at = position();
  ExprPtr result = parse_or();
  while (skip_name("if")) {
    auto node = std::make_unique<ConditionalExpr>();
    node->yes = std::move(result);
    node->test = parse_or();
    if (skip_name("else")) node->no = parse_conditional();
    const std::initializer_list<const Expr*> children = {node->test.get(), node->yes.get(), node->no.get()};
    result = finish(std::move(node), at, children);
    at = position();
  }
  return result;
}

ExprPtr ExpressionParser::parse_or() {
  Position at = position();
  ExprPtr left = parse_and();
  while (skip_name("or")) {
    auto node = std::make_unique<LogicExpr>();
    node->is_and = false;
    node->left = std::move(left);
    node->right = parse_and();
    const std::initializer_list<const Expr*> children = {node->left.get(), node->right.get()};
    left = finish(std::move(node), at, children);
    at = position();
  }
  return left;
}

ExprPtr ExpressionParser::parse_and() {
  Position at = position();
  ExprPtr left = parse_not();
  while (skip_name("and")) {
    auto node = std::make_unique<LogicExpr>();
    node->left = std::move(left);
    node->right = parse_not();
    const std::initializer_list<const Expr*> children = {node->left.get(), node->right.get()};
    left = finish(std::move(node), at, children);
    at = position();
  }
  return left;
}

ExprPtr ExpressionParser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nested guard(*this);
  const Position at = position();
  next();
  auto node = std::make_unique<UnaryExpr>();
  node->op = '!';
  node->operand = parse_not();
  const std::initializer_list<const Expr*> children = {node->operand.get()};
  return finish(std::move(node), at, children);
}

ExprPtr ExpressionParser::parse_compare() {
  static constexpr std::array<std::pair<std::string_view, Compare>, 6> kOperators = {
      {{"==", Compare::kEqual},
       {"!=", Compare::kNotEqual},
       {"<", Compare::kLess},
       {"<=", Compare::kLessEqual},
       {">", Compare::kGreater},
       {">=", Compare::kGreaterEqual}}};
  const Position at = position();
  ExprPtr first = parse_sum();
  std::unique_ptr<CompareExpr> node;
  while (true) {
    const auto op = std::find_if(kOperators.begin(), kOperators.end(),
                                 [this](const auto& o) { return at_operator(o.first); });
    Compare kind = Compare::kIn;
    if (op != kOperators.end()) {
      kind = op->second;
      next();
    } else if (at_name("not") && look().type == TokenType::kName && look().text == "in") {
      kind = Compare::kNotIn;
      next();
      next();
    } else if (!skip_name("in")) {
      break;
    }
    if (!node) {
      node = finish(std::make_unique<CompareExpr>(), at, {first.get()});
      node->first = std::move(first);
    }
    node->rest.emplace_back(kind, parse_sum());
    measure(*node, node->rest.back().second.get());
  }
  return node ? std::move(node) : std::move(first);
}

ExprPtr ExpressionParser::parse_sum() {
  Position at = position();
  ExprPtr left = parse_concat();
  while (at_operator("+") || at_operator("-")) {
    const Binary op = next().text == "+" ? Binary::kAdd : Binary::kSubtract;
    ExprPtr right = parse_concat();
    left = make_binary(op, at, std::move(left), std::move(right));
    at = position();
  }
  return left;
}

ExprPtr ExpressionParser::parse_concat() {
  const Position at = position();
  ExprPtr first = parse_product();
  if (!at_operator("~")) return first;
  auto node = finish(std::make_unique<ConcatExpr>(), at, {first.get()});
  node->parts.push_back(std::move(first));
  while (skip_operator("~")) {
    node->parts.push_back(parse_product());
    measure(*node, node->parts.back().get());
  }
  return node;
}

ExprPtr ExpressionParser::parse_product() {
  Position at = position();
  ExprPtr left = parse_power();
  while (at_operator("*") || at_operator("/") || at_operator("//") || at_operator("%")) {
    const std::string& text = next().text;
    const Binary op = text == "*"   ? Binary::kMultiply
                      : text == "/" ? Binary::kDivide
                      : text == "%" ? Binary::kModulo
                                    : Binary::kFloorDivide;
    ExprPtr right = parse_power();
    left = make_binary(op, at, std::move(left), std::move(right));
    at = position();
  }
  return left;
}

ExprPtr ExpressionParser::parse_power() {
  Position at = position();
  ExprPtr left = parse_unary(true);
  while (skip_operator("**")) {
    ExprPtr right = parse_unary(true);
    left = make_binary(Binary::kPower, at, std::move(left), std::move(right));
    at = position();
  }
  return left;
}

ExprPtr ExpressionParser::parse_unary(bool with_filter) {
  const Nested guard(*this);
  const Position at = position();
  ExprPtr node;
  if (at_operator("-") || at_operator("+")) {
    auto unary = std::make_unique<UnaryExpr>();
    unary->op = next().text[0];
    unary->operand = parse_unary(false);
    const std::initializer_list<const Expr*> children = {unary->operand.get()};
    node = finish(std::move(unary), at, children);
  } else {
    node = parse_primary(false);
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filter_chain(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::parse_primary(bool with_members) {
  const Position at = position();
  const Token& token = current();
  const auto constant = [&](Value value) {
    auto node = std::make_unique<ConstExpr>();
    node->value = std::move(value);
    return finish(std::move(node), at, {});
  };
  if (token.type == TokenType::kName) {
    next();
    const std::string& name = token.text;
    if (name == "true" || name == "True") return constant(Value::boolean(true));
    if (name == "false" || name == "False") return constant(Value::boolean(false));
    if (name == "none" || name == "None") return constant(Value::none());
    if (with_members && skip_operator(".")) {
      auto node = std::make_unique<MemberTarget>();
      node->symbol = symbols_.intern(name);
      node->name = expect_any_name();
      return finish(std::move(node), at, {});
    }
    auto node = std::make_unique<NameExpr>();
    node->symbol = symbols_.intern(name);
    return finish(std::move(node), at, {});
  }
  if (token.type == TokenType::kString) {
    std::string text;
    while (current().type == TokenType::kString) text += next().text;
    return constant(Value::string(text));
  }
  if (token.type == TokenType::kInteger || token.type == TokenType::kFloat) return constant(next().number);
  if (at_operator("(")) {
    next();
    ExprPtr node = parse_tuple({.in_parentheses = true});
    expect_operator(")");
    return node;
  }
  if (at_operator("[")) return parse_list();
  if (at_operator("{")) return parse_dict();
  fail_at(token.line, fmt::format("unexpected {}", in_quotes(describe(token))));
}

ExprPtr ExpressionParser::parse_tuple(const TupleOptions& options) {
  const Nested guard(*this);
  Position at = position();
  auto tuple = std::make_unique<SequenceExpr>(ExprKind::kTuple);
  bool is_tuple = false;
  while (true) {
    if (!tuple->items.empty()) expect_operator(",");
    const TokenType type = current().type;
    if (type == TokenType::kVariableEnd || type == TokenType::kBlockEnd || at_operator(")")) break;
    if (!options.end_name.empty() && at_name(options.end_name)) break;
    tuple->items.push_back(options.targets_only ? parse_primary(options.with_members)
                                                : parse_expression(options.with_conditional));
    measure(*tuple, tuple->items.back().get());
    if (!at_operator(",")) break;
    is_tuple = true;
    at = position();
  }
  if (!is_tuple) {
    if (!tuple->items.empty()) return std::move(tuple->items[0]);
    if (!options.in_parentheses) {
      fail_at(current().line, fmt::format("Expected an expression, got {}", in_quotes(describe(current()))));
    }
  }
  tuple->at = at;
  return tuple;
}

ExprPtr ExpressionParser::parse_list() {
  auto node = finish(std::make_unique<SequenceExpr>(ExprKind::kList), position(), {});
  expect_operator("[");
  while (!at_operator("]")) {
    if (!node->items.empty()) expect_operator(",");
    if (at_operator("]")) break;
    node->items.push_back(parse_expression());
    measure(*node, node->items.back().get());
  }
  expect_operator("]");
  return node;
}

ExprPtr ExpressionParser::parse_dict() {
  auto node = finish(std::make_unique<DictExpr>(), position(), {});
  expect_operator("{");
  while (!at_operator("}")) {
    if (!node->entries.empty()) expect_operator(",");
    if (at_operator("}")) break;
    ExprPtr key = parse_expression();
    expect_operator(":");
    ExprPtr value = parse_expression();
    measure(*node, key.get());
    measure(*node, value.get());
    node->entries.emplace_back(std::move(key), std::move(value));
  }
  expect_operator("}");
  return node;
}

}  // namespace hone::text::jinja
