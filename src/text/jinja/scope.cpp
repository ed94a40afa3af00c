// Which names a scope hides from its beginning on. Jinja decides this when it compiles: a name that a scope
// assigns before it reads it is undefined there until then, even where an outer variable of that name exists
// only in the template's inputs.
#include <algorithm>
#include <map>
#include <set>

#include "base/suggest.h"
#include "text/jinja/ast.h"
#include "text/jinja/refused.h"

namespace hone::text::jinja {
namespace {

enum class Load { kParameter, kOuter, kUndefined };

/// What is known about the names of one scope.
struct Names {
  const Names* parent = nullptr;
  std::map<Symbol, Load> refs;
  std::set<Symbol> stores;

  bool is_known(Symbol name) const {
    return refs.contains(name) || (parent != nullptr && parent->is_known(name));
  }
  bool is_known_outside(Symbol name) const { return parent != nullptr && parent->is_known(name); }

  void load(Symbol name) {
    if (!is_known(name)) refs[name] = Load::kOuter;
  }
  void store(Symbol name) {
    stores.insert(name);
    if (!refs.contains(name)) refs[name] = is_known_outside(name) ? Load::kOuter : Load::kUndefined;
  }
  void declare(Symbol name) {
    stores.insert(name);
    refs[name] = Load::kParameter;
  }
  /// Takes over what the branches of an `if` found; what only branches assign may still come from outside.
  void merge_branches(const std::vector<Names>& branches) {
    std::set<Symbol> assigned;
    for (const Names& branch : branches) assigned.insert(branch.stores.begin(), branch.stores.end());
    std::erase_if(assigned, [this](Symbol name) { return stores.contains(name); });
    for (const Names& branch : branches) {
      for (const auto& [name, load] : branch.refs) refs[name] = load;
      stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (Symbol name : assigned) refs[name] = Load::kOuter;
  }
  std::vector<Symbol> unbound() const {
    std::vector<Symbol> names;
    for (const auto& [name, load] : refs) {
      if (load == Load::kUndefined) names.push_back(name);
    }
    return names;
  }
};

template <typename Visit>
void for_each_child(const CallParts& args, Visit visit) {
  for (const ExprPtr& arg : args.positional) visit(*arg);
  for (const auto& [name, arg] : args.keyword) visit(*arg);
  if (args.more_positional) visit(*args.more_positional);
  if (args.more_keyword) visit(*args.more_keyword);
}

/// Calls visit(child) for the direct parts of an expression.
template <typename Visit>
void for_each_child(const Expr& expr, Visit visit) {
  const auto maybe = [&visit](const ExprPtr& child) {
    if (child) visit(*child);
  };
  switch (expr.kind) {
    case ExprKind::kConst:
    case ExprKind::kName:
    case ExprKind::kMemberTarget:
      return;
    case ExprKind::kList:
    case ExprKind::kTuple:
      for (const ExprPtr& item : static_cast<const SequenceExpr&>(expr).items) visit(*item);
      return;
    case ExprKind::kDict:
      for (const auto& [key, value] : static_cast<const DictExpr&>(expr).entries) {
        visit(*key);
        visit(*value);
      }
      return;
    case ExprKind::kUnary:
      return visit(*static_cast<const UnaryExpr&>(expr).operand);
    case ExprKind::kBinary:
      visit(*static_cast<const BinaryExpr&>(expr).left);
      return visit(*static_cast<const BinaryExpr&>(expr).right);
    case ExprKind::kLogic:
      visit(*static_cast<const LogicExpr&>(expr).left);
      return visit(*static_cast<const LogicExpr&>(expr).right);
    case ExprKind::kCompare:
      visit(*static_cast<const CompareExpr&>(expr).first);
      for (const auto& [op, operand] : static_cast<const CompareExpr&>(expr).rest) visit(*operand);
      return;
    case ExprKind::kConcat:
      for (const ExprPtr& part : static_cast<const ConcatExpr&>(expr).parts) visit(*part);
      return;
    case ExprKind::kConditional:
      maybe(static_cast<const ConditionalExpr&>(expr).test);
      maybe(static_cast<const ConditionalExpr&>(expr).yes);
      return maybe(static_cast<const ConditionalExpr&>(expr).no);
    case ExprKind::kAttribute:
      return visit(*static_cast<const AttributeExpr&>(expr).object);
    case ExprKind::kItem:
      visit(*static_cast<const ItemExpr&>(expr).object);
      return visit(*static_cast<const ItemExpr&>(expr).key);
    case ExprKind::kSlice:
      maybe(static_cast<const SliceExpr&>(expr).start);
      maybe(static_cast<const SliceExpr&>(expr).stop);
      return maybe(static_cast<const SliceExpr&>(expr).step);
    case ExprKind::kCall:
      visit(*static_cast<const CallExpr&>(expr).callee);
      return for_each_child(static_cast<const CallExpr&>(expr).args, visit);
    case ExprKind::kFilter:
      maybe(static_cast<const FilterExpr&>(expr).operand);
      return for_each_child(static_cast<const FilterExpr&>(expr).args, visit);
    case ExprKind::kTest:
      visit(*static_cast<const TestExpr&>(expr).operand);
      return for_each_child(static_cast<const TestExpr&>(expr).args, visit);
  }
}

/// Which of `caller`, `kwargs` and `varargs` a macro's body reads without having assigned them.
class SpecialNames {
 public:
  explicit SpecialNames(std::vector<Symbol> wanted) : wanted_(wanted.begin(), wanted.end()) {}

  void visit(const std::vector<StmtPtr>& statements) {
    for (const StmtPtr& statement : statements) visit(*statement);
  }
  bool has(Symbol name) const { return found_.contains(name); }

 private:
  void discard(Symbol name) { wanted_.erase(name); }

  void visit(const ExprPtr& expr) {
    if (expr) visit(*expr);
  }

  void visit(const Expr& expr) {
    if (expr.kind == ExprKind::kName) {
      const auto& name = static_cast<const NameExpr&>(expr);
      if (name.access != Access::kLoad) return discard(name.symbol);
      if (wanted_.contains(name.symbol)) found_.insert(name.symbol);
      return;
    }
    for_each_child(expr, [this](const Expr& child) { visit(child); });
  }

  void visit(const MacroStmt& macro) {
    for (Symbol name : macro.signature.parameters) discard(name);
    for (const ExprPtr& value : macro.signature.defaults) visit(value);
    visit(macro.body.statements);
  }

  void visit(const Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kOutput:
        return visit(static_cast<const OutputStmt&>(statement).expr);
      case StmtKind::kIf: {
        const auto& node = static_cast<const IfStmt&>(statement);
        for (const auto& [test, body] : node.branches) {
          visit(test);
          visit(body);
        }
        return visit(node.otherwise);
      }
      case StmtKind::kFor: {
        const auto& node = static_cast<const ForStmt&>(statement);
        visit(node.target);
        visit(node.iterable);
        visit(node.body.statements);
        visit(node.otherwise.statements);
        return visit(node.test);
      }
      case StmtKind::kSet:
        visit(static_cast<const SetStmt&>(statement).target);
        return visit(static_cast<const SetStmt&>(statement).value);
      case StmtKind::kSetBlock: {
        const auto& node = static_cast<const SetBlockStmt&>(statement);
        visit(node.target);
        visit(node.filter);
        return visit(node.body.statements);
      }
      case StmtKind::kMacro:
        return visit(static_cast<const MacroStmt&>(statement));
      case StmtKind::kCallBlock:
        visit(static_cast<const CallBlockStmt&>(statement).call);
        return visit(static_cast<const CallBlockStmt&>(statement).caller);
      case StmtKind::kFilterBlock:
        visit(static_cast<const FilterBlockStmt&>(statement).body.statements);
        return visit(static_cast<const FilterBlockStmt&>(statement).filter);
      case StmtKind::kGeneration:
        return visit(static_cast<const GenerationStmt&>(statement).macro);
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        return;
    }
  }

  std::set<Symbol> wanted_;
  std::set<Symbol> found_;
};

/// Goes through a scope twice: first for the names of the scope itself, then into the scopes inside.
class Analyzer {
 public:
  explicit Analyzer(SymbolTable& symbols)
      : loop_(symbols.intern("loop")),
        caller_(symbols.intern("caller")),
        kwargs_(symbols.intern("kwargs")),
        varargs_(symbols.intern("varargs")) {}

  void analyze(Template& parsed) {
    Names names;
    collect(names, parsed.body.statements);
    parsed.body.unbound = names.unbound();
    descend(names, parsed.body.statements, false);
  }

 private:
  // --- the names of one scope, in the order in which Jinja sees them

  void collect(Names& names, const Expr& expr) {
    if (expr.kind == ExprKind::kName) {
      const auto& name = static_cast<const NameExpr&>(expr);
      if (name.access == Access::kStore) check_not_loop(name);
      name.access == Access::kStore ? names.store(name.symbol) : names.load(name.symbol);
    } else if (expr.kind == ExprKind::kMemberTarget) {
      names.load(static_cast<const MemberTarget&>(expr).symbol);
    } else {
      for_each_child(expr, [&](const Expr& child) { collect(names, child); });
    }
  }

  void collect(Names& names, const ExprPtr& expr) {
    if (expr) collect(names, *expr);
  }

  void collect_parameters(Names& names, const Expr& target) {
    if (target.kind == ExprKind::kName) {
      check_not_loop(static_cast<const NameExpr&>(target));
      names.declare(static_cast<const NameExpr&>(target).symbol);
    }
    for_each_child(target, [&](const Expr& child) { collect_parameters(names, child); });
  }

  void collect(Names& names, const std::vector<StmtPtr>& statements) {
    for (const StmtPtr& statement : statements) collect(names, *statement);
  }

  void collect(Names& names, const Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kOutput:
        return collect(names, static_cast<const OutputStmt&>(statement).expr);
      case StmtKind::kIf:
        return collect_if(names, static_cast<const IfStmt&>(statement), 0);
      case StmtKind::kFor:
        return collect(names, static_cast<const ForStmt&>(statement).iterable);
      case StmtKind::kSet:
        collect(names, static_cast<const SetStmt&>(statement).value);
        return collect(names, static_cast<const SetStmt&>(statement).target);
      case StmtKind::kSetBlock:
        return collect(names, static_cast<const SetBlockStmt&>(statement).target);
      case StmtKind::kMacro:
        return names.store(static_cast<const MacroStmt&>(statement).name);
      case StmtKind::kCallBlock:
        return collect(names, static_cast<const CallBlockStmt&>(statement).call);
      case StmtKind::kFilterBlock:
        return collect(names, static_cast<const FilterBlockStmt&>(statement).filter);
      case StmtKind::kGeneration:
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        return;
    }
  }

  /// Jinja's tree has one `if` with a list of elif nodes, all of whose tests belong to one branch.
  void collect_if(Names& names, const IfStmt& node, std::size_t) {
    collect(names, node.branches[0].first);
    std::vector<Names> branches(3, names);
    collect(branches[0], node.branches[0].second);
    for (std::size_t i = 1; i < node.branches.size(); ++i) {
      collect(branches[1], node.branches[i].first);
      std::vector<Names> inner(3, branches[1]);
      collect(inner[0], node.branches[i].second);
      branches[1].merge_branches(inner);
    }
    collect(branches[2], node.otherwise);
    names.merge_branches(branches);
  }

  // --- the scopes inside

  void finish(Body& body, Names& names) {
    collect(names, body.statements);
    body.unbound = names.unbound();
    descend(names, body.statements, false);
  }

  void enter(Body& body, const Names& outer) {
    Names names{&outer, {}, {}};
    finish(body, names);
  }

  void enter_macro(MacroStmt& macro, const Names& outer) {
    const int outer_loops = loops_;
    Names names{&outer, {}, {}};
    Signature& signature = macro.signature;
    for (Symbol name : signature.parameters) names.declare(name);
    for (const ExprPtr& value : signature.defaults) collect(names, value);
    SpecialNames special({caller_, kwargs_, varargs_});
    special.visit(macro.body.statements);
    const auto is_parameter = [&](Symbol name) {
      return std::find(signature.parameters.begin(), signature.parameters.end(), name) !=
             signature.parameters.end();
    };
    signature.takes_caller = special.has(caller_);
    signature.takes_kwargs = special.has(kwargs_) && !is_parameter(kwargs_);
    signature.takes_varargs = special.has(varargs_) && !is_parameter(varargs_);
    if (signature.takes_caller && is_parameter(caller_)) check_caller_default(macro);
    if (signature.takes_caller) names.declare(caller_);
    if (signature.takes_kwargs) names.declare(kwargs_);
    if (signature.takes_varargs) names.declare(varargs_);
    for (const ExprPtr& value : signature.defaults) check(*value, false);
    finish(macro.body, names);
    loops_ = outer_loops;
  }

  void check_caller_default(const MacroStmt& macro) const {
    const auto& parameters = macro.signature.parameters;
    const auto index = static_cast<std::size_t>(std::find(parameters.begin(), parameters.end(), caller_) -
                                                parameters.begin());
    if (index + macro.signature.defaults.size() < parameters.size()) {
      throw SyntaxError(macro.at.line,
                        "When defining macros or call blocks the special \"caller\" argument must be omitted "
                        "or be given a default.");
    }
  }

  void descend(Names& names, std::vector<StmtPtr>& statements, bool is_soft) {
    for (StmtPtr& statement : statements) descend(names, *statement, is_soft);
  }

  void descend(Names& names, Stmt& statement, bool is_soft) {
    switch (statement.kind) {
      case StmtKind::kOutput:
        return check(static_cast<OutputStmt&>(statement).expr, is_soft);
      case StmtKind::kIf:
        for (auto& [test, body] : static_cast<IfStmt&>(statement).branches) {
          check(test, true);
          descend(names, body, true);
        }
        return descend(names, static_cast<IfStmt&>(statement).otherwise, true);
      case StmtKind::kFor:
        return descend_for(names, static_cast<ForStmt&>(statement), is_soft);
      case StmtKind::kSet:
        return check(static_cast<SetStmt&>(statement).value, is_soft);
      case StmtKind::kSetBlock:
        check(static_cast<SetBlockStmt&>(statement).filter, false);
        return enter(static_cast<SetBlockStmt&>(statement).body, names);
      case StmtKind::kMacro:
        return enter_macro(static_cast<MacroStmt&>(statement), names);
      case StmtKind::kCallBlock:
        check(static_cast<CallBlockStmt&>(statement).call, is_soft);
        return enter_macro(static_cast<CallBlockStmt&>(statement).caller, names);
      case StmtKind::kGeneration:
        return enter_macro(static_cast<GenerationStmt&>(statement).macro, names);
      case StmtKind::kFilterBlock:
        check(static_cast<FilterBlockStmt&>(statement).filter, false);
        return enter(static_cast<FilterBlockStmt&>(statement).body, names);
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        return;
    }
  }

  void descend_for(Names& names, ForStmt& node, bool is_soft) {
    ++loops_;
    check(node.iterable, is_soft);
    check(node.test, false);
    Names body{&names, {}, {}};
    body.declare(loop_);
    collect_parameters(body, *node.target);
    finish(node.body, body);
    enter(node.otherwise, names);
    --loops_;
  }

  // --- checks of Jinja's compiler

  void check_not_loop(const NameExpr& name) const {
    if (loops_ > 0 && name.symbol == loop_) {
      throw SyntaxError(name.at.line, "Can't assign to special loop variable in for-loop target");
    }
  }

  void check(const ExprPtr& expr, bool is_soft) {
    if (expr) check(*expr, is_soft);
  }

  [[noreturn]] static void fail_unknown(std::string_view what, const std::string& name,
                                        const std::vector<std::string>& known, std::uint32_t line) {
    throw SyntaxError(line, fmt::format("No {} named '{}'.{}", what, name, suggestion(name, known)));
  }

  /// Filters and tests must exist, unless they stand under an `if`.
  void check(const Expr& expr, bool is_soft) {
    is_soft = is_soft || expr.kind == ExprKind::kConditional;
    if (expr.kind == ExprKind::kFilter && !is_soft) {
      const auto& node = static_cast<const FilterExpr&>(expr);
      if (node.filter == nullptr && is_refused_filter(node.name))
        throw SyntaxError(expr.at.line, refusal("filter", node.name));
      if (node.filter == nullptr) fail_unknown("filter", node.name, filter_names(), expr.at.line);
    }
    if (expr.kind == ExprKind::kTest && !is_soft) {
      const auto& node = static_cast<const TestExpr&>(expr);
      if (node.test == nullptr && is_refused_test(node.name))
        throw SyntaxError(expr.at.line, refusal("test", node.name));
      if (node.test == nullptr) fail_unknown("test", node.name, test_names(), expr.at.line);
    }
    for_each_child(expr, [&](const Expr& child) { check(child, is_soft); });
  }

  Symbol loop_;
  Symbol caller_;
  Symbol kwargs_;
  Symbol varargs_;
  int loops_ = 0;
};

}  // namespace

void analyze_scopes(Template& parsed) {
  Analyzer(parsed.symbols).analyze(parsed);
}

}  // namespace hone::text::jinja
