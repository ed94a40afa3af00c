// The statements of a template. Nodes are plain data; the parser makes them, the scope analysis completes
// them, the interpreter reads them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/expr.h"
#include "text/jinja/lexer.h"

namespace hone::text::jinja {

enum class StmtKind : std::uint8_t {
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kGeneration,
  kBreak,
  kContinue,
};

struct Stmt {
  explicit Stmt(StmtKind k) : kind(k) {}
  virtual ~Stmt() = default;
  StmtKind kind;
  Position at;
};
using StmtPtr = std::unique_ptr<Stmt>;

/// Statements with a scope of their own. `unbound` are the names that the scope's statements assign before
/// reading: they hide outer variables from the scope's beginning on.
struct Body {
  std::vector<StmtPtr> statements;
  std::vector<Symbol> unbound;
};

struct OutputStmt final : Stmt {
  OutputStmt() : Stmt(StmtKind::kOutput) {}
  TextRef data;  ///< literal text, or null and
  ExprPtr expr;
};

struct IfStmt final : Stmt {
  IfStmt() : Stmt(StmtKind::kIf) {}
  std::vector<std::pair<ExprPtr, std::vector<StmtPtr>>> branches;  ///< if and elifs
  std::vector<StmtPtr> otherwise;
};

struct ForStmt final : Stmt {
  ForStmt() : Stmt(StmtKind::kFor) {}
  ExprPtr target;
  ExprPtr iterable;
  ExprPtr test;  ///< may be null
  Body body;
  Body otherwise;
};

struct SetStmt final : Stmt {
  SetStmt() : Stmt(StmtKind::kSet) {}
  ExprPtr target;
  ExprPtr value;
};

struct SetBlockStmt final : Stmt {
  SetBlockStmt() : Stmt(StmtKind::kSetBlock) {}
  ExprPtr target;
  ExprPtr filter;  ///< may be null
  Body body;
};

struct Signature {
  std::vector<Symbol> parameters;
  std::vector<ExprPtr> defaults;  ///< of the last parameters
  bool takes_caller = false;      ///< the body mentions caller, kwargs or varargs
  bool takes_kwargs = false;
  bool takes_varargs = false;
};

struct MacroStmt final : Stmt {
  explicit MacroStmt(StmtKind k = StmtKind::kMacro) : Stmt(k) {}
  Symbol name = 0;
  Signature signature;
  Body body;
};

/// `{% call(args) f(x) %}`: the body is a macro that f receives as `caller`.
struct CallBlockStmt final : Stmt {
  CallBlockStmt() : Stmt(StmtKind::kCallBlock) {}
  ExprPtr call;
  MacroStmt caller;
};

struct FilterBlockStmt final : Stmt {
  FilterBlockStmt() : Stmt(StmtKind::kFilterBlock) {}
  ExprPtr filter;
  Body body;
};

struct GenerationStmt final : Stmt {
  GenerationStmt() : Stmt(StmtKind::kGeneration) {}
  MacroStmt macro;  ///< the body as the nameless macro that it is in Transformers
};

struct JumpStmt final : Stmt {
  explicit JumpStmt(StmtKind k) : Stmt(k) {}
};

struct Template {
  std::string source;  ///< normalised
  std::vector<Tag> tags;
  SymbolTable symbols;
  Body body;
  bool has_generation = false;
};

/// Parses and analyses a template. Throws SyntaxError.
Template parse_template(std::string_view source);
/// Completes Body::unbound and Signature of every scope; checks what Jinja's compiler checks. Throws
/// SyntaxError.
void analyze_scopes(Template& parsed);

}  // namespace hone::text::jinja
