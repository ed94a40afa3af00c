#include "train/recipe_data.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/suggest.h"
#include "train/recipe.h"
#include "train/recipe_options.h"

namespace hone::train {

namespace {

using data::DataSource;

constexpr double kLeastShare = 1e-9;
constexpr double kMostShare = 1e9;

[[noreturn]] void fail_key(const RecipeValue& value, const std::string& key,
                           const std::vector<std::string>& known) {
  fail("{}: unknown key '{}'{}", value.where(), key, suggestion(key.substr(key.rfind('.') + 1), known));
}

data::ColumnNames columns_of(const RecipeValue& value) {
  if (!value.node().IsMap()) value.expected("a mapping, as in {prompt: question, completion: answer}");
  data::ColumnNames columns;
  for (const auto& entry : value.node()) {
    const std::string key = entry.first.Scalar();
    const auto column = value.child(entry.second, key);
    const auto& known = data::column_keys();
    if (std::find(known.begin(), known.end(), key) == known.end())
      fail_key(column, value.key() + "." + key, known);
    columns[key] = column.string();
  }
  return columns;
}

/// One source: a path, or its keys. `name`: may it have one, and where it goes.
DataSource source_of(const RecipeValue& value, std::string* name) {
  DataSource source;
  if (value.node().IsScalar()) {
    source.path = value.path();
    return source;
  }
  if (!value.node().IsMap()) value.expected("a path, or keys as in {path: data.jsonl, weight: 0.5}");
  std::vector<std::string> known{"path", "split", "format", "columns", "max_rows"};
  for (const char* key : {"weight", "repeat"})
    if (name == nullptr) known.emplace_back(key);
  if (name != nullptr) known.emplace_back("name");
  std::set<std::string> seen;
  for (const auto& entry : value.node()) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const RecipeValue v = value.child(entry.second, key);
    if (std::find(known.begin(), known.end(), key) == known.end())
      fail_key(v, value.key() + "." + key, known);
    if (!seen.insert(key).second) fail("{}: duplicate key {}.{}", v.where(), value.key(), key);
    if (key == "path") source.path = v.path();
    if (key == "split") source.split = v.string();
    if (key == "format") source.format = static_cast<data::FileFormat>(v.word(data::file_format_names()));
    if (key == "columns") source.columns = columns_of(v);
    if (key == "max_rows") source.max_rows = v.integer(1, kMany);
    if (key == "weight") source.weight = v.number(kLeastShare, kMostShare);
    if (key == "repeat") source.repeat = v.number(kLeastShare, kMostShare);
    if (key == "name") *name = v.string();
  }
  if (source.path.empty()) fail("{}: {} has no path", value.where(), value.key());
  if (seen.contains("weight") && seen.contains("repeat"))
    fail("{}: {}: weight and repeat are both given; keep one", value.where(), source.path);
  return source;
}

std::vector<DataSource> sources_of(const RecipeValue& value) {
  if (!value.node().IsSequence()) return {source_of(value, nullptr)};
  if (value.node().size() == 0) value.expected("at least one path");
  std::vector<DataSource> sources;
  for (const auto& item : value.node()) sources.push_back(source_of(value.child(item, ""), nullptr));
  return sources;
}

/// "5%" is 5; anything else nothing.
std::optional<double> percent_of(const RecipeValue& value) {
  if (!value.node().IsScalar()) return std::nullopt;
  const std::string& text = value.node().Scalar();
  double percent = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), percent);
  if (error != std::errc{} || std::string_view(end, text.data() + text.size()) != "%") return std::nullopt;
  if (!(percent > 0) || !(percent < 100))
    value.expected("a share of the training rows above 0% and below 100%");
  return percent;
}

/// What is evaluated under one name: a share of the training rows, one source, or a list of them.
EvalData set_of(const RecipeValue& value, const std::string& name) {
  EvalData set{.name = name, .sources = {}};
  if (const auto percent = percent_of(value)) {
    set.percent = *percent;
    return set;
  }
  std::string own;
  if (!value.node().IsSequence()) {
    set.sources = {source_of(value, &own)};
  } else {
    for (const auto& item : value.node()) set.sources.push_back(source_of(value.child(item, ""), &own));
  }
  if (!own.empty()) fail("{}: {} has a name in itself, '{}'; one is enough", value.where(), value.key(), own);
  return set;
}

void check_name(const RecipeValue& value, const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
  if (name.empty() || !plain)
    fail("{}: the evaluation set '{}' has a name of other characters than letters, digits, _, - and .",
         value.where(), name);
}

/// A list of which entries have names: each is a set.
std::vector<EvalData> named_sets(const RecipeValue& value) {
  std::vector<EvalData> sets;
  for (const auto& item : value.node()) {
    const auto v = value.child(item, "");
    std::string name;
    EvalData set{.name = "", .sources = {source_of(v, &name)}};
    if (name.empty()) fail("{}: {} has no name, but others of data.eval do", v.where(), set.sources[0].path);
    check_name(v, name);
    for (const auto& other : sets)
      if (other.name == name) fail("{}: two evaluation sets are called '{}'", v.where(), name);
    set.name = name;
    sets.push_back(std::move(set));
  }
  return sets;
}

std::vector<EvalData> eval_of(const RecipeValue& value) {
  const auto& node = value.node();
  if (node.IsNull()) return {};
  const bool has_names =
      node.IsSequence() && std::any_of(node.begin(), node.end(), [](const YAML::Node& item) {
        return item.IsMap() && item["name"].IsDefined();
      });
  if (has_names) return named_sets(value);
  if (node.IsMap() && node["path"].IsDefined()) {
    EvalData set{.name = "", .sources = {}};
    set.sources = {source_of(value, &set.name)};
    if (!set.name.empty()) check_name(value, set.name);
    return {set};
  }
  if (!node.IsMap()) return {set_of(value, "")};
  std::vector<EvalData> sets;
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const auto v = value.child(entry.second, name);
    check_name(v, name);
    if (!seen.insert(name).second) fail("{}: duplicate key {}.{}", v.where(), value.key(), name);
    sets.push_back(set_of(v, name));
  }
  if (sets.empty()) value.expected("a path, a share as in 5%, a list, or a mapping of names to these");
  return sets;
}

std::string columns_text(const data::ColumnNames& columns) {
  std::string text;
  for (const auto& [key, column] : columns) text += (text.empty() ? "" : ", ") + key + ": " + quoted(column);
  return "{" + text + "}";
}

std::string source_text(const DataSource& source, const data::ColumnNames& columns) {
  std::string text;
  if (!source.split.empty()) text += ", split: " + quoted(source.split);
  if (source.format != data::FileFormat::kAuto)
    text += ", format: " + data::file_format_names()[static_cast<std::size_t>(source.format)];
  if (source.columns != columns) text += ", columns: " + columns_text(source.columns);
  if (source.max_rows) text += fmt::format(", max_rows: {}", *source.max_rows);
  if (source.weight) text += fmt::format(", weight: {}", *source.weight);
  if (source.repeat != 1) text += fmt::format(", repeat: {}", source.repeat);
  return text.empty() ? quoted(source.path) : "{path: " + quoted(source.path) + text + "}";
}

std::string sources_text(const std::vector<DataSource>& sources, const data::ColumnNames& columns) {
  if (sources.empty()) return "";
  if (sources.size() == 1) return source_text(sources[0], columns);
  std::string text;
  for (const auto& source : sources) text += (text.empty() ? "[" : ", ") + source_text(source, columns);
  return text + "]";
}

std::string eval_text(const Recipe& recipe) {
  std::string text;
  for (const auto& set : recipe.eval_data) {
    const std::string value =
        set.percent > 0 ? fmt::format("{}%", set.percent) : sources_text(set.sources, recipe.columns);
    if (set.name.empty()) return value;
    text += (text.empty() ? "{" : ", ") + quoted(set.name) + ": " + value;
  }
  return text.empty() ? "" : text + "}";
}

/// data.columns counts for sources without columns of their own.
void spread_columns(Recipe& recipe) {
  const auto spread = [&](std::vector<DataSource>& sources) {
    for (auto& source : sources)
      if (source.columns.empty()) source.columns = recipe.columns;
  };
  spread(recipe.train_data);
  for (auto& set : recipe.eval_data) spread(set.sources);
}

}  // namespace

void add_source_options(std::vector<Option>& options) {
  options.push_back(
      {"data.train", "path | list of {path, weight | repeat, split, format, columns, max_rows}",
       "files (JSONL, JSON, CSV, TSV, Parquet; gzip or zstd), globs, or directories with train.jsonl or "
       "the like. weight: the share of an epoch's rows, which then has no row twice; repeat: how often "
       "an epoch goes through the source; max_rows: only the first so many",
       [](Recipe& r, const RecipeValue& v) { r.train_data = sources_of(v); },
       [](const Recipe& r) { return sources_text(r.train_data, r.columns); }, Bearing::kNone});
  options.push_back(
      {"data.eval", "path | share | list | mapping of names to these",
       "what to evaluate on: files (valid.jsonl of a directory); 5% of the training rows, chosen by what "
       "they say and not trained on; or several, as in {news: news.jsonl, held: 5%}, of which the first "
       "says which checkpoint is the best; null: none",
       [](Recipe& r, const RecipeValue& v) { r.eval_data = eval_of(v); }, eval_text, Bearing::kNone});
  options.push_back(
      {"data.columns", "mapping",
       "what rows call their keys, as in {prompt: question, completion: answer}; also user, assistant and "
       "system, of which a chat of one turn is made, and weight, what a row counts in the loss",
       [](Recipe& r, const RecipeValue& v) {
         r.columns = columns_of(v);
         spread_columns(r);
       },
       [](const Recipe& r) { return r.columns.empty() ? "" : columns_text(r.columns); }, Bearing::kNone});
  options.push_back(
      {"data.cache", "auto | off | path",
       "where tokens are kept for the next start; auto: ~/.cache/hone/tokens, for files of 16 MiB and "
       "more; what is not used for 30 days goes. off: in memory",
       [](Recipe& r, const RecipeValue& v) {
         // YAML takes a bare off for false.
         r.data_cache = v.node().IsScalar() && v.node().Scalar() == "false" ? "off" : v.path();
       },
       [](const Recipe& r) {
         return r.data_cache == "auto" || r.data_cache == "off" ? r.data_cache : quoted(r.data_cache);
       },
       Bearing::kNone});
}

void check_sources(const Recipe& recipe) {
  const auto& sources = recipe.train_data;
  const auto weighted =
      std::count_if(sources.begin(), sources.end(), [](const auto& s) { return s.weight.has_value(); });
  if (weighted > 0 && static_cast<std::size_t>(weighted) < sources.size()) {
    const auto without =
        std::find_if(sources.begin(), sources.end(), [](const auto& s) { return !s.weight.has_value(); });
    fail("{}: {} has no weight, but others do; give all of them one, or use repeat",
         recipe.place("data.train"), without->path);
  }
  const auto shares = std::count_if(recipe.eval_data.begin(), recipe.eval_data.end(),
                                    [](const auto& set) { return set.percent > 0; });
  if (shares > 1) fail("{}: two shares of the training rows; keep one", recipe.place("data.eval"));
}

std::string describe(const std::vector<DataSource>& sources) {
  std::string text;
  for (const auto& source : sources) {
    text += (text.empty() ? "" : " + ") + source.path;
    if (source.weight) text += fmt::format(" (weight {})", *source.weight);
    if (source.repeat != 1) text += fmt::format(" (repeat {})", source.repeat);
  }
  return text;
}

data::Holdout holdout_of(const Recipe& recipe) {
  for (const auto& set : recipe.eval_data)
    if (set.percent > 0) return {set.percent / 100};
  return {};
}

data::TokenCacheOptions token_cache_of(const Recipe& recipe) {
  data::TokenCacheOptions cache{.tokenizer = recipe.model_path};
  if (recipe.data_cache == "auto") {
    cache.directory = data::default_token_cache();
  } else if (recipe.data_cache != "off") {
    cache.directory = recipe.data_cache;
    cache.least_bytes = 0;
  }
  return cache;
}

}  // namespace hone::train
