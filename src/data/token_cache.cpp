#include "data/token_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <system_error>
#include <vector>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "data/byte_stream.h"
#include "text/pretrained_tokenizer.h"
#include "tokenization_hash.h"

namespace hone::data {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".tokens";
constexpr std::string_view kTemporary = ".tokens-";
constexpr auto kUnused = std::chrono::hours(24 * 30);
constexpr auto kAbandoned = std::chrono::hours(24);  // a temporary file that is not written any more
constexpr std::uintmax_t kMostBytes = std::uintmax_t{64} << 30;

std::uint64_t hash_text(std::string_view text, std::uint64_t seed = 0) {
  return content_hash(std::as_bytes(std::span(text)), seed);
}

/// Of all bytes of a file.
std::uint64_t hash_file(const fs::path& path, const std::function<void()>& tick) {
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  const auto bytes = ByteStream::open_plain(path);
  std::string piece(kPiece, '\0');
  std::uint64_t hash = 0;
  for (std::size_t size = 0;; size = 0) {
    while (size < kPiece) {  // pieces of one size, whatever a read gives
      const auto n = bytes->read(std::span(piece).subspan(size));
      if (n == 0) break;
      size += n;
    }
    hash = content_hash(std::as_bytes(std::span(piece).first(size)), hash);
    if (size < kPiece) return hash;
    tick();
  }
}

/// Everything in a tokenizer's directory that may say something about text: all its JSON and templates, and
/// the vocabularies of older formats; not what lists weights.
std::string tokenizer_key(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code unreadable;
  for (const auto& folder : {directory, directory / "additional_chat_templates"}) {
    for (const auto& entry : fs::directory_iterator(folder, unreadable)) {
      const auto name = entry.path().filename().string();
      constexpr std::array<std::string_view, 4> kEndings{".json", ".jinja", ".model", ".txt"};
      const bool says =
          std::any_of(kEndings.begin(), kEndings.end(), [&](auto e) { return name.ends_with(e); });
      if (says && !name.ends_with(".index.json") && entry.is_regular_file(unreadable))
        files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::string key;
  for (const auto& file : files)
    key += fmt::format("tokenizer {} {:016x}\n", file.lexically_relative(directory).string(),
                       hash_file(file, [] {}));
  return key;
}

/// Does every strftime_now of a template ask for no more than the day?
bool asks_for_days_only(std::string_view source) {
  constexpr std::string_view kNow = "strftime_now(";
  for (auto at = source.find(kNow); at != std::string_view::npos; at = source.find(kNow, at)) {
    at += kNow.size();
    const char quote = at < source.size() ? source[at] : '\0';
    const auto end = source.find(quote, at + 1);
    if ((quote != '"' && quote != '\'') || end == std::string_view::npos || source.substr(end + 1, 1) != ")")
      return false;
    for (std::size_t i = at + 1; i < end; ++i)
      if (source[i] == '%' && std::string_view("-aAbBdemyYj%").find(source[++i]) == std::string_view::npos)
        return false;
  }
  return true;
}

/// The moment that templates read, as far as they read it.
std::string moment_key(const text::PretrainedTokenizer& tokenizer, const std::optional<std::tm>& now) {
  if (!now || !tokenizer.has_chat_template()) return "";
  std::string sources;
  for (const bool tools : {false, true}) {
    try {
      sources += tokenizer.chat_template(tools).source();
    } catch (const Error&) {  // said of the first row that needs it
    }
  }
  std::string key = fmt::format("template {:016x}\n", hash_text(sources));
  if (sources.find("strftime_now") == std::string::npos) return key;
  std::array<char, 64> text{};
  const char* format = asks_for_days_only(sources) ? "%Y-%m-%d" : "%Y-%m-%d %H:%M:%S %z";
  text[std::strftime(text.data(), text.size(), format, &*now)] = '\0';
  return key + "now " + text.data() + "\n";
}

/// Every option that changes what rows become.
std::string options_key(const TokenizeOptions& o) {
  return fmt::format("special_tokens {} eos {} generation_prompt {} for_training {} vocab {}\n",
                     o.special_tokens, o.eos, o.generation_prompt, o.for_training, o.vocab);
}

struct Cached {
  fs::path path;
  fs::file_time_type used;
  std::uintmax_t bytes;
};

}  // namespace

fs::path default_token_cache() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value == '/' ? fs::path(value)
                                             : fs::path();  // relative ones are to be ignored
  };
  const auto cache = set("XDG_CACHE_HOME");
  const auto home = set("HOME");
  if (!cache.empty()) return cache / "hone" / "tokens";
  return home.empty() ? fs::path() : home / ".cache" / "hone" / "tokens";
}

TokenCache::TokenCache(const TokenCacheOptions& options, const text::PretrainedTokenizer* tokenizer)
    : options_(options), tokenizer_(tokenizer) {
  if (!is_on()) return;
  std::error_code error;
  fs::create_directories(options_.directory, error);
  if (error || ::access(options_.directory.c_str(), W_OK | X_OK) != 0) {
    log_warning(
        "data.cache: {}: cannot write there; tokens are kept in memory, and made anew at the next start",
        options_.directory.string());
    options_.directory.clear();
  }
}

TokenCache::Entry TokenCache::find(const std::string& file, const DataSource& source, std::int64_t rows,
                                   const TokenizeOptions& options, const std::function<void()>& tick) const {
  Entry entry;
  std::error_code no;
  if (!is_on() || !fs::is_regular_file(file, no)) return entry;
  entry.data = file;
  entry.size = fs::file_size(file, no);
  entry.changed = fs::last_write_time(file, no);
  if (no || static_cast<std::int64_t>(entry.size) < options_.least_bytes) return Entry{};
  entry.key = fmt::format("hone tokens {}\ndata {:016x} {}\nformat {} rows {}\n", kTokenizationHash,
                          hash_file(file, tick), entry.size, static_cast<int>(source.format), rows);
  for (const auto& [key, column] : source.columns) entry.key += fmt::format("column {} {}\n", key, column);
  entry.key += options_key(options);
  if (tokenizer_ != nullptr)
    entry.key += moment_key(*tokenizer_, options.now) + tokenizer_key(options_.tokenizer);
  const auto name = fs::path(file).filename().string();
  entry.key +=
      fmt::format("endings {}\n", name.substr(std::min(name.find('.'), name.size())));  // say the format
  entry.path = options_.directory /
               fmt::format("{:016x}{:016x}{}", hash_text(entry.key), hash_text(entry.key, 1), kExtension);
  if (!fs::exists(fs::symlink_status(entry.path, no))) return entry;
  std::string why;
  entry.tokens = TokenFile::open(entry.path, entry.key, why);
  if (entry.tokens)
    ::utimensat(AT_FDCWD, entry.path.c_str(), nullptr, 0);  // used now
  else
    log_warning("data.cache: {}: {}; it is made anew", entry.path.string(), why);
  return entry;
}

void TokenCache::check_unchanged(const Entry& entry) const {
  if (entry.data.empty()) return;
  std::error_code gone;
  if (fs::file_size(entry.data, gone) != entry.size ||
      fs::last_write_time(entry.data, gone) != entry.changed || gone)
    fail("{}: the file changed while it was read; start again when it is complete", entry.data.string());
}

void TokenCache::clean() const {
  if (!is_on()) return;
  std::error_code error;
  std::vector<Cached> files;
  std::uintmax_t bytes = 0;
  const auto now = fs::file_time_type::clock::now();
  for (const auto& entry : fs::directory_iterator(options_.directory, error)) {
    const auto name = entry.path().filename().string();
    const auto used = entry.last_write_time(error);
    if (error) continue;
    if (name.starts_with(kTemporary) && now - used > kAbandoned) fs::remove(entry.path(), error);
    constexpr std::size_t kName = 32;
    if (!name.ends_with(kExtension) || name.size() != kName + kExtension.size()) continue;
    if (now - used > kUnused) {
      fs::remove(entry.path(), error);
      continue;
    }
    files.push_back({entry.path(), used, entry.file_size(error)});
    bytes += files.back().bytes;
  }
  const auto disk = fs::space(options_.directory, error);
  const auto most = error ? kMostBytes : std::min(kMostBytes, disk.capacity / 5);
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.used < b.used; });
  // The newest stays, however large: it was just made.
  for (std::size_t i = 0; i + 1 < files.size() && bytes > most; ++i) {
    fs::remove(files[i].path, error);
    bytes -= files[i].bytes;
  }
}

}  // namespace hone::data
