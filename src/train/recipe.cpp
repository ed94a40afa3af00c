#include "train/recipe.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/message.h"
#include "base/suggest.h"
#include "text/unicode.h"
#include "train/recipe_options.h"
#include "train/recipe_words.h"

namespace hone::train {

namespace {

constexpr const char* kCommandLine = "command line";
constexpr std::size_t kLongestMessage = 1000;

// A recipe is a page. These bound what hostile or broken YAML can cost: yaml-cpp itself refuses more than 500
// levels.
constexpr std::size_t kMostBytes = std::size_t{1} << 20;
constexpr int kMostLevels = 64;
constexpr std::int64_t kMostValues = 100'000;

/// Walks a document as its readers will, every alias as a copy. Throws where that is too deep (an alias of
/// what holds it) or too much (aliases of lists of aliases).
void check_extent(const YAML::Node& node, const std::string& where, std::int64_t& values, int level = 0) {
  if (level > kMostLevels) fail("{}: nests deeper than {} levels", where, kMostLevels);
  if (++values > kMostValues)
    fail("{}: expands to more than {} values; are aliases used in aliases?", where, kMostValues);
  if (!node.IsSequence() && !node.IsMap()) return;
  for (const auto& item : node) {
    if (node.IsMap()) check_extent(item.first, where, values, level + 1);
    check_extent(node.IsMap() ? item.second : static_cast<const YAML::Node&>(item), where, values, level + 1);
  }
}

[[noreturn]] void fail_size(const std::string& name, std::uint64_t bytes) {
  fail("{}: has {} bytes; a recipe has at most {}", name, bytes, kMostBytes);
}

void check_extent(const YAML::Node& node, const std::string& where) {
  std::int64_t values = 0;
  check_extent(node, where, values);
}

/// Hears a document and keeps where it starts.
class DocumentStart : public YAML::EventHandler {
 public:
  YAML::Mark mark;
  void OnDocumentStart(const YAML::Mark& start) override { mark = start; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
  }
  void OnMapEnd() override {}
};

/// The one document of a text. Throws YAML::Exception, also where a second one follows or a bracket closes
/// what is not open: yaml-cpp takes that for a document without end or number, YAML::LoadAll never returns
/// from it, and YAML::Load reads what is before it as if nothing came after.
YAML::Node load_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStart start;
  if (parser.HandleNextDocument(start) && parser.HandleNextDocument(start))
    throw YAML::ParserException(start.mark,
                                "a second document starts here, or something is closed that is not open");
  return YAML::Load(text);
}

bool is_section(const std::string& path) {
  return std::any_of(all_options().begin(), all_options().end(),
                     [&](const Option& o) { return o.key.starts_with(path + "."); });
}

std::string leaf(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

/// Collects the values of a recipe by key path, checking keys.
class Collector {
 public:
  explicit Collector(std::string name) : name_(std::move(name)) {}

  void file(const std::string& text) {
    check_text(text);
    YAML::Node root;
    try {
      root = load_document(text);
    } catch (const YAML::Exception& e) {
      fail("{}:{}: not valid YAML: {}{}", name_, e.mark.line + 1, e.msg,
           has_tab_indent(text, e.mark.line) ? " (it is indented by a tab; YAML indents by spaces)" : "");
    }
    check_extent(root, name_);
    if (!root.IsDefined() || root.IsNull())
      fail("{}: is empty; a recipe needs at least model.path, data.train and output", name_);
    section(root, "");
  }

  void override_with(const std::string& assignment) {
    const auto equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0)
      fail("command line: '{}' is not of the form key=value", assignment);
    const std::string key = assignment.substr(0, equals);
    YAML::Node value;
    try {
      value = load_document(assignment.substr(equals + 1));
    } catch (const YAML::Exception& e) {
      fail("command line: {}: not valid YAML: {}", key, e.msg);
    }
    check_extent(value, fmt::format("command line: {}", key));
    if (is_section(key) && !value.IsMap())
      fail("command line: {} is a section; give one of its keys, as in {}=…", key, first_key_of(key));
    if (value.IsMap() && is_section(key))
      section(value, key, kCommandLine);
    else
      set(key, value, kCommandLine);
  }

  const std::map<std::string, RecipeValue>& values() const { return values_; }

 private:
  void check_text(const std::string& text) const {
    if (text.size() > kMostBytes) fail_size(name_, text.size());
    if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) return;  // UTF-16: the parser reads it
    const std::string repaired = text::unicode::from_utf8_lossy(text);
    if (repaired == text) return;
    const auto bad = std::mismatch(text.begin(), text.end(), repaired.begin(), repaired.end()).first;
    fail("{}:{}: is not UTF-8 text", name_, 1 + std::count(text.begin(), bad, '\n'));
  }

  static bool has_tab_indent(const std::string& text, int line) {
    std::istringstream in(text);
    std::string content;
    for (int i = 0; i <= line && std::getline(in, content); ++i) {
    }
    const auto indent = content.substr(0, content.find_first_not_of(" \t"));
    return indent.find('\t') != std::string::npos;
  }

  static std::string first_key_of(const std::string& section) {
    for (const auto& o : all_options())
      if (o.key.starts_with(section + ".")) return o.key;
    return section;
  }

  void section(const YAML::Node& node, const std::string& path, const std::string& origin = "") {
    const std::string where = origin.empty() ? fmt::format("{}:{}", name_, node.Mark().line + 1) : origin;
    if (!node.IsMap() && path.empty()) fail("{}: the recipe is not a mapping of keys to values", where);
    if (!node.IsMap())
      RecipeValue(node, path, where)
          .expected("its keys, as in " + path + ": {" + leaf(first_key_of(path)) + ": …}");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string here =
          origin.empty() ? fmt::format("{}:{}", name_, entry.first.Mark().line + 1) : origin;
      if (!entry.first.IsScalar()) fail("{}: a key that is not a word", here);
      if (entry.first.Scalar() == "<<")
        fail("{}: merge keys (<<) are not read; write the keys out, or use an alias for a single value",
             here);
      const std::string key = (path.empty() ? "" : path + ".") + entry.first.Scalar();
      if (!seen.insert(key).second) fail("{}: duplicate key {}", here, key);
      if (is_section(key)) {
        if (!entry.second.IsNull()) section(entry.second, key, origin);
      } else {
        set(key, entry.second, here);
      }
    }
  }

  void set(const std::string& key, const YAML::Node& value, const std::string& where) {
    if (find_option(key) == nullptr) {
      unknown_.push_back({key, value, where});
      return;
    }
    if (where == kCommandLine && key == "train.steps")
      values_.erase("train.epochs");  // the other says the same differently
    if (where == kCommandLine && key == "train.epochs") values_.erase("train.steps");
    const bool is_new = values_.insert_or_assign(key, RecipeValue(value, key, where)).second;
    if (!is_new && where != kCommandLine)  // `train.seed: 1` beside `train: {seed: 2}`
      fail("{}: duplicate key {}", where, key);
  }

 public:
  /// Throws for the first unknown key, and says what other tools' words are here. Separate from collecting,
  /// so that `method: {type: lora, rank: 8}` is refused for lora, not for rank.
  void refuse_unknown() const {
    if (unknown_.empty()) return;
    const auto& first = unknown_.front();
    const std::string hint = hint_for(first);
    std::string others;
    for (std::size_t i = 1; i < unknown_.size() && i < 6; ++i)
      if (const auto meaning = hint_for(unknown_[i]); !meaning.empty())
        others +=
            fmt::format("{}'{}': {}", others.empty() ? "; also " : ", ", leaf(unknown_[i].key), meaning);
    if (!hint.empty()) fail("{}: unknown key '{}'; here it is: {}{}", first.where, first.key, hint, others);
    std::vector<std::string> keys, siblings;
    const std::string parent = first.key.substr(0, first.key.rfind('.') + 1);  // "" at the top
    for (const auto& o : all_options()) {
      keys.push_back(o.key);
      if (o.key.starts_with(parent)) siblings.push_back(o.key);
    }
    const std::string near = nearest_name(first.key, keys);
    if (!near.empty()) fail("{}: unknown key '{}'; did you mean '{}'?", first.where, first.key, near);
    fail("{}: unknown key '{}'{}", first.where, first.key,
         suggestion(first.key, siblings.empty() ? keys : siblings));
  }

 private:
  struct Unknown {
    std::string key;
    YAML::Node value;
    std::string where;
  };

  /// Another tool's word, or hone's own in another section; with its value.
  std::string hint_for(const Unknown& unknown) const {
    const std::string word = leaf(unknown.key);
    for (const auto& o : all_options())
      if (leaf(o.key) == word && unknown.value.IsScalar() && word != "type" && word != "path")
        return o.key + ": " + RecipeValue(unknown.value, "", "").text();
    return meaning_of(word, unknown.value, [&](const std::string& name) -> std::optional<YAML::Node> {
      if (const auto known = values_.find(name); known != values_.end()) return known->second.node();
      for (const auto& u : unknown_) {
        if (leaf(u.key) == name) return u.value;
        if (u.value.IsMap() && u.value[name]) return u.value[name];
      }
      return std::nullopt;
    });
  }

  std::string name_;
  std::map<std::string, RecipeValue> values_;
  std::vector<Unknown> unknown_;
};

void check(const Recipe& r, const std::map<std::string, RecipeValue>& values, const std::string& name) {
  const auto where = [&](const char* key) {
    const auto found = values.find(key);
    return found == values.end() ? name : found->second.where();
  };
  for (const char* key : {"model.path", "data.train", "output"})
    if (!values.contains(key)) fail("{}: {} is required", name, key);
  if (values.contains("train.steps") && values.contains("train.epochs"))
    fail("{}: train.steps and train.epochs are both given; keep one", where("train.epochs"));
  check_sources(r);
  for (const char* key : {"train.load_best", "train.early_stopping.patience"}) {
    const bool asked =
        std::string_view(key) == "train.load_best" ? r.load_best : r.early_stopping.patience > 0;
    if (asked && r.eval_data.empty()) fail("{}: {} needs data.eval", where(key), key);
    if (asked && r.eval_every == 0)
      fail("{}: {} needs train.eval_every: without it only the last step is evaluated", where(key), key);
  }
  if (r.global_batch % r.micro_batch != 0)
    fail("{}: train.global_batch is {}, which is not a multiple of train.micro_batch {}",
         where(values.contains("train.global_batch") ? "train.global_batch" : "train.micro_batch"),
         r.global_batch, r.micro_batch);
  if (r.update_as_ready && r.global_batch != r.micro_batch)
    fail(
        "{}: train.optimizer.update is as_ready, which needs train.global_batch = train.micro_batch ({} and "
        "{}): "
        "gradients of several micro-batches must be kept to be added up",
        where("train.optimizer.update"), r.global_batch, r.micro_batch);
}

/// What was given without an effect.
std::vector<std::string> without_effect(const Recipe& r) {
  std::vector<std::string> notes;
  for (const auto& option : all_options()) {
    const std::string why = option.idle && r.origins.contains(option.key) ? option.idle(r) : "";
    if (!why.empty()) notes.push_back(r.place(option.key) + " has no effect: " + why);
  }
  if (r.steps && r.schedule.warmup >= static_cast<double>(*r.steps))
    notes.push_back(fmt::format("{} is {} of {} steps: the rate never reaches lr",
                                r.place("train.schedule.warmup"), r.schedule.warmup, *r.steps));
  return notes;
}

/// The recipe with every option and its origin, as YAML.
std::string resolve(const Recipe& recipe, const std::map<std::string, RecipeValue>& values) {
  std::string text = std::string(kResolvedRecipeHeader) + "; every option with where its value came from\n";
  std::vector<std::string> open;
  for (const auto& option : all_options()) {
    const std::string value = option.get(recipe);
    if (value.empty()) continue;
    std::vector<std::string> parts;
    for (std::size_t at = 0; at <= option.key.size();) {
      const auto dot = std::min(option.key.find('.', at), option.key.size());
      parts.push_back(option.key.substr(at, dot - at));
      at = dot + 1;
    }
    std::size_t depth = 0;
    while (depth < open.size() && depth + 1 < parts.size() && open[depth] == parts[depth]) ++depth;
    open.resize(depth);
    for (; depth + 1 < parts.size(); ++depth) {
      text += std::string(2 * depth, ' ') + parts[depth] + ":\n";
      open.push_back(parts[depth]);
    }
    const auto given = values.find(option.key);
    text += std::string(2 * depth, ' ') + parts.back() + ": " + value + "  # " +
            (given == values.end() ? "default" : given->second.where()) + "\n";
  }
  return text;
}

Recipe parse(const std::string& text, const std::string& name, const std::vector<std::string>& overrides) {
  Collector collector(name);
  collector.file(text);
  for (const auto& o : overrides) collector.override_with(o);
  Recipe recipe;
  for (const auto& option : all_options()) {
    const auto found = collector.values().find(option.key);
    if (found != collector.values().end()) option.set(recipe, found->second);
  }
  collector.refuse_unknown();
  recipe.name = name;
  for (const auto& [key, value] : collector.values()) recipe.origins.emplace(key, value.where());
  check(recipe, collector.values(), name);
  recipe.notes = without_effect(recipe);
  recipe.resolved = resolve(recipe, collector.values());
  return recipe;
}

}  // namespace

bool Recipe::reports_to(std::string_view word) const {
  return std::find(report_to.begin(), report_to.end(), word) != report_to.end();
}

std::string Recipe::place(const std::string& key) const {
  const auto origin = origins.find(key);
  return (origin == origins.end() ? name : origin->second) + ": " + key;
}

Recipe parse_recipe(const std::string& text, const std::string& name,
                    const std::vector<std::string>& overrides) {
  try {
    return parse(text, name, overrides);
  } catch (const Error& e) {  // one line, whatever the recipe holds
    throw Error(e.kind(), shown(e.what(), kLongestMessage));
  }
}

Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);  // of a pipe there is none
  if (!error && size > kMostBytes) fail_size(path.string(), size);
  return parse_recipe(read_file(path), path.string(), overrides);
}

std::vector<RecipeOption> recipe_options() {
  std::vector<RecipeOption> result;
  const Recipe defaults;
  for (const auto& o : all_options()) result.push_back({o.key, o.type, o.get(defaults), o.help});
  return result;
}

}  // namespace hone::train
