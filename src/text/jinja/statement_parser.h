// Statements: the tags of a template.
#pragma once

#include <string>
#include <vector>

#include "text/jinja/parser.h"

namespace hone::text::jinja {

class StatementParser : public ExpressionParser {
 public:
  StatementParser(TokenStream stream, SymbolTable& symbols) : ExpressionParser(std::move(stream), symbols) {}

  /// The whole template. Throws SyntaxError.
  std::vector<StmtPtr> parse_all();
  bool has_generation() const { return has_generation_; }
  std::vector<Tag> take_tags() { return std::move(stream_.tags); }

 private:
  using EndNames = std::initializer_list<std::string_view>;

  /// Statements up to a tag that begins with one of `ends`; that name stays the current token.
  std::vector<StmtPtr> parse_until(EndNames ends);
  /// The end of the opening tag, then parse_until, and the closing name skipped where there is but one.
  std::vector<StmtPtr> parse_body(EndNames ends, bool skip_end = true);
  StmtPtr parse_statement();
  StmtPtr parse_if();
  StmtPtr parse_for();
  StmtPtr parse_set();
  StmtPtr parse_macro();
  StmtPtr parse_call_block();
  StmtPtr parse_filter_block();
  StmtPtr parse_generation();
  StmtPtr parse_jump(StmtKind kind);
  void parse_signature(Signature& signature);
  void append_output(std::vector<StmtPtr>& out);
  [[noreturn]] void fail_unknown_tag(const std::string* name, std::uint32_t line) const;

  std::vector<std::string> tag_stack_;
  std::vector<std::vector<std::string_view>> end_stack_;
  int loop_depth_ = 0;  ///< loops around this place within the same macro
  bool has_generation_ = false;
};

}  // namespace hone::text::jinja
