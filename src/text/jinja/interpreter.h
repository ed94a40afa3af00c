// Runs a parsed template over its inputs. One interpreter renders once.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace hone::text::jinja {

/// The variables of one scope; looks further out in its parent.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<Symbol, Value>> variables;

  Value* find(Symbol name);
  void set(Symbol name, Value value);
};
using ScopeRef = std::shared_ptr<Scope>;

class Interpreter {
 public:
  /// `context` holds the template's inputs by symbol, missing where there is none; `clock` is what
  /// strftime_now reads.
  Interpreter(const Template& parsed, std::vector<Value> context, std::function<std::tm()> clock);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// Throws Raise; position() then tells where.
  TextRef render();
  Position position() const { return position_; }

  // --- what macros, loops, filters and global functions call back

  /// callee(args); throws Raise (TypeError) for what cannot be called.
  Value call(const Value& callee, CallArgs& args);
  Value call_macro(const MacroStmt& macro, const ScopeRef& scope, std::string_view name, CallArgs& args);
  /// Does the loop's `if` hold for this item?
  bool passes(const ForStmt& loop, const Value& item, const ScopeRef& scope);
  std::tm now() const;
  /// Keeps a mutable object until the end, when its contents are dropped: namespaces may hold each other.
  std::shared_ptr<Namespace> make_namespace();

 private:
  enum class Flow { kNext, kBreak, kContinue };
  /// Sends output to a text of its own for as long as it lives.
  class Capture;
  /// Counts levels of recursion for as long as it lives; throws Raise beyond the limit.
  class Deeper {
   public:
    Deeper(Interpreter& interpreter, int levels) : interpreter_(interpreter), levels_(levels) {
      if (interpreter.depth_ + levels > kMaxDepth)
        raise("RecursionError", "maximum recursion depth exceeded");
      interpreter.depth_ += levels;
    }
    ~Deeper() { interpreter_.depth_ -= levels_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    static constexpr int kMaxDepth = 3000;
    Interpreter& interpreter_;
    int levels_;
  };

  Flow run(const std::vector<StmtPtr>& statements, const ScopeRef& scope);
  Flow run(const Stmt& statement, const ScopeRef& scope);
  Flow run_body(const Body& body, const ScopeRef& scope);
  Flow run_if(const IfStmt& node, const ScopeRef& scope);
  Flow run_for(const ForStmt& node, const ScopeRef& scope);
  Flow run_set_block(const SetBlockStmt& node, const ScopeRef& scope);
  Flow run_filter_block(const FilterBlockStmt& node, const ScopeRef& scope);
  void run_set(const SetStmt& node, const ScopeRef& scope);
  void run_macro(const MacroStmt& node, const ScopeRef& scope);
  void run_call_block(const CallBlockStmt& node, const ScopeRef& scope);
  void run_generation(const GenerationStmt& node, const ScopeRef& scope);
  void run_output(const OutputStmt& node, const ScopeRef& scope);
  /// The output of a filter or call block, which must be a string.
  void append_text(const Value& value);
  ScopeRef enter(const Body& body, const ScopeRef& parent) const;
  void assign(const Expr& target, Value value, const ScopeRef& scope);
  void check_members(const Expr& target, const ScopeRef& scope);

  Value eval(const Expr& expr, const ScopeRef& scope);
  Value eval_maybe(const ExprPtr& expr, const ScopeRef& scope);
  Value eval_name(Symbol name, const ScopeRef& scope);
  Value eval_sequence(const SequenceExpr& node, const ScopeRef& scope);
  Value eval_dict(const DictExpr& node, const ScopeRef& scope);
  Value eval_unary(const UnaryExpr& node, const ScopeRef& scope);
  Value eval_binary(const BinaryExpr& node, const ScopeRef& scope);
  Value eval_logic(const LogicExpr& node, const ScopeRef& scope);
  Value eval_compare(const CompareExpr& node, const ScopeRef& scope);
  Value eval_concat(const ConcatExpr& node, const ScopeRef& scope);
  Value eval_conditional(const ConditionalExpr& node, const ScopeRef& scope);
  Value eval_attribute(const AttributeExpr& node, const ScopeRef& scope);
  Value eval_item(const ItemExpr& node, const ScopeRef& scope);
  Value eval_call(const CallExpr& node, const ScopeRef& scope, const Value* caller);
  Value eval_filter(const FilterExpr& node, const ScopeRef& scope, const Value* block_text);
  Value eval_test(const TestExpr& node, const ScopeRef& scope);
  CallArgs eval_args(const CallParts& parts, const ScopeRef& scope);

  const Template& template_;
  std::vector<Value> context_;
  std::function<std::tm()> clock_;
  Symbol loop_symbol_;
  Symbol caller_symbol_;
  Symbol kwargs_symbol_;
  Symbol varargs_symbol_;
  TextBuilder* out_ = nullptr;
  Position position_;
  std::vector<ScopeRef> captured_;  ///< scopes that macros look into
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  std::int32_t generations_ = 0;
  int depth_ = 0;
};

}  // namespace hone::text::jinja
