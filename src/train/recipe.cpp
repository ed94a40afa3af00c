#include "train/recipe.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/suggest.h"
#include "comm/mesh.h"
#include "train/recipe_value.h"

namespace hone::train {

namespace {

constexpr const char* kCommandLine = "command line";

/// One option: how it is read, how it is printed, what it means.
struct Option {
  std::string key;
  std::string type;
  std::string help;
  std::function<void(Recipe&, const RecipeValue&)> set;
  std::function<std::string(const Recipe&)>
      get;  // as a YAML value; "" leaves the option out of the resolved recipe
};

std::string quoted(const std::string& text) {
  YAML::Emitter out;
  out << YAML::DoubleQuoted << text;
  return out.c_str();
}

std::string list_text(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const auto& item : items) text += (text.size() > 1 ? ", " : "") + quoted(item);
  return text + "]";
}

/// Options of the commonest kinds, from a pointer to member.
Option integer_option(std::string key, std::int64_t Recipe::*field, std::int64_t least, std::string help) {
  return {std::move(key), "integer", std::move(help),
          [=](Recipe& r, const RecipeValue& v) { r.*field = v.integer(least, kMany); },
          [=](const Recipe& r) { return std::to_string(r.*field); }};
}

Option boolean_option(std::string key, bool Recipe::*field, std::string help) {
  return {std::move(key), "true | false", std::move(help),
          [=](Recipe& r, const RecipeValue& v) { r.*field = v.boolean(); },
          [=](const Recipe& r) { return std::string(r.*field ? "true" : "false"); }};
}

/// A number somewhere inside a Recipe.
Option number_option(std::string key, std::function<double&(Recipe&)> field, double least, double most,
                     std::string help) {
  return {std::move(key), "number", std::move(help),
          [=](Recipe& r, const RecipeValue& v) { field(r) = v.number(least, most); },
          [=](const Recipe& r) {
            Recipe copy = r;
            return fmt::format("{}", field(copy));
          }};
}

/// One of a few words, stored as an enum.
template <typename Enum>
Option word_option(std::string key, std::vector<std::string> words, std::function<Enum&(Recipe&)> field,
                   std::string help) {
  std::string type;
  for (const auto& w : words) type += (type.empty() ? "" : " | ") + w;
  return {std::move(key), type, std::move(help),
          [=](Recipe& r, const RecipeValue& v) { field(r) = static_cast<Enum>(v.word(words)); },
          [=](const Recipe& r) {
            Recipe copy = r;
            return words.at(static_cast<std::size_t>(field(copy)));
          }};
}

Option dtype_option() {
  return {"model.dtype", "f32 | bf16 | auto",
          "what to compute in; auto: the checkpoint's own dtype. bf16 keeps f32 master weights",
          [](Recipe& r, const RecipeValue& v) {
            constexpr std::array<std::optional<DType>, 3> kChoices{DType::kF32, DType::kBF16, std::nullopt};
            r.dtype = kChoices.at(v.word({"f32", "bf16", "auto"}));
          },
          [](const Recipe& r) { return r.dtype ? std::string(name_of(*r.dtype)) : "auto"; }};
}

Option method_option() {
  return {"method.type", "full", "full: train the weights themselves",
          [](Recipe&, const RecipeValue& v) {
            if (v.string() == "lora" || v.string() == "qlora")
              fail("{}: method.type is {}, which hone does not have yet; the only method is full", v.where(),
                   v.string());
            v.word({"full"});
          },
          [](const Recipe&) { return std::string("full"); }};
}

Option mesh_option(const std::string& dimension) {
  return {"mesh." + dimension, "1", "ranks along " + dimension + "; only 1 exists yet",
          [=](Recipe&, const RecipeValue& v) {
            comm::Mesh::parse({{dimension, v.integer(-kMany, kMany)}}, v.where());
          },
          [](const Recipe&) { return std::string("1"); }};
}

/// A leading ~/ is the home directory, as in a shell.
std::string path_value(const RecipeValue& v) {
  const std::string path = v.string();
  const char* home = std::getenv("HOME");
  if (path.starts_with("~/") && home != nullptr) return home + path.substr(1);
  return path;
}

Option path_option(std::string key, std::string Recipe::*field, std::string help) {
  return {std::move(key), "path", std::move(help),
          [=](Recipe& r, const RecipeValue& v) { r.*field = path_value(v); },
          [=](const Recipe& r) { return (r.*field).empty() ? "" : quoted(r.*field); }};
}

void add_data_options(std::vector<Option>& options) {
  options.push_back(path_option("data.train", &Recipe::train_data,
                                "a JSONL file, a glob, or a directory with train.jsonl"));
  Option eval = path_option("data.eval", &Recipe::eval_data,
                            "the same for evaluation (valid.jsonl of a directory); null: none");
  eval.set = [](Recipe& r, const RecipeValue& v) { r.eval_data = v.is_null() ? "" : path_value(v); };
  options.push_back(std::move(eval));
  Option seq_len = integer_option(
      "data.seq_len", &Recipe::seq_len, 2,
      "tokens of a pack, and the most a row may have; default: 2048, or the model's context if that is less");
  seq_len.get = [](const Recipe& r) { return r.seq_len > 0 ? std::to_string(r.seq_len) : ""; };
  options.push_back(std::move(seq_len));
  options.push_back(boolean_option("data.packing", &Recipe::packing,
                                   "several rows share a pack, isolated from each other"));
  options.push_back(boolean_option("data.shuffle", &Recipe::shuffle, "a new order every epoch"));
  options.push_back(word_option<data::Overlong>(
      "data.overlong", {"error", "truncate", "drop"}, [](Recipe& r) -> data::Overlong& { return r.overlong; },
      "what becomes of a row longer than seq_len"));
}

void add_length_options(std::vector<Option>& options) {
  options.push_back({"train.steps", "integer", "optimizer steps; across epochs where needed",
                     [](Recipe& r, const RecipeValue& v) { r.steps = v.integer(1, kMany); },
                     [](const Recipe& r) { return r.steps ? std::to_string(*r.steps) : ""; }});
  options.push_back({"train.epochs", "number", "passes over the data, where steps is not given",
                     [](Recipe& r, const RecipeValue& v) { r.epochs = v.number(1e-9, 1e9); },
                     [](const Recipe& r) { return r.steps ? "" : fmt::format("{}", r.epochs); }});
  options.push_back(integer_option("train.global_batch", &Recipe::global_batch, 1,
                                   "packs (rows, without packing) of an optimizer step"));
  options.push_back(integer_option("train.micro_batch", &Recipe::micro_batch, 1,
                                   "packs (rows) that are computed at once; divides global_batch"));
}

void add_optimizer_options(std::vector<Option>& options) {
  options.push_back(word_option<OptimizerOptions::Type>(
      "train.optimizer.type", {"adamw", "sgd"},
      [](Recipe& r) -> OptimizerOptions::Type& { return r.optimizer.type; }, "as in torch.optim"));
  options.push_back(number_option(
      "train.optimizer.lr", [](Recipe& r) -> double& { return r.learning_rate; }, 0, kHuge,
      "the full learning rate"));
  options.push_back(
      {"train.optimizer.betas", "[number, number]", "AdamW's decay of the first and second moment",
       [](Recipe& r, const RecipeValue& v) {
         const auto betas = v.numbers(2, 0, 0.9999999);
         r.optimizer.beta1 = betas[0];
         r.optimizer.beta2 = betas[1];
       },
       [](const Recipe& r) { return fmt::format("[{}, {}]", r.optimizer.beta1, r.optimizer.beta2); }});
  options.push_back(number_option(
      "train.optimizer.eps", [](Recipe& r) -> double& { return r.optimizer.eps; }, 0, 1, "AdamW's epsilon"));
  options.push_back(number_option(
      "train.optimizer.momentum", [](Recipe& r) -> double& { return r.optimizer.momentum; }, 0, 0.9999999,
      "SGD's momentum"));
  options.push_back(number_option(
      "train.optimizer.weight_decay", [](Recipe& r) -> double& { return r.optimizer.weight_decay; }, 0, 1e6,
      "of everything but norms and biases"));
  options.push_back(word_option<ScheduleOptions::Type>(
      "train.schedule.type", {"constant", "linear", "cosine", "wsd"},
      [](Recipe& r) -> ScheduleOptions::Type& { return r.schedule.type; },
      "as in Transformers; wsd falls over the last tenth of the steps"));
  options.push_back({"train.schedule.warmup", "integer", "steps in which the rate rises from 0",
                     [](Recipe& r, const RecipeValue& v) { r.schedule.warmup = v.integer(0, kMany); },
                     [](const Recipe& r) { return std::to_string(r.schedule.warmup); }});
  options.push_back(number_option(
      "train.schedule.min_lr_ratio", [](Recipe& r) -> double& { return r.schedule.min_lr_ratio; }, 0, 1,
      "what the rate falls to, as a share of lr"));
  options.push_back({"train.clip", "number | null", "largest gradient norm; null: no clipping",
                     [](Recipe& r, const RecipeValue& v) {
                       r.clip = v.is_null() ? std::nullopt : std::optional(v.number(1e-30, kHuge));
                     },
                     [](const Recipe& r) { return r.clip ? fmt::format("{}", *r.clip) : "null"; }});
}

void add_run_options(std::vector<Option>& options) {
  options.push_back(
      {"train.seed", "integer", "of the data order and of sampled text",
       [](Recipe& r, const RecipeValue& v) { r.seed = static_cast<std::uint64_t>(v.integer(0, kMany)); },
       [](const Recipe& r) { return std::to_string(r.seed); }});
  options.push_back({"train.recompute", "none | block",
                     "block: keep only every layer's input and compute the rest again for the gradient",
                     [](Recipe& r, const RecipeValue& v) {
                       r.recompute = v.word({"none", "block"}) == 1;
                     },
                     [](const Recipe& r) { return std::string(r.recompute ? "block" : "none"); }});
  options.push_back(
      {"train.aux_coef", "number | null",
       "coefficient of the load-balancing loss; default: the config's, where output_router_logits is true",
       [](Recipe& r, const RecipeValue& v) {
         r.aux_coefficient = v.is_null() ? std::nullopt : std::optional(v.number(0, 1e6));
       },
       [](const Recipe& r) { return r.aux_coefficient ? fmt::format("{}", *r.aux_coefficient) : "null"; }});
  options.push_back(integer_option("train.checkpoint_every", &Recipe::checkpoint_every, 0,
                                   "steps between checkpoints; 0: only at the end"));
  options.push_back(integer_option("train.keep_last", &Recipe::keep_last, 1,
                                   "checkpoints that are kept, besides the best"));
  options.push_back(
      integer_option("train.eval_every", &Recipe::eval_every, 0,
                     "steps between evaluations; 0: before the first step and after the last only"));
  options.push_back(integer_option("train.eval_samples", &Recipe::eval_samples, 0,
                                   "eval prompts that are answered at every evaluation"));
  options.push_back(
      {"train.threads", "integer", "CPU threads; 0: one per core",
       [](Recipe& r, const RecipeValue& v) { r.threads = static_cast<int>(v.integer(0, 4096)); },
       [](const Recipe& r) { return std::to_string(r.threads); }});
}

std::vector<Option> make_options() {
  std::vector<Option> options;
  options.push_back(path_option("model.path", &Recipe::model_path, "a Hugging Face checkpoint directory"));
  options.push_back(dtype_option());
  add_data_options(options);
  options.push_back(method_option());
  options.push_back({"method.freeze", "list of regular expressions",
                     "parameters whose names match are not trained",
                     [](Recipe& r, const RecipeValue& v) { r.freeze = v.strings(); },
                     [](const Recipe& r) { return list_text(r.freeze); }});
  add_length_options(options);
  add_optimizer_options(options);
  add_run_options(options);
  for (std::size_t i = 0; i < comm::kNumMeshDims; ++i)
    options.push_back(mesh_option(std::string(comm::name_of(static_cast<comm::MeshDim>(i)))));
  options.push_back(path_option("output", &Recipe::output,
                                "the run directory: checkpoints, metrics, report, the trained model"));
  return options;
}

const std::vector<Option>& all_options() {
  static const std::vector<Option> kOptions = make_options();
  return kOptions;
}

bool is_section(const std::string& path) {
  return std::any_of(all_options().begin(), all_options().end(),
                     [&](const Option& o) { return o.key.starts_with(path + "."); });
}

/// Collects the values of a recipe by key path, checking keys.
class Collector {
 public:
  explicit Collector(std::string name) : name_(std::move(name)) {}

  void file(const std::string& text) {
    YAML::Node root;
    try {
      const auto documents = YAML::LoadAll(text);
      if (documents.size() > 1) fail("{}: holds {} YAML documents, expected one", name_, documents.size());
      if (!documents.empty()) root = documents.front();
    } catch (const YAML::Exception& e) {
      fail("{}:{}: not valid YAML: {}", name_, e.mark.line + 1, e.msg);
    }
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
      value = YAML::Load(assignment.substr(equals + 1));
    } catch (const YAML::Exception& e) {
      fail("command line: {}: not valid YAML: {}", key, e.msg);
    }
    if (is_section(key) && !value.IsMap())
      fail("command line: {} is a section; give one of its keys, as in {}=…", key, first_key_of(key));
    if (value.IsMap())
      section(value, key, kCommandLine);
    else
      set(key, value, kCommandLine);
  }

  const std::map<std::string, RecipeValue>& values() const { return values_; }

 private:
  static std::string first_key_of(const std::string& section) {
    for (const auto& o : all_options())
      if (o.key.starts_with(section + ".")) return o.key;
    return section;
  }

  void section(const YAML::Node& node, const std::string& path, const std::string& origin = "") {
    const std::string where = origin.empty() ? fmt::format("{}:{}", name_, node.Mark().line + 1) : origin;
    if (!node.IsMap())
      fail("{}: {} is not a mapping of keys to values", where, path.empty() ? "the recipe" : path);
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string here =
          origin.empty() ? fmt::format("{}:{}", name_, entry.first.Mark().line + 1) : origin;
      if (!entry.first.IsScalar()) fail("{}: a key that is not a word", here);
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
    const auto known = std::find_if(all_options().begin(), all_options().end(),
                                    [&](const Option& o) { return o.key == key; });
    if (known == all_options().end()) {
      unknown_.push_back({key, where});
      return;
    }
    if (where == kCommandLine && key == "train.steps")
      values_.erase("train.epochs");  // the other says the same differently
    if (where == kCommandLine && key == "train.epochs") values_.erase("train.steps");
    values_.insert_or_assign(key, RecipeValue(value, key, where));
  }

 public:
  /// Throws for the first unknown key. Separate from collecting, so that `method: {type: lora, rank: 8}` is
  /// refused for lora, not for rank.
  void refuse_unknown() const {
    if (unknown_.empty()) return;
    const auto& [key, where] = unknown_.front();
    std::vector<std::string> keys;
    for (const auto& o : all_options()) keys.push_back(o.key);
    std::string hint = nearest_name(key, keys);
    if (hint.empty()) {  // the right word in the wrong section
      const std::string leaf = key.substr(key.rfind('.') + 1);
      for (const auto& k : keys)
        if (k.ends_with("." + leaf)) hint = k;
    }
    if (hint.empty()) {
      std::vector<std::string> siblings;
      const std::string parent = key.substr(0, key.rfind('.') == std::string::npos ? 0 : key.rfind('.') + 1);
      for (const auto& k : keys)
        if (k.starts_with(parent)) siblings.push_back(k);
      fail("{}: unknown key {}{}", where, key, suggestion(key, siblings.empty() ? keys : siblings));
    }
    fail("{}: unknown key {}; did you mean '{}'?", where, key, hint);
  }

 private:
  std::string name_;
  std::map<std::string, RecipeValue> values_;
  std::vector<std::pair<std::string, std::string>> unknown_;
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
  if (r.global_batch % r.micro_batch != 0)
    fail("{}: train.global_batch is {}, which is not a multiple of train.micro_batch {}",
         where(values.contains("train.global_batch") ? "train.global_batch" : "train.micro_batch"),
         r.global_batch, r.micro_batch);
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

}  // namespace

std::string Recipe::place(const std::string& key) const {
  const auto origin = origins.find(key);
  return (origin == origins.end() ? name : origin->second) + ": " + key;
}

Recipe parse_recipe(const std::string& text, const std::string& name,
                    const std::vector<std::string>& overrides) {
  Collector collector(name);
  collector.file(text);
  for (const auto& o : overrides) collector.override_with(o);
  Recipe recipe;
  for (const auto& option : all_options()) {
    const auto found = collector.values().find(option.key);
    if (found != collector.values().end()) option.set(recipe, found->second);
  }
  collector.refuse_unknown();
  check(recipe, collector.values(), name);
  recipe.name = name;
  for (const auto& [key, value] : collector.values()) recipe.origins.emplace(key, value.where());
  recipe.resolved = resolve(recipe, collector.values());
  return recipe;
}

Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  return parse_recipe(read_file(path), path.string(), overrides);
}

std::vector<RecipeOption> recipe_options() {
  std::vector<RecipeOption> result;
  const Recipe defaults;
  for (const auto& o : all_options()) result.push_back({o.key, o.type, o.get(defaults), o.help});
  return result;
}

}  // namespace hone::train
