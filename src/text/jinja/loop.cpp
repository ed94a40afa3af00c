// loop.index, loop.last, loop.changed() and their kin.
#include "text/jinja/loop.h"

#include "text/jinja/arguments.h"

namespace hone::text::jinja {
namespace {

/// `loop.cycle` and `loop.changed`, bound to their loop.
class LoopMethod final : public Callable {
 public:
  LoopMethod(std::shared_ptr<LoopState> loop, bool is_cycle) : loop_(std::move(loop)), is_cycle_(is_cycle) {}
  Value call(Interpreter& interpreter, CallArgs& args) override {
    return is_cycle_ ? loop_->cycle(args) : Value::boolean(loop_->changed(interpreter, args));
  }

 private:
  std::shared_ptr<LoopState> loop_;
  bool is_cycle_;
};

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

Value LoopState::call(Interpreter& interpreter, CallArgs& call_args) {
  const Arguments args("loop", call_args, {"iterable"}, 1);
  if (!node_.is_recursive) {
    raise(kTypeError, "The loop must have the 'recursive' marker to be called recursively.");
  }
  return interpreter.call_loop(node_, args[0], scope_, depth0_ + 1);
}

std::optional<Value> LoopState::attribute(std::string_view name) {
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(peek() == nullptr);
  if (name == "length") return Value::integer(length());
  if (name == "revindex") return Value::integer(length() - index0_);
  if (name == "revindex0") return Value::integer(length() - index0_ - 1);
  if (name == "depth") return Value::integer(depth0_ + 1);
  if (name == "depth0") return Value::integer(depth0_);
  if (name == "cycle" || name == "changed") {
    return Value::object(Kind::kCallable, std::make_shared<LoopMethod>(shared_from_this(), name == "cycle"));
  }
  if (name == "previtem") return index0_ == 0 ? make_undefined_hint("there is no previous item") : before_;
  if (name == "nextitem") {
    const Value* next = peek();
    return next == nullptr ? make_undefined_hint("there is no next item") : *next;
  }
  return std::nullopt;
}

void LoopState::clear() {
  before_ = current_ = after_ = last_changed_ = iterable_ = Value::missing();
  items_.reset();
}

Value LoopState::cycle(const CallArgs& args) const {
  if (args.positional.empty()) raise(kTypeError, "no items for cycling given");
  return args.positional[static_cast<std::size_t>(index0_) % args.positional.size()];
}

bool LoopState::changed(Interpreter& interpreter, const CallArgs& args) {
  const Value values = make_tuple(args.positional);
  if (!last_changed_.is(Kind::kMissing) && equals(last_changed_, values)) return false;
  if (last_changed_.is(Kind::kMissing)) interpreter.keep(shared_from_this());
  last_changed_ = values;
  return true;
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
