#include "hub/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/message.h"

namespace hone::hub {

namespace fs = std::filesystem;

namespace {

/// A name of the hub, taken apart.
struct RepositoryName {
  std::string id;        // ORG/NAME, or NAME
  std::string revision;  // "main" where none was given
  bool has_owner = false;
};

bool is_word(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !text.empty() && text.front() != '.' && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), allowed);
}

std::optional<RepositoryName> parse_name(const std::string& model) {
  for (const std::string_view end : {".yaml", ".yml", ".json", ".jsonl"})  // files that are not there
    if (model.ends_with(end)) return std::nullopt;
  const auto at = std::min(model.find('@'), model.size());
  RepositoryName name{model.substr(0, at), at < model.size() ? model.substr(at + 1) : "main", false};
  const auto slash = name.id.find('/');
  name.has_owner = slash != std::string::npos;
  const bool fits = name.has_owner ? is_word(name.id.substr(0, slash)) && is_word(name.id.substr(slash + 1))
                                   : is_word(name.id);
  if (!fits) return std::nullopt;
  for (const auto& part : fs::path(name.revision))  // refs/pr/1 is one; nothing that leads out
    if (!is_word(part.string())) return std::nullopt;
  return name.revision.empty() ? std::nullopt : std::optional(name);
}

/// An environment variable that is set and not empty.
std::optional<std::string> environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

fs::path with_home(const std::string& path) {
  const auto home = environment("HOME");
  return home && (path == "~" || path.starts_with("~/"))
             ? fs::path(*home) / path.substr(std::min<std::size_t>(2, path.size()))
             : fs::path(path);
}

fs::path cache_directory() {
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const auto cache = environment(variable)) return with_home(*cache);
  if (const auto home = environment("HF_HOME")) return with_home(*home) / "hub";
  return with_home(environment("XDG_CACHE_HOME").value_or("~/.cache")) / "huggingface" / "hub";
}

fs::path directory_of(const RepositoryName& name) {
  std::string folder = "models--" + name.id;
  if (const auto slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, "--");
  return cache_directory() / folder;
}

std::optional<fs::path> find_snapshot(const RepositoryName& name) {
  const fs::path repository = directory_of(name);
  std::string commit = name.revision;
  std::error_code ignored;
  if (const fs::path ref = repository / "refs" / name.revision; fs::is_regular_file(ref, ignored)) {
    commit = read_regular_file(ref);
    commit.erase(commit.find_last_not_of(" \r\n") + 1);
    if (!is_word(commit)) fail("{}: holds \"{}\", which is no commit", ref.string(), shown(commit, 60));
  }
  const fs::path snapshot = repository / "snapshots" / commit;
  return fs::is_directory(snapshot, ignored) ? std::optional(snapshot) : std::nullopt;
}

/// "main, v2": the names in refs/ whose snapshots are there.
std::string cached_revisions(const fs::path& repository) {
  std::vector<std::string> names;
  std::error_code ignored;
  if (!fs::is_directory(repository / "refs", ignored)) return "";
  for (const auto& entry : fs::recursive_directory_iterator(repository / "refs", ignored))
    if (entry.is_regular_file(ignored))
      names.push_back(entry.path().lexically_relative(repository / "refs").string());
  std::sort(names.begin(), names.end());
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + shown(name, 60);
  return list;
}

}  // namespace

std::optional<fs::path> find_model(const std::string& model) {
  std::error_code ignored;
  if (fs::exists(model, ignored)) return fs::path(model);
  const auto name = parse_name(model);
  return name ? find_snapshot(*name) : std::nullopt;
}

fs::path resolve_model(const std::string& model) {
  if (const auto found = find_model(model)) return *found;
  const auto name = parse_name(model);
  if (name && name->has_owner) fail("{}", why_not_found(model));
  return model;
}

std::string why_not_found(const std::string& model) {
  const std::string where = fs::path(model).is_absolute() ? "" : " in " + fs::current_path().string();
  const std::string lead = fmt::format("there is no directory {}{}", shown(model, 200), where);
  const auto name = parse_name(model);
  if (!name)
    return lead +
           "; a model of the Hugging Face hub is downloaded first (hf download ID --local-dir DIRECTORY)";
  const fs::path repository = directory_of(*name);
  const std::string revision = name->revision == "main" ? "" : " --revision " + name->revision;
  std::error_code ignored;
  if (!fs::is_directory(repository, ignored))
    return fmt::format("{}, and the Hugging Face cache {} has no {}; `hf download {}{}` fetches it", lead,
                       repository.parent_path().string(), repository.filename().string(), name->id, revision);
  const std::string cached = cached_revisions(repository);
  return fmt::format("{}, and {} has no snapshot of revision {}{}; `hf download {}{}` fetches it", lead,
                     repository.string(), name->revision, cached.empty() ? "" : " (it has " + cached + ")",
                     name->id, revision);
}

}  // namespace hone::hub
