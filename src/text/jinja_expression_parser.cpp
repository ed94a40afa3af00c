// Expressions: one function per level of precedence, as in Jinja's grammar.
#include <algorithm>
#include <utility>

#include "text/jinja_parser.h"
#include "text/jinja_print.h"

namespace hone::text::jinja {
namespace {

constexpr int kMaxExpressionNesting = 120;
constexpr std::uint16_t kMaxTreeHeight = 500;

}  // namespace

/// Bounds recursion for as long as it lives.
class ExpressionParser::Nested {
 public:
  explicit Nested(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxExpressionNesting) {
      parser_.fail_at(parser_.current().line, "the expression nests too deeply");
    }
  }
  ~Nested() { --parser_.nesting_; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;

 private:
  ExpressionParser& parser_;
};

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

template <typename Node>
std::unique_ptr<Node> ExpressionParser::finish(std::unique_ptr<Node> node, Position at,
                                               std::initializer_list<const Expr*> children) {
  node->at = at;
  for (const Expr* child : children) measure(*node, child);
  return node;
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
