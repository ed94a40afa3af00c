// The expressions of a template, as trees of plain data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/value.h"

namespace hone::text::jinja {

/// A name, by its index in the template's table of names.
using Symbol = std::uint32_t;

/// Where a node stands.
struct Position {
  std::uint32_t line = 1;
  std::uint32_t tag = 0;  ///< index of the `{{ … }}` or `{% … %}` in Template::tags
};

enum class ExprKind : std::uint8_t {
  kConst,
  kName,
  kList,
  kTuple,
  kDict,
  kUnary,
  kBinary,
  kLogic,
  kCompare,
  kConcat,
  kConditional,
  kAttribute,
  kItem,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kMemberTarget,
};

struct Expr {
  explicit Expr(ExprKind k) : kind(k) {}
  virtual ~Expr() = default;
  ExprKind kind;
  Position at;
  std::uint16_t depth = 1;  ///< height of the tree below, bounded by the parser
};
using ExprPtr = std::unique_ptr<Expr>;

struct ConstExpr final : Expr {
  ConstExpr() : Expr(ExprKind::kConst) {}
  Value value;
};

enum class Access : std::uint8_t { kLoad, kStore, kParameter };

struct NameExpr final : Expr {
  NameExpr() : Expr(ExprKind::kName) {}
  Symbol symbol = 0;
  Access access = Access::kLoad;
};

/// List and tuple literals, and tuples of targets.
struct SequenceExpr final : Expr {
  explicit SequenceExpr(ExprKind k) : Expr(k) {}
  std::vector<ExprPtr> items;
};

struct DictExpr final : Expr {
  DictExpr() : Expr(ExprKind::kDict) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};

struct UnaryExpr final : Expr {
  UnaryExpr() : Expr(ExprKind::kUnary) {}
  char op = '-';  ///< - + or ! (not)
  ExprPtr operand;
};

struct BinaryExpr final : Expr {
  BinaryExpr() : Expr(ExprKind::kBinary) {}
  Binary op = Binary::kAdd;
  ExprPtr left;
  ExprPtr right;
};

struct LogicExpr final : Expr {
  LogicExpr() : Expr(ExprKind::kLogic) {}
  bool is_and = true;
  ExprPtr left;
  ExprPtr right;
};

struct CompareExpr final : Expr {
  CompareExpr() : Expr(ExprKind::kCompare) {}
  ExprPtr first;
  std::vector<std::pair<Compare, ExprPtr>> rest;
};

struct ConcatExpr final : Expr {
  ConcatExpr() : Expr(ExprKind::kConcat) {}
  std::vector<ExprPtr> parts;
};

struct ConditionalExpr final : Expr {
  ConditionalExpr() : Expr(ExprKind::kConditional) {}
  ExprPtr test;
  ExprPtr yes;
  ExprPtr no;  ///< null: undefined
};

struct AttributeExpr final : Expr {
  AttributeExpr() : Expr(ExprKind::kAttribute) {}
  ExprPtr object;
  std::string name;
};

struct ItemExpr final : Expr {
  ItemExpr() : Expr(ExprKind::kItem) {}
  ExprPtr object;
  ExprPtr key;  ///< may be a SliceExpr
};

struct SliceExpr final : Expr {
  SliceExpr() : Expr(ExprKind::kSlice) {}
  ExprPtr start;  ///< bounds may be null
  ExprPtr stop;
  ExprPtr step;
};

struct CallParts {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr more_positional;  ///< *args, may be null
  ExprPtr more_keyword;     ///< **kwargs, may be null
};

struct CallExpr final : Expr {
  CallExpr() : Expr(ExprKind::kCall) {}
  ExprPtr callee;
  CallParts args;
};

struct FilterExpr final : Expr {
  FilterExpr() : Expr(ExprKind::kFilter) {}
  ExprPtr operand;  ///< null: the text of the enclosing block
  std::string name;
  Filter filter = nullptr;  ///< null: unknown, an error when it runs
  CallParts args;
};

struct TestExpr final : Expr {
  TestExpr() : Expr(ExprKind::kTest) {}
  ExprPtr operand;
  std::string name;
  Test test = nullptr;
  CallParts args;
};

/// `ns.name` on the left of a set.
struct MemberTarget final : Expr {
  MemberTarget() : Expr(ExprKind::kMemberTarget) {}
  Symbol symbol = 0;
  std::string name;
};

/// The names of a template.
class SymbolTable {
 public:
  Symbol intern(const std::string& name) {
    const auto [it, added] = ids_.try_emplace(name, static_cast<Symbol>(names_.size()));
    if (added) names_.push_back(name);
    return it->second;
  }
  /// The symbol of a name, or size() where the template does not mention it.
  Symbol find(const std::string& name) const {
    const auto it = ids_.find(name);
    return it == ids_.end() ? static_cast<Symbol>(names_.size()) : it->second;
  }
  const std::string& name(Symbol symbol) const { return names_[symbol]; }
  std::size_t size() const { return names_.size(); }

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::string, Symbol> ids_;
};

}  // namespace hone::text::jinja
