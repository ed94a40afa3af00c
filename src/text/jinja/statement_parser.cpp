// One function per tag. Errors say what was expected, and which tag is open.
#include "text/jinja/statement_parser.h"

#include <algorithm>
#include <array>

#include "text/jinja/print.h"
#include "text/jinja/refused.h"

namespace hone::text::jinja {
namespace {

constexpr std::size_t kMaxBlockNesting = 100;

template <typename Node>
std::unique_ptr<Node> located(Position at) {
  auto node = std::make_unique<Node>();
  node->at = at;
  return node;
}

}  // namespace

std::vector<StmtPtr> StatementParser::parse_all() {
  std::vector<StmtPtr> statements = parse_until({});
  return statements;
}

void StatementParser::fail_unknown_tag(const std::string* name, std::uint32_t line) const {
  std::string message =
      name == nullptr ? "Unexpected end of template." : fmt::format("Encountered unknown tag '{}'.", *name);
  if (!end_stack_.empty()) {
    std::string looking;
    bool misplaced = false;
    for (std::string_view end : end_stack_.back())
      looking += fmt::format("{}'{}'", looking.empty() ? "" : " or ", end);
    for (const auto& ends : end_stack_) {
      misplaced = misplaced || (name != nullptr && std::find(ends.begin(), ends.end(), *name) != ends.end());
    }
    message += misplaced ? " You probably made a nesting mistake. Jinja is expecting this tag, but currently "
                           "looking for " +
                               looking + "."
                         : " Jinja was looking for the following tags: " + looking + ".";
  }
  if (!tag_stack_.empty()) {
    message += fmt::format(" The innermost block that needs to be closed is '{}'.", tag_stack_.back());
  }
  fail_at(line, message);
}

void StatementParser::append_output(std::vector<StmtPtr>& out) {
  auto node = located<OutputStmt>(position());
  if (current().type == TokenType::kData) {
    TextBuilder builder;
    builder.append(current().text);
    node->data = builder.finish();
    next();
  } else {
    next();
    node->expr = parse_tuple({});
    expect(TokenType::kVariableEnd, "end of print statement");
  }
  out.push_back(std::move(node));
}

std::vector<StmtPtr> StatementParser::parse_until(EndNames ends) {
  std::vector<StmtPtr> statements;
  if (ends.size() > 0) end_stack_.emplace_back(ends);
  while (current().type != TokenType::kEnd) {
    if (current().type != TokenType::kBlockBegin) {
      append_output(statements);
      continue;
    }
    next();
    if (current().type == TokenType::kName &&
        std::find(ends.begin(), ends.end(), current().text) != ends.end()) {
      end_stack_.pop_back();
      return statements;
    }
    statements.push_back(parse_statement());
    expect(TokenType::kBlockEnd, "end of statement block");
  }
  if (ends.size() > 0) fail_unknown_tag(nullptr, current().line);
  return statements;
}

std::vector<StmtPtr> StatementParser::parse_body(EndNames ends, bool skip_end) {
  skip_operator(":");
  expect(TokenType::kBlockEnd, "end of statement block");
  std::vector<StmtPtr> statements = parse_until(ends);
  if (skip_end) next();
  return statements;
}

StmtPtr StatementParser::parse_statement() {
  const Token& token = current();
  if (token.type != TokenType::kName) fail_at(token.line, "tag name expected");
  const std::string& name = token.text;
  if (tag_stack_.size() >= kMaxBlockNesting) fail_at(token.line, "the tags nest too deeply");
  tag_stack_.push_back(name);
  StmtPtr statement;
  if (name == "if") {
    statement = parse_if();
  } else if (name == "for") {
    statement = parse_for();
  } else if (name == "set") {
    statement = parse_set();
  } else if (name == "macro") {
    statement = parse_macro();
  } else if (name == "call") {
    statement = parse_call_block();
  } else if (name == "filter") {
    statement = parse_filter_block();
  } else if (name == "generation") {
    statement = parse_generation();
  } else if (name == "break") {
    statement = parse_jump(StmtKind::kBreak);
  } else if (name == "continue") {
    statement = parse_jump(StmtKind::kContinue);
  } else if (is_refused_tag(name)) {
    fail_at(token.line, refusal("tag", name));
  } else {
    tag_stack_.pop_back();
    fail_unknown_tag(&name, token.line);
  }
  tag_stack_.pop_back();
  return statement;
}

StmtPtr StatementParser::parse_if() {
  auto node = located<IfStmt>(position());
  next();
  while (true) {
    ExprPtr test = parse_tuple({.with_conditional = false});
    node->branches.emplace_back(std::move(test), parse_body({"elif", "else", "endif"}, false));
    const std::string& end = next().text;
    if (end == "elif") continue;
    if (end == "else") node->otherwise = parse_body({"endif"});
    return node;
  }
}

StmtPtr StatementParser::parse_for() {
  auto node = located<ForStmt>(position());
  next();
  node->target = parse_target(false, "in");
  expect_name("in");
  node->iterable = parse_tuple({.with_conditional = false, .end_name = "recursive"});
  if (skip_name("if")) node->test = parse_expression();
  if (at_name("recursive")) fail_at(node->at.line, refusal("marker", "recursive", "loops"));
  ++loop_depth_;
  node->body.statements = parse_body({"endfor", "else"}, false);
  --loop_depth_;
  if (next().text == "else") node->otherwise.statements = parse_body({"endfor"});
  return node;
}

StmtPtr StatementParser::parse_set() {
  const Position at = position();
  next();
  ExprPtr target = parse_target(true);
  if (skip_operator("=")) {
    auto node = located<SetStmt>(at);
    node->target = std::move(target);
    node->value = parse_tuple({});
    return node;
  }
  auto node = located<SetBlockStmt>(at);
  node->target = std::move(target);
  node->filter = parse_filters(nullptr, false);
  node->body.statements = parse_body({"endset"});
  return node;
}

void StatementParser::parse_signature(Signature& signature) {
  expect_operator("(");
  while (!at_operator(")")) {
    if (!signature.parameters.empty()) expect_operator(",");
    signature.parameters.push_back(parse_name_target());
    if (skip_operator("=")) {
      signature.defaults.push_back(parse_expression());
    } else if (!signature.defaults.empty()) {
      fail_at(current().line, "non-default argument follows default argument");
    }
  }
  expect_operator(")");
}

StmtPtr StatementParser::parse_macro() {
  auto node = located<MacroStmt>(position());
  next();
  node->name = parse_name_target();
  parse_signature(node->signature);
  const int outer_loops = std::exchange(loop_depth_, 0);
  node->body.statements = parse_body({"endmacro"});
  loop_depth_ = outer_loops;
  return node;
}

StmtPtr StatementParser::parse_call_block() {
  auto node = located<CallBlockStmt>(position());
  next();
  node->caller.at = node->at;
  if (at_operator("(")) parse_signature(node->caller.signature);
  node->call = parse_expression();
  if (node->call->kind != ExprKind::kCall) fail_at(node->at.line, "expected call");
  const int outer_loops = std::exchange(loop_depth_, 0);
  node->caller.body.statements = parse_body({"endcall"});
  loop_depth_ = outer_loops;
  return node;
}

StmtPtr StatementParser::parse_filter_block() {
  auto node = located<FilterBlockStmt>(position());
  next();
  node->filter = parse_filters(nullptr, true);
  node->body.statements = parse_body({"endfilter"});
  return node;
}

StmtPtr StatementParser::parse_generation() {
  auto node = located<GenerationStmt>(position());
  next();
  has_generation_ = true;
  const int outer_loops = std::exchange(loop_depth_, 0);
  node->macro.body.statements = parse_body({"endgeneration"});
  loop_depth_ = outer_loops;
  return node;
}

StmtPtr StatementParser::parse_jump(StmtKind kind) {
  auto node = std::make_unique<JumpStmt>(kind);
  node->at = position();
  if (loop_depth_ == 0) fail_at(node->at.line, fmt::format("'{}' outside loop", current().text));
  next();
  return node;
}

Template parse_template(std::string_view source) {
  Template parsed;
  parsed.source = normalize_source(source);
  StatementParser parser(tokenize(parsed.source), parsed.symbols);
  parsed.body.statements = parser.parse_all();
  parsed.tags = parser.take_tags();
  parsed.has_generation = parser.has_generation();
  analyze_scopes(parsed);
  return parsed;
}

}  // namespace hone::text::jinja
