// The parser's two halves: statements (statement_parser.cpp) over expressions (expression_parser.cpp,
// postfix_parser.cpp).
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"

namespace hone::text::jinja {

/// Expressions, with Jinja's precedences.
class ExpressionParser {
 public:
  ExpressionParser(TokenStream stream, SymbolTable& symbols)
      : stream_(std::move(stream)), symbols_(symbols) {}

 protected:
  struct TupleOptions {
    bool targets_only = false;  ///< names and literals, as on the left of an assignment
    bool with_conditional = true;
    bool in_parentheses = false;
    bool with_members = false;       ///< ns.name may be a target
    std::string_view end_name = {};  ///< a keyword that ends the tuple
  };

  ExprPtr parse_expression(bool with_conditional = true);
  ExprPtr parse_tuple(const TupleOptions& options);
  /// Chains of `|name(args)`; `operand` may be null, and then the first '|' may be missing.
  ExprPtr parse_filters(ExprPtr operand, bool starts_inline);
  ExprPtr parse_target(bool with_members, std::string_view end_name = {});
  Symbol parse_name_target();

  const Token& current() const { return stream_.tokens[index_]; }
  const Token& look() const { return stream_.tokens[std::min(index_ + 1, stream_.tokens.size() - 1)]; }
  const Token& next();
  bool at_operator(std::string_view text) const {
    return current().type == TokenType::kOperator && current().text == text;
  }
  bool at_name(std::string_view text) const {
    return current().type == TokenType::kName && current().text == text;
  }
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  void expect_name(std::string_view text);
  std::string expect_any_name();
  void expect(TokenType type, std::string_view description);
  Position position() const { return {current().line, current().tag}; }
  [[noreturn]] void fail_at(std::uint32_t line, const std::string& message) const {
    throw SyntaxError(line, message);
  }
  [[noreturn]] void fail_expected(std::string_view what) const;
  static std::string describe(const Token& token);

  TokenStream stream_;
  SymbolTable& symbols_;

 private:
  /// Bounds recursion for as long as it lives.
  class Nested {
   public:
    explicit Nested(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting)
        parser_.fail_at(parser_.current().line, "the expression nests too deeply");
    }
    ~Nested() { --parser_.nesting_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    static constexpr int kMaxNesting = 120;
    ExpressionParser& parser_;
  };

  ExprPtr parse_conditional();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter);
  ExprPtr parse_primary(bool with_members);
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr node);
  ExprPtr parse_filter_chain(ExprPtr node);
  ExprPtr parse_subscript(ExprPtr node);
  ExprPtr parse_key();
  ExprPtr parse_call(ExprPtr callee);
  ExprPtr parse_test(ExprPtr operand);
  CallParts parse_arguments();
  ExprPtr make_binary(Binary op, Position at, ExprPtr left, ExprPtr right);
  template <typename Node>
  std::unique_ptr<Node> finish(std::unique_ptr<Node> node, Position at,
                               std::initializer_list<const Expr*> children) {
    node->at = at;
    for (const Expr* child : children) measure(*node, child);
    return node;
  }
  void measure(Expr& node, const CallParts& args);
  void measure(Expr& node, const Expr* child);
  void make_store(Expr& target);

  std::size_t index_ = 0;
  int nesting_ = 0;
};

}  // namespace hone::text::jinja
