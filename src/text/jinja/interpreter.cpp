// Statements. Each scope of the template becomes a Scope object; macros keep the one they were defined in
// alive.
#include "text/jinja/interpreter.h"

#include <algorithm>

#include "text/jinja/loop.h"
#include "text/jinja/print.h"
#include "text/jinja/refused.h"
#include "text/moment.h"

namespace hone::text::jinja {
namespace {

class Macro final : public Callable {
 public:
  /// The interpreter keeps `scope` alive; holding it here would tie a knot with the scope that holds this
  /// macro.
  Macro(const MacroStmt& node, std::weak_ptr<Scope> scope, std::string name)
      : node_(node), scope_(std::move(scope)), name_(std::move(name)) {}

  Value call(Interpreter& interpreter, CallArgs& args) override {
    return interpreter.call_macro(node_, scope_.lock(), name_, args);
  }
  std::optional<Value> attribute(std::string_view name) override {
    for (const char* refused : {"arguments", "caller", "catch_kwargs", "catch_varargs", "name"})
      if (name == refused) raise(kPlain, "{}", refusal("attribute", name, "macros"));
    return std::nullopt;
  }
  std::string type_name() const override { return "Macro"; }
  std::string repr() const override {
    return name_.empty() ? "<Macro anonymous>" : fmt::format("<Macro {}>", in_quotes(name_));
  }

 private:
  const MacroStmt& node_;
  std::weak_ptr<Scope> scope_;
  std::string name_;
};

}  // namespace

class Interpreter::Capture {
 public:
  explicit Capture(Interpreter& interpreter) : interpreter_(interpreter), outer_(interpreter.out_) {
    interpreter.out_ = &builder_;
  }
  ~Capture() { interpreter_.out_ = outer_; }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  TextRef finish() {
    interpreter_.out_ = outer_;
    return builder_.finish();
  }

 private:
  Interpreter& interpreter_;
  TextBuilder* outer_;
  TextBuilder builder_;
};

Value* Scope::find(Symbol name) {
  for (auto& [symbol, value] : variables) {
    if (symbol == name) return &value;
  }
  return nullptr;
}

void Scope::set(Symbol name, Value value) {
  if (Value* old = find(name)) {
    *old = std::move(value);
  } else {
    variables.emplace_back(name, std::move(value));
  }
}

Interpreter::Interpreter(const Template& parsed, std::vector<Value> context, std::function<std::tm()> clock)
    : template_(parsed),
      context_(std::move(context)),
      clock_(std::move(clock)),
      loop_symbol_(parsed.symbols.find("loop")),
      caller_symbol_(parsed.symbols.find("caller")),
      kwargs_symbol_(parsed.symbols.find("kwargs")),
      varargs_symbol_(parsed.symbols.find("varargs")) {
  for (auto& [name, function] : global_functions()) {
    const Symbol symbol = parsed.symbols.find(std::string(name));
    if (symbol < context_.size() && context_[symbol].is(Kind::kMissing))
      context_[symbol] = std::move(function);
  }
}

Interpreter::~Interpreter() {
  for (const auto& held : namespaces_) held->attributes.clear();
}

TextRef Interpreter::render() {
  Capture capture(*this);
  run(template_.body.statements, enter(template_.body, nullptr));
  return capture.finish();
}

std::tm Interpreter::now() const {
  return clock_ ? clock_() : local_time();
}

std::shared_ptr<Namespace> Interpreter::make_namespace() {
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

ScopeRef Interpreter::enter(const Body& body, const ScopeRef& parent) const {
  auto scope = std::make_shared<Scope>(parent);
  for (Symbol name : body.unbound) scope->variables.emplace_back(name, Value::missing());
  return scope;
}

Interpreter::Flow Interpreter::run(const std::vector<StmtPtr>& statements, const ScopeRef& scope) {
  for (const StmtPtr& statement : statements) {
    if (const Flow flow = run(*statement, scope); flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_body(const Body& body, const ScopeRef& scope) {
  return run(body.statements, enter(body, scope));
}

Interpreter::Flow Interpreter::run(const Stmt& statement, const ScopeRef& scope) {
  const Deeper guard(*this, 1);
  Budget::spend(1);
  position_ = statement.at;
  switch (statement.kind) {
    case StmtKind::kOutput:
      run_output(static_cast<const OutputStmt&>(statement), scope);
      return Flow::kNext;
    case StmtKind::kIf:
      return run_if(static_cast<const IfStmt&>(statement), scope);
    case StmtKind::kFor:
      return run_for(static_cast<const ForStmt&>(statement), scope);
    case StmtKind::kSet:
      run_set(static_cast<const SetStmt&>(statement), scope);
      return Flow::kNext;
    case StmtKind::kSetBlock:
      return run_set_block(static_cast<const SetBlockStmt&>(statement), scope);
    case StmtKind::kMacro:
      run_macro(static_cast<const MacroStmt&>(statement), scope);
      return Flow::kNext;
    case StmtKind::kCallBlock:
      run_call_block(static_cast<const CallBlockStmt&>(statement), scope);
      return Flow::kNext;
    case StmtKind::kFilterBlock:
      return run_filter_block(static_cast<const FilterBlockStmt&>(statement), scope);
    case StmtKind::kGeneration:
      run_generation(static_cast<const GenerationStmt&>(statement), scope);
      return Flow::kNext;
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

void Interpreter::run_output(const OutputStmt& node, const ScopeRef& scope) {
  if (node.data) return out_->append(*node.data);
  const Value value = eval(*node.expr, scope);
  print(*out_, value);
}

Interpreter::Flow Interpreter::run_if(const IfStmt& node, const ScopeRef& scope) {
  for (const auto& [test, body] : node.branches) {
    if (truth(eval(*test, scope))) return run(body, scope);
  }
  return run(node.otherwise, scope);
}

Interpreter::Flow Interpreter::run_for(const ForStmt& node, const ScopeRef& scope) {
  const Value iterable = eval(*node.iterable, scope);
  position_ = node.at;
  std::shared_ptr<Iterator> items = iterate(iterable);
  if (node.test) items = std::make_shared<FilteredItems>(*this, node, std::move(items), scope);
  const auto loop = std::make_shared<LoopState>(node, iterable, std::move(items));
  // As compiled by Jinja: `else` runs unless some iteration came to the end of the body.
  bool finished_one = false;
  for (Value item; loop->advance(item);) {
    Budget::spend(1);
    const ScopeRef inner = enter(node.body, scope);
    inner->set(loop_symbol_, Value::object(Kind::kCallable, loop));
    assign(*node.target, std::move(item), inner);
    const Flow flow = run(node.body.statements, inner);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNext) finished_one = true;
    position_ = node.at;
  }
  return finished_one ? Flow::kNext : run_body(node.otherwise, scope);
}

bool Interpreter::passes(const ForStmt& node, const Value& item, const ScopeRef& scope) {
  Budget::spend(1);
  const auto inner = std::make_shared<Scope>(scope);
  assign(*node.target, item, inner);
  return truth(eval(*node.test, inner));
}

void Interpreter::run_set(const SetStmt& node, const ScopeRef& scope) {
  check_members(*node.target, scope);
  Value value = eval(*node.value, scope);
  position_ = node.at;
  assign(*node.target, std::move(value), scope);
}

Interpreter::Flow Interpreter::run_set_block(const SetBlockStmt& node, const ScopeRef& scope) {
  const ScopeRef inner = enter(node.body, scope);
  Capture capture(*this);
  if (const Flow flow = run(node.body.statements, inner); flow != Flow::kNext) return flow;
  Value text = Value::text(capture.finish());
  if (node.filter) text = eval_filter(static_cast<const FilterExpr&>(*node.filter), inner, &text);
  position_ = node.at;
  check_members(*node.target, scope);
  assign(*node.target, std::move(text), scope);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_filter_block(const FilterBlockStmt& node, const ScopeRef& scope) {
  const ScopeRef inner = enter(node.body, scope);
  Capture capture(*this);
  if (const Flow flow = run(node.body.statements, inner); flow != Flow::kNext) return flow;
  const Value text = Value::text(capture.finish());
  append_text(eval_filter(static_cast<const FilterExpr&>(*node.filter), inner, &text));
  return Flow::kNext;
}

void Interpreter::append_text(const Value& value) {
  if (!value.is_string()) raise(kTypeError, "expected str instance, {} found", type_name(value));
  out_->append(value.text());
}

void Interpreter::run_macro(const MacroStmt& node, const ScopeRef& scope) {
  const std::string& name = template_.symbols.name(node.name);
  if (captured_.empty() || captured_.back() != scope) captured_.push_back(scope);
  scope->set(node.name, Value::object(Kind::kCallable, std::make_shared<Macro>(node, scope, name)));
}

void Interpreter::run_call_block(const CallBlockStmt& node, const ScopeRef& scope) {
  if (captured_.empty() || captured_.back() != scope) captured_.push_back(scope);
  const Value caller = Value::object(Kind::kCallable, std::make_shared<Macro>(node.caller, scope, "caller"));
  append_text(eval_call(static_cast<const CallExpr&>(*node.call), scope, &caller));
}

void Interpreter::run_generation(const GenerationStmt& node, const ScopeRef& scope) {
  CallArgs no_args;
  const Value text = call_macro(node.macro, scope, "caller", no_args);
  const std::int32_t id = ++generations_;
  std::size_t begin = 0;
  const Text& body = text.text();
  if (body.runs.empty()) return out_->append(body.bytes, Mark{{}, id});
  for (const Text::Run& run : body.runs) {
    out_->append(std::string_view(body.bytes).substr(begin, run.end - begin), Mark{run.mark.source, id});
    begin = run.end;
  }
}

void Interpreter::check_members(const Expr& target, const ScopeRef& scope) {
  if (target.kind == ExprKind::kMemberTarget) {
    if (!eval_name(static_cast<const MemberTarget&>(target).symbol, scope).is(Kind::kNamespace)) {
      raise(kPlain, "cannot assign attribute on non-namespace object");
    }
  } else if (target.kind == ExprKind::kTuple || target.kind == ExprKind::kList) {
    for (const ExprPtr& item : static_cast<const SequenceExpr&>(target).items) check_members(*item, scope);
  }
}

void Interpreter::assign(const Expr& target, Value value, const ScopeRef& scope) {
  if (target.kind == ExprKind::kName) {
    return scope->set(static_cast<const NameExpr&>(target).symbol, std::move(value));
  }
  if (target.kind == ExprKind::kMemberTarget) {
    const auto& member = static_cast<const MemberTarget&>(target);
    return eval_name(member.symbol, scope).as<Namespace>().set(member.name, std::move(value));
  }
  const auto& targets = static_cast<const SequenceExpr&>(target).items;
  if (!is_iterable(value)) raise(kTypeError, "cannot unpack non-iterable {} object", type_name(value));
  std::vector<Value> items;
  const auto iterator = iterate(value);
  for (Value item; items.size() <= targets.size() && iterator->next(item);) items.push_back(std::move(item));
  if (items.size() > targets.size())
    raise(kValueError, "too many values to unpack (expected {})", targets.size());
  if (items.size() < targets.size()) {
    raise(kValueError, "not enough values to unpack (expected {}, got {})", targets.size(), items.size());
  }
  for (std::size_t i = 0; i < targets.size(); ++i) assign(*targets[i], std::move(items[i]), scope);
}

namespace {

/// kwargs.pop(name)
std::optional<Value> take_keyword(CallArgs& args, std::string_view name) {
  const auto it = std::find_if(args.keyword.begin(), args.keyword.end(),
                               [name](const auto& k) { return k.first == name; });
  if (it == args.keyword.end()) return std::nullopt;
  Value value = std::move(it->second);
  args.keyword.erase(it);
  return value;
}

Value keywords_as_dict(const CallArgs& args) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : args.keyword) dict->insert(Value::string(name), value);
  return make_dict(std::move(dict));
}

}  // namespace

Value Interpreter::call_macro(const MacroStmt& macro, const ScopeRef& parent, std::string_view name,
                              CallArgs& args) {
  const Deeper guard(*this, 4);
  const Signature& signature = macro.signature;
  const std::size_t count = signature.parameters.size();
  const ScopeRef scope = enter(macro.body, parent);
  bool found_caller = args.positional.size() >= count &&
                      std::find(signature.parameters.begin(), signature.parameters.end(), caller_symbol_) !=
                          signature.parameters.end();
  for (std::size_t i = 0; i < count; ++i) {
    const Symbol parameter = signature.parameters[i];
    Value value = Value::missing();
    if (i < args.positional.size()) {
      value = args.positional[i];
    } else {
      if (auto given = take_keyword(args, template_.symbols.name(parameter))) value = std::move(*given);
      found_caller = found_caller || parameter == caller_symbol_;
    }
    scope->set(parameter, std::move(value));
  }
  if (signature.takes_caller && !found_caller) {
    const auto caller = take_keyword(args, "caller");
    scope->set(caller_symbol_,
               caller && !caller->is_none() ? *caller : make_undefined_hint("No caller defined"));
  }
  if (signature.takes_kwargs) {
    scope->set(kwargs_symbol_, keywords_as_dict(args));
  } else if (!args.keyword.empty()) {
    const std::string& extra = args.keyword[0].first;
    if (extra == "caller") {
      raise(
          kTypeError,
          "macro {} was invoked with two values for the special caller argument. This is most likely a bug.",
          in_quotes(name));
    }
    raise(kTypeError, "macro {} takes no keyword argument {}", in_quotes(name), in_quotes(extra));
  }
  if (signature.takes_varargs) {
    const auto first =
        args.positional.begin() + static_cast<std::ptrdiff_t>(std::min(count, args.positional.size()));
    scope->set(varargs_symbol_, make_tuple({first, args.positional.end()}));
  } else if (args.positional.size() > count) {
    raise(kTypeError, "macro {} takes not more than {} argument(s)", in_quotes(name), count);
  }
  for (std::size_t i = 0; i < count; ++i) {
    Value* value = scope->find(signature.parameters[i]);
    if (!value->is(Kind::kMissing)) continue;
    const std::size_t first_default = count - signature.defaults.size();
    Value fallback =
        i >= first_default
            ? eval(*signature.defaults[i - first_default], scope)
            : make_undefined_hint(fmt::format("parameter {} was not provided",
                                              in_quotes(template_.symbols.name(signature.parameters[i]))));
    scope->set(signature.parameters[i], std::move(fallback));
  }
  Capture capture(*this);
  run(macro.body.statements, scope);
  return Value::text(capture.finish());
}

}  // namespace hone::text::jinja
