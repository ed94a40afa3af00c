// Filters over sequences and mappings. Those that stream in Jinja stream here: what they give can be read
// once.
#include <algorithm>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/generator.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace hone::text::jinja {
namespace {

Value ignore_case(Value value) {
  return value.is_string() ? lower_text(value.text()) : value;
}

Value filter_first(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("first", call, {});
  Value item;
  return iterate(value)->next(item) ? item : make_undefined_hint("No first item, sequence was empty.");
}

Value filter_last(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("last", call, {});
  if (value.is(Kind::kIterator) || !is_iterable(value)) {
    raise(kTypeError, "'{}' object is not reversible", type_name(value));
  }
  const std::vector<Value> items = to_vector(value);
  return items.empty() ? make_undefined_hint("No last item, sequence was empty.") : items.back();
}

Value filter_length(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("length", call, {});
  return Value::integer(length(value), value.source());
}

Value filter_list(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("list", call, {});
  return make_list(to_vector(value), value.source());
}

Value filter_default(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("default", call, {"default_value", "boolean"});
  const bool is_missing = value.is_undefined() || (args.flag(1, false) && !truth(value));
  if (!is_missing) return value;
  return args.has(0) ? args[0] : Value::string("");
}

Value filter_items(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("items", call, {});
  std::shared_ptr<Iterator> items;
  return make_generator(value, [value, items](Value& out) mutable {
    if (value.is_undefined()) return false;
    if (!value.is(Kind::kDict)) raise(kTypeError, "Can only get item pairs from a mapping.");
    if (!items) {
      View view;
      view.what = View::What::kItems;
      items = iterate(make_list([&] {
        view.dict = value;
        return view_items(view);
      }()));
    }
    return items->next(out);
  });
}

std::string filter_name(const Value& name, std::string_view what) {
  if (!name.is_string()) raise(kPlain, "No {} named {}.", what, repr(name));
  return name.text().bytes;
}

/// The function that `map` applies: an attribute path, or a filter with its arguments.
std::function<Value(Interpreter&, const Value&)> prepare_map(const CallArgs& call) {
  if (call.positional.empty() && !call.keyword.empty()) {
    const Arguments args("map", call, {"attribute", "default"});
    if (!args.has(0)) raise(kPlain, "map requires a filter argument");
    const AttributePath path(args[0]);
    const Value fallback = args.has(1) ? args[1] : Value::none();
    return [path, fallback](Interpreter&, const Value& item) {
      return path.get(item, fallback.is_none() ? nullptr : &fallback);
    };
  }
  if (call.positional.empty()) raise(kPlain, "map requires a filter argument");
  const std::string name = filter_name(call.positional[0], "filter");
  CallArgs rest{{call.positional.begin() + 1, call.positional.end()}, call.keyword};
  return [name, rest](Interpreter& interpreter, const Value& item) {
    return require_filter(name)(interpreter, item, rest);
  };
}

Value filter_map(Interpreter& interpreter, const Value& value, const CallArgs& call) {
  std::function<Value(Interpreter&, const Value&)> function;
  std::shared_ptr<Iterator> items;
  return make_generator(value, [&interpreter, value, call, function, items](Value& out) mutable {
    if (!items) {
      if (!truth(value)) return false;
      function = prepare_map(call);
      items = iterate(value);
    }
    Value item;
    if (!items->next(item)) return false;
    out = function(interpreter, item);
    return true;
  });
}

/// The condition of select, reject and their attr forms.
std::function<bool(Interpreter&, const Value&)> prepare_select(const CallArgs& call, bool by_attribute) {
  std::size_t used = 0;
  AttributePath path(Value::none());
  if (by_attribute) {
    if (call.positional.empty()) raise(kPlain, "Missing parameter for attribute name");
    path = AttributePath(call.positional[used++]);
  }
  if (call.positional.size() == used)
    return [path](Interpreter&, const Value& item) { return truth(path.get(item)); };
  const Value test_name = call.positional[used++];
  CallArgs rest{{call.positional.begin() + static_cast<std::ptrdiff_t>(used), call.positional.end()},
                call.keyword};
  return [path, test_name, rest](Interpreter& interpreter, const Value& item) {
    const std::string name = filter_name(test_name, "test");
    return require_test(name)(interpreter, path.get(item), rest);
  };
}

template <bool kKeep, bool kByAttribute>
Value filter_select(Interpreter& interpreter, const Value& value, const CallArgs& call) {
  std::function<bool(Interpreter&, const Value&)> condition;
  std::shared_ptr<Iterator> items;
  return make_generator(value, [&interpreter, value, call, condition, items](Value& out) mutable {
    if (!items) {
      if (!truth(value)) return false;
      condition = prepare_select(call, kByAttribute);
      items = iterate(value);
    }
    for (Value item; items->next(item);) {
      if (condition(interpreter, item) == kKeep) {
        out = std::move(item);
        return true;
      }
    }
    return false;
  });
}

/// Python's sorted() by precomputed keys.
std::vector<std::size_t> sorted_order(const std::vector<Value>& keys, bool reverse) {
  std::vector<std::size_t> order(keys.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return reverse ? less_than(keys[b], keys[a]) : less_than(keys[a], keys[b]);
  });
  return order;
}

std::vector<Value> permuted(const std::vector<Value>& items, const std::vector<std::size_t>& order) {
  std::vector<Value> out;
  out.reserve(items.size());
  for (std::size_t index : order) out.push_back(items[index]);
  return out;
}

/// "a,b.c" names several attributes.
std::vector<AttributePath> split_paths(const Value& attribute) {
  std::vector<AttributePath> paths;
  if (!attribute.is_string()) {
    paths.emplace_back(attribute);
    return paths;
  }
  for (const Value& part : split_text(attribute.text(), Value::string(","), -1)) paths.emplace_back(part);
  return paths;
}

Value filter_sort(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("sort", call, {"reverse", "case_sensitive", "attribute"});
  const bool by_case = args.flag(1, false);
  const std::vector<AttributePath> paths = split_paths(args.has(2) ? args[2] : Value::none());
  const std::vector<Value> items = to_vector(value);
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const AttributePath& path : paths)
      key.push_back(by_case ? path.get(item) : ignore_case(path.get(item)));
    keys.push_back(make_list(std::move(key)));
  }
  return make_list(permuted(items, sorted_order(keys, args.flag(0, false))), value.own_source());
}

Value filter_dictsort(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("dictsort", call, {"case_sensitive", "by", "reverse"});
  const std::string by = args.has(1) ? to_text(args[1])->bytes : "key";
  if (by != "key" && by != "value") raise(kPlain, "You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is(Kind::kDict))
    raise("AttributeError", "'{}' object has no attribute 'items'", type_name(value));
  std::vector<Value> items;
  std::vector<Value> keys;
  for (const auto& [key, item] : value.dict().entries) {
    const Value& sorted_by = by == "key" ? key : item;
    keys.push_back(args.flag(0, false) ? sorted_by : ignore_case(sorted_by));
    items.push_back(make_tuple({key, item}, value.own_source()));
  }
  return make_list(permuted(items, sorted_order(keys, args.flag(2, false))), value.own_source());
}

Value filter_unique(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("unique", call, {"case_sensitive", "attribute"});
  const bool by_case = args.flag(0, false);
  const AttributePath path(args.has(1) ? args[1] : Value::none());
  const auto items = iterate(value);
  const auto seen = std::make_shared<Dict>();
  return make_generator(value, [by_case, path, items, seen](Value& out) {
    for (Value item; items->next(item);) {
      const Value key = by_case ? path.get(item) : ignore_case(path.get(item));
      if (seen->find(key) != nullptr) continue;
      seen->insert(key, Value::none());
      out = std::move(item);
      return true;
    }
    return false;
  });
}

template <bool kMax>
Value filter_extreme(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args(kMax ? "max" : "min", call, {"case_sensitive", "attribute"});
  const bool by_case = args.flag(0, false);
  const AttributePath path(args.has(1) ? args[1] : Value::none());
  const auto key_of = [&](const Value& item) {
    return by_case ? path.get(item) : ignore_case(path.get(item));
  };
  const auto items = iterate(value);
  Value best;
  if (!items->next(best)) return make_undefined_hint("No aggregated item, sequence was empty.");
  Value best_key = key_of(best);
  for (Value item; items->next(item);) {
    Value key = key_of(item);
    if (kMax ? less_than(best_key, key) : less_than(key, best_key)) {
      best = std::move(item);
      best_key = std::move(key);
    }
  }
  return best;
}

}  // namespace

AttributePath::AttributePath(const Value& attribute) {
  if (attribute.is_none()) return;
  if (!attribute.is_string()) {
    parts_.push_back(attribute);
    return;
  }
  for (const Value& part : split_text(attribute.text(), Value::string("."), -1)) {
    const std::string& name = part.text().bytes;
    const bool is_index = !name.empty() && name.size() < 10 &&
                          std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    parts_.push_back(is_index ? Value::integer(std::stoll(name)) : part);
  }
}

Value AttributePath::get(const Value& item, const Value* fallback) const {
  Value at = item;
  for (const Value& part : parts_) {
    at = get_item(at, part);
    if (fallback != nullptr && at.is_undefined()) at = *fallback;
  }
  return at;
}

const std::vector<NamedFilter>& sequence_filters() {
  static const std::vector<NamedFilter> kFilters = {
      {"count", filter_length},
      {"d", filter_default},
      {"default", filter_default},
      {"dictsort", filter_dictsort},
      {"first", filter_first},
      {"items", filter_items},
      {"last", filter_last},
      {"length", filter_length},
      {"list", filter_list},
      {"map", filter_map},
      {"max", filter_extreme<true>},
      {"min", filter_extreme<false>},
      {"reject", filter_select<false, false>},
      {"rejectattr", filter_select<false, true>},
      {"select", filter_select<true, false>},
      {"selectattr", filter_select<true, true>},
      {"sort", filter_sort},
      {"unique", filter_unique},
  };
  return kFilters;
}

}  // namespace hone::text::jinja
