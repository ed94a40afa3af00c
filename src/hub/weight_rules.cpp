#include "hub/weight_rules.h"

#include <algorithm>
#include <set>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/message.h"
#include "hub/tolerant_lookup.h"

namespace hone::hub {

namespace {

/// A hub tensor that a layout expects.
struct Expected {
  std::string key;
  Shape shape;  // of the values
  WeightMap map;
  int part = 0;  // which of the layout's patterns
  bool mxfp4 = false;

  /// Rows that are no whole blocks are not stored in them.
  bool can_be() const { return !mxfp4 || (shape.rank() > 0 && shape[-1] % kMxBlock == 0); }
  std::string stored_key() const { return mxfp4 ? key + "_blocks" : key; }
  Shape stored_shape() const {
    if (!mxfp4) return shape;
    auto dims = shape.dims();
    dims.back() /= kMxBlock;
    dims.push_back(kMxBlock / 2);
    return Shape(std::move(dims));
  }
};

/// One way in which a parameter may be stored.
using Layout = std::vector<Expected>;

std::string_view parent_of(std::string_view key) {
  return key.substr(0, key.rfind('.'));
}

/// "model.layers.3" of "model.layers.3.mlp.gate.weight": up to the first number; "" where there is none.
std::string_view block_of(std::string_view key) {
  for (std::size_t start = 0; start < key.size();) {
    const auto dot = std::min(key.find('.', start), key.size());
    const auto component = key.substr(start, dot - start);
    if (!component.empty() && component.find_first_not_of("0123456789") == std::string_view::npos)
      return key.substr(0, dot);
    start = dot + 1;
  }
  return "";
}

/// What `stored` expects of a parameter. index: of `stored.stacked`.
Expected expect(const Stored& stored, std::string key, const Shape& parameter, std::int64_t index, int part) {
  std::vector<StoredDim> dims = stored.dims;
  if (dims.empty())
    for (int d = 0; d < parameter.rank(); ++d)
      if (d != stored.stacked) dims.push_back({.dim = d});
  std::vector<WeightMap::Axis> axes;
  std::vector<std::int64_t> origin(parameter.dims().size(), 0);
  std::vector<std::int64_t> shape;
  if (stored.stacked >= 0) origin.at(static_cast<std::size_t>(stored.stacked)) = index;
  for (const auto& d : dims) {
    const std::int64_t all = parameter[d.dim];
    HONE_CHECK(all % d.parts == 0, "dimension {} of {} is not {} parts", d.dim, parameter.str(), d.parts);
    const std::int64_t size = all / d.parts;
    origin[static_cast<std::size_t>(d.dim)] = d.part * size;
    shape.push_back(d.extent > 0 ? d.extent : size);
    if (d.interleaved > 1) {
      HONE_CHECK(d.extent == 0 && size % d.interleaved == 0, "{} elements of {} do not alternate in {} parts",
                 size, key, d.interleaved);
      const std::int64_t each = size / d.interleaved;
      axes.push_back({.extent = each, .begin = 0, .size = each, .dim = d.dim, .step = 1});
      axes.push_back(
          {.extent = d.interleaved, .begin = 0, .size = d.interleaved, .dim = d.dim, .step = each});
    } else {
      axes.push_back({.extent = shape.back(), .begin = d.begin, .size = size, .dim = d.dim, .step = 1});
    }
  }
  return {std::move(key), Shape(std::move(shape)), WeightMap(parameter, std::move(axes), std::move(origin)),
          part, stored.mxfp4};
}

}  // namespace

/// Matches the wanted parameters of one model; makes one WeightPlan.
class PlanBuilder {
 public:
  PlanBuilder(const WeightRules& rules, const std::vector<WantedParameter>& wanted)
      : rules_(rules), wanted_(wanted) {
    for (const auto& parameter : wanted) {
      const bool is_new = plan_.index_of_.emplace(parameter.name, plan_.index_of_.size()).second;
      HONE_CHECK(is_new, "parameter {} is wanted twice", parameter.name);
    }
  }

  WeightPlan from_checkpoint(const Checkpoint& checkpoint) {
    checkpoint_ = &checkpoint;
    plan_.checkpoint_ = checkpoint;
    for (const auto& parameter : wanted_) match(parameter);
    if (!missing_.empty()) fail_missing();
    for (const auto& tie : rules_.ties_) place_copy(tie);
    for (const auto& [tensor, elements] : left_)
      HONE_CHECK(elements == 0, "no parameter takes {} elements of {} {}", elements, tensor->name(),
                 tensor->shape().str());
    for (const auto& tensor : checkpoint.tensors()) place_rest(tensor);
    warn_of_wrapped_names();
    return std::move(plan_);
  }

  WeightPlan fresh(DType dtype) {
    int group = 0;
    for (const auto& parameter : wanted_) {
      const auto layouts = layouts_of(parameter);
      const Layout& layout = layouts.front();
      PlannedParameter planned{parameter.name, parameter.shape, {}, parameter.stays_f32};
      const auto& type = stored_type(parameter.stays_f32 ? DType::kF32 : dtype);
      int parts = 0;
      for (const auto& expected : layout) {
        const int piece_group = layout.size() > 1 ? group + 1 + expected.part : 0;
        parts = std::max(parts, expected.part + 1);
        planned.pieces.push_back({{expected.key, &type, expected.shape}, nullptr, expected.map, piece_group});
      }
      group += parts;
      plan_.write_order_.push_back(plan_.parameters_.size());
      plan_.parameters_.push_back(std::move(planned));
    }
    // Transformers sorts the keys of a model that has weight conversions, and keeps the module order of one
    // that has none.
    if (!rules_.rules_.empty())
      std::stable_sort(plan_.write_order_.begin(), plan_.write_order_.end(),
                       [&](std::size_t a, std::size_t b) {
                         return natural_key_less(plan_.parameters_[a].name, plan_.parameters_[b].name);
                       });
    return std::move(plan_);
  }

 private:
  struct Missing {
    std::string key;
    Shape shape;
  };

  /// The layouts a parameter may have, the hub's own first.
  std::vector<Layout> layouts_of(const WantedParameter& wanted) const {
    for (const auto& rule : rules_.rules_) {
      const auto captures = rule.logical.match(wanted.name);
      if (!captures) continue;
      std::vector<Layout> layouts;
      for (const auto& layout : rule.layouts) {
        auto expected = expected_of(layout, *captures, wanted);
        if (std::all_of(expected.begin(), expected.end(), [](const Expected& e) { return e.can_be(); }))
          layouts.push_back(std::move(expected));
      }
      return layouts;
    }
    return {{expect({.key = wanted.name, .dims = {}}, wanted.name, wanted.shape, 0, 0)}};
  }

  static Layout expected_of(const std::vector<Stored>& stored, KeyPattern::Captures captures,
                            const WantedParameter& wanted) {
    std::int64_t tensors = 1;  // of the stacked patterns
    for (const auto& s : stored)
      if (s.stacked >= 0) tensors = wanted.shape[s.stacked];
    const std::vector<KeyPattern> keys = [&] {
      std::vector<KeyPattern> patterns;
      for (const auto& s : stored) patterns.emplace_back(s.key);
      return patterns;
    }();
    Layout layout;
    std::int64_t elements = 0;
    for (std::int64_t i = 0; i < tensors; ++i) {
      captures.insert_or_assign("e", std::to_string(i));
      for (std::size_t part = 0; part < stored.size(); ++part) {
        if (i > 0 && stored[part].stacked < 0) continue;
        layout.push_back(
            expect(stored[part], keys[part].expand(captures), wanted.shape, i, static_cast<int>(part)));
        elements += layout.back().map.elements();
      }
    }
    HONE_CHECK(elements == wanted.shape.numel(), "a layout of {} gives {} elements of {}", wanted.name,
               elements, wanted.shape.str());
    return layout;
  }

  /// Decides a parameter's layout by which keys there are.
  void match(const WantedParameter& wanted) {
    auto layouts = layouts_of(wanted);
    for (const auto& tie : rules_.ties_)  // a checkpoint may hold only the copy of a tied pair
      if (tie.original == wanted.name && find_tolerant(*checkpoint_, wanted.name) == nullptr)
        layouts.push_back({expect({.key = tie.copy, .dims = {}}, tie.copy, wanted.shape, 0, 0)});
    std::optional<std::size_t> chosen;
    const CheckpointTensor* chosen_tensor = nullptr;
    std::size_t chosen_count = 0;
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      const CheckpointTensor* any = nullptr;
      std::size_t count = 0;
      for (const auto& expected : layouts[i])
        if (const auto* tensor = find_tolerant(*checkpoint_, expected.stored_key())) {
          any = tensor;
          ++count;
        }
      if (count == 0) continue;
      if (chosen)
        fail("{}: {} and {} ({}) both hold parameter {}; a checkpoint has it in one layout only",
             file_of(*any), shown(any->name()), shown(chosen_tensor->name()),
             checkpoint_->file_of(*chosen_tensor).filename().string(), wanted.name);
      chosen = i;
      chosen_tensor = any;
      chosen_count = count;
    }
    if (!chosen) {
      const auto& expected = layouts[std::min(last_layout_, layouts.size() - 1)].front();
      missing_.push_back({expected.stored_key(), expected.stored_shape()});
      return;
    }
    if (layouts.size() > 1) last_layout_ = *chosen;
    add(wanted, layouts[*chosen], layouts.front(), chosen_count);
  }

  /// plain: the layout that MXFP4 tensors get once they are dequantized.
  void add(const WantedParameter& wanted, const Layout& layout, const Layout& plain, std::size_t present) {
    PlannedParameter planned{wanted.name, wanted.shape, {}, wanted.stays_f32};
    for (const auto& expected : layout) {
      const auto* tensor = find_tolerant(*checkpoint_, expected.stored_key());
      if (tensor == nullptr)
        fail("{}: {} is missing, expected shape {}; {} of the {} tensors of {} are there",
             checkpoint_->listing().string(), expected.stored_key(), expected.stored_shape().str(), present,
             layout.size(), wanted.name);
      check_shape(*tensor, expected.stored_shape());
      use(*tensor);
      left_.try_emplace(tensor, expected.map.stored_elements()).first->second -= expected.map.elements();
      WeightPiece piece{.hub = tensor->stored->spec, .source = tensor, .map = expected.map};
      if (expected.mxfp4) {
        HONE_CHECK(plain.size() == 1 && !plain.front().mxfp4, "{} is stored as MXFP4 alone", wanted.name);
        piece.quantized = {mxfp4_tensor(*checkpoint_, *tensor, expected.shape),
                           {plain.front().key, &stored_type(DType::kBF16), plain.front().shape},
                           plain.front().map};
      } else if (tensor->type().dtype == DType::kF8E4M3) {
        piece.quantized = {fp8_tensor(*checkpoint_, *tensor, rules_.fp8_block_rows_, rules_.fp8_block_cols_),
                           {piece.hub.name, &stored_type(DType::kBF16), piece.hub.shape},
                           piece.map};
      } else if (!is_weight_type(tensor->type())) {
        fail("{}: {} has dtype {}; weights are read from F32, BF16, F16 and F64, and F8_E4M3 with scales",
             file_of(*tensor), shown(tensor->name()), tensor->type().name);
      }
      if (piece.quantized) use(*piece.quantized->read.scales);
      planned.pieces.push_back(std::move(piece));
    }
    plan_.parameters_.push_back(std::move(planned));
  }

  void check_shape(const CheckpointTensor& tensor, const Shape& shape) const {
    if (tensor.shape() != shape)
      fail("{}: {} has shape {}, expected {} by config.json", file_of(tensor), shown(tensor.name()),
           shown(tensor.shape().str()), shape.str());
  }

  void use(const CheckpointTensor& tensor) {
    used_.insert(&tensor);
    computed_modules_.emplace(parent_of(tensor.name()));
    if (const auto block = block_of(tensor.name()); !block.empty()) computed_blocks_.emplace(block);
  }

  /// Transformers looks for the plain names alone, finds none, and begins with random weights.
  void warn_of_wrapped_names() const {
    const CheckpointTensor* first = nullptr;
    std::size_t count = 0;
    for (const auto& tensor : checkpoint_->tensors()) {
      if (!used_.contains(&tensor) || plain_name(tensor.name()) == tensor.name()) continue;
      if (count++ == 0) first = &tensor;
    }
    if (first == nullptr) return;
    log_warning(
        "{}: {} of the tensors bear the name of a wrapper ({}, read as {}); they are written back under the "
        "same "
        "names, under which Transformers finds no weights and takes random ones: rename them before you use "
        "the "
        "model elsewhere",
        checkpoint_->listing().string(), count, shown(first->name()), shown(plain_name(first->name())));
  }

  [[noreturn]] void fail_missing() const {
    const auto& first = missing_.front();
    const std::string more =
        missing_.size() > 1 ? fmt::format(" ({} more parameters are missing)", missing_.size() - 1) : "";
    std::string hint =
        first.key == "lm_head.weight" ? "; a model without one has tie_word_embeddings in config.json" : "";
    for (const auto& tensor : checkpoint_->tensors()) {
      const std::string& name = tensor.name();
      if (name.find(".lora_") != std::string::npos)
        hint = fmt::format("; {} belongs to an adapter that was not merged (PEFT's merge_and_unload())",
                           shown(name));
      else if (name.ends_with("." + first.key))
        hint = fmt::format("; there is {}: are all names behind a prefix '{}'?", shown(name),
                           shown(name.substr(0, name.size() - first.key.size())));
      else
        continue;
      break;
    }
    fail("{}: {} is missing, expected shape {}{}{}", checkpoint_->listing().string(), first.key,
         first.shape.str(), more, hint);
  }

  void place_copy(const WeightRules::Tie& tie) {
    const auto* copy = find_tolerant(*checkpoint_, tie.copy);
    if (copy == nullptr || used_.contains(copy)) return;
    const auto original = plan_.index_of_.find(tie.original);
    HONE_CHECK(original != plan_.index_of_.end(), "{} is tied to {}, which is not wanted", tie.copy,
               tie.original);
    HONE_CHECK(tie_state(*checkpoint_, tie.copy, tie.original) != TieState::kDifferent,
               "{} is stored with other values than {}", tie.copy, tie.original);
    use(*copy);
    plan_.tied_copies_.push_back({copy->stored->spec, copy, original->second});
  }

  /// A tensor that nothing takes: harmless, or part of something that the model computes without it.
  void place_rest(const CheckpointTensor& tensor) {
    if (used_.contains(&tensor)) return;
    const std::string& name = tensor.name();
    const auto& silent = rules_.silent_suffixes_;
    if (std::any_of(silent.begin(), silent.end(),
                    [&](const auto& suffix) { return name.ends_with(suffix); })) {
      plan_.silent_.push_back(&tensor);
      return;
    }
    const std::string_view module = parent_of(name);
    const std::string_view block = block_of(name);
    if (computed_modules_.contains(module) || (!block.empty() && computed_blocks_.contains(block)))
      fail(
          "{}: {} {} belongs to {}, which the model computes without it; config.json does not describe these "
          "weights{}",
          file_of(tensor), shown(name), shown(tensor.shape().str()),
          computed_modules_.contains(module) ? shown(module) : shown(block), expert_hint(name));
    plan_.passed_through_.push_back(&tensor);
  }

  /// For the tensor of an expert that the configuration does not count.
  std::string expert_hint(const std::string& name) const {
    if (name.find(".lora_") != std::string::npos)
      return " (it belongs to an adapter that was not merged: PEFT's merge_and_unload(), then "
             "save_pretrained())";
    for (const auto& rule : rules_.rules_)
      for (const auto& layout : rule.layouts)
        for (const auto& stored : layout) {
          if (stored.stacked < 0) continue;
          const KeyPattern source(stored.key);
          auto captures = source.match(name);
          if (!captures) captures = source.match("model." + plain_name(name));
          if (!captures) captures = source.match(plain_name(name));
          if (!captures) continue;
          const auto wanted = plan_.index_of_.find(rule.logical.expand(*captures));
          if (wanted != plan_.index_of_.end())
            return fmt::format(" (it gives {} experts)",
                               plan_.parameters_[wanted->second].shape[stored.stacked]);
        }
    return "";
  }

  std::string file_of(const CheckpointTensor& tensor) const { return checkpoint_->file_of(tensor).string(); }

  const WeightRules& rules_;
  const std::vector<WantedParameter>& wanted_;
  const Checkpoint* checkpoint_ = nullptr;
  WeightPlan plan_;
  std::vector<Missing> missing_;
  std::size_t last_layout_ =
      0;  // what the parameters with a choice are stored as, for the name of a missing one
  std::unordered_set<const CheckpointTensor*> used_;
  std::unordered_map<const CheckpointTensor*, std::int64_t> left_;  // elements of it that none takes
  std::set<std::string, std::less<>> computed_modules_;
  std::set<std::string, std::less<>> computed_blocks_;
};

WeightRules& WeightRules::rename(std::string_view logical, std::vector<std::string> hub_keys) {
  std::vector<std::vector<Stored>> layouts;
  for (auto& key : hub_keys) layouts.push_back({{.key = std::move(key), .dims = {}}});
  return stored(logical, std::move(layouts));
}

WeightRules& WeightRules::expert_stack(std::string_view logical, std::vector<std::string> sources,
                                       std::string_view fused) {
  std::vector<Stored> stack;
  const auto parts = static_cast<std::int64_t>(sources.size());
  for (auto& source : sources)
    stack.push_back(
        {.key = std::move(source),
         .dims = {{.dim = 1, .part = static_cast<std::int64_t>(stack.size()), .parts = parts}, {.dim = 2}},
         .stacked = 0});
  return stored(logical, {std::move(stack), {{.key = std::string(fused), .dims = {}}}});
}

WeightRules& WeightRules::stored(std::string_view logical, std::vector<std::vector<Stored>> layouts) {
  HONE_CHECK(!layouts.empty(), "{} is stored under no key", logical);
  for (const auto& layout : layouts) {
    HONE_CHECK(!layout.empty(), "a layout of {} has no tensors", logical);
    for (const auto& s : layout)
      HONE_CHECK((s.key.find("{e}") != std::string::npos) == (s.stacked >= 0),
                 "{{e}} in {} of {} counts dimension {}", s.key, logical, s.stacked);
  }
  rules_.push_back({KeyPattern(logical), std::move(layouts)});
  return *this;
}

WeightRules& WeightRules::fp8_block(std::int64_t rows, std::int64_t cols) {
  HONE_CHECK(rows > 0 && cols > 0, "blocks of {} x {}", rows, cols);
  fp8_block_rows_ = rows;
  fp8_block_cols_ = cols;
  return *this;
}

WeightRules& WeightRules::tie(std::string_view copy, std::string_view original) {
  ties_.push_back({std::string(copy), std::string(original)});
  return *this;
}

WeightRules& WeightRules::pass_silently(std::string_view suffix) {
  silent_suffixes_.emplace_back(suffix);
  return *this;
}

WeightPlan WeightRules::plan(const Checkpoint& checkpoint, const std::vector<WantedParameter>& wanted) const {
  return PlanBuilder(*this, wanted).from_checkpoint(checkpoint);
}

WeightPlan WeightRules::fresh_plan(const std::vector<WantedParameter>& wanted, DType dtype) const {
  return PlanBuilder(*this, wanted).fresh(dtype);
}

}  // namespace hone::hub
