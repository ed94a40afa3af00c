// loop.index, loop.last and their kin.
#include "text/jinja/loop.h"

#include "text/jinja/refused.h"

namespace hone::text::jinja {
namespace {

class VectorIterator final : public Iterator {
 public:
  explicit VectorIterator(std::vector<Value> items) : items_(std::move(items)) {}
  bool advance(Value& out) override {
    if (index_ >= items_.size()) return false;
    out = items_[index_++];
    return true;
  }

 private:
  std::vector<Value> items_;
  std::size_t index_ = 0;
};

}  // namespace

bool LoopState::advance(Value& item) {
  if (!after_.is(Kind::kMissing)) {
    item = std::exchange(after_, Value::missing());
  } else if (!items_->next(item)) {
    return false;
  }
  ++index0_;
  before_ = std::exchange(current_, item);
  return true;
}

const Value* LoopState::peek() {
  if (after_.is(Kind::kMissing)) {
    Value next;
    if (!items_->next(next)) return nullptr;
    after_ = std::move(next);
  }
  return &after_;
}

std::int64_t LoopState::length() {
  if (length_ >= 0) return length_;
  if (node_.test == nullptr && has_length(iterable_)) return length_ = jinja::length(iterable_);
  std::vector<Value> rest;
  for (Value item; items_->next(item);) rest.push_back(std::move(item));
  length_ = static_cast<std::int64_t>(rest.size()) + index0_ + 1 + (after_.is(Kind::kMissing) ? 0 : 1);
  items_ = std::make_shared<VectorIterator>(std::move(rest));
  return length_;
}

Value LoopState::call(Interpreter&, CallArgs&) {
  raise(kTypeError, "The loop must have the 'recursive' marker to be called recursively.");
}

std::optional<Value> LoopState::attribute(std::string_view name) {
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(peek() == nullptr);
  if (name == "length") return Value::integer(length());
  if (name == "previtem") return index0_ == 0 ? make_undefined_hint("there is no previous item") : before_;
  if (name == "nextitem") {
    const Value* next = peek();
    return next == nullptr ? make_undefined_hint("there is no next item") : *next;
  }
  if (is_refused_of_loop(name)) raise(kPlain, "{}", refusal("attribute", name, "loops"));
  return std::nullopt;
}

bool FilteredItems::advance(Value& out) {
  for (Value item; items_->next(item);) {
    if (interpreter_.passes(node_, item, scope_)) {
      out = std::move(item);
      return true;
    }
  }
  return false;
}

}  // namespace hone::text::jinja
