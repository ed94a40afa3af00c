// Tokenised files from one start to the next. Inside this room only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "data/dataset.h"
#include "data/token_file.h"

namespace hone::data {

/// A directory of TokenFiles, each named by a hash of what it was made of: the bytes of the data file, the
/// files of the tokenizer's directory, the options, and the code that tokenises. Another of any is another
/// file; none is ever changed. Two programs that make the same at once both write, and the last to be done
/// wins.
///
/// What is not used for 30 days is removed, and where all are larger than 64 GiB or a fifth of the disk,
/// those that were used least recently.
class TokenCache {
 public:
  /// `tokenizer` may be null.
  TokenCache(const TokenCacheOptions& options, const text::PretrainedTokenizer* tokenizer);

  /// What is known of a data file.
  struct Entry {
    std::shared_ptr<const TokenFile> tokens;  // null: not tokenised yet
    std::filesystem::path path;               // where its tokens belong; "": nowhere
    std::string key;
    std::filesystem::path data;  // the data file, its size and time of change when its bytes were hashed
    std::uintmax_t size = 0;
    std::filesystem::file_time_type changed{};
  };
  /// The tokens of the first `rows` rows of a file. `tick` is called now and then.
  Entry find(const std::string& file, const DataSource& source, std::int64_t rows,
             const TokenizeOptions& options, const std::function<void()>& tick) const;
  /// Throws Error(kUser) where the data file is no longer what find() saw.
  void check_unchanged(const Entry& entry) const;
  /// Removes what is too old or too much.
  void clean() const;

 private:
  bool is_on() const { return !options_.directory.empty(); }
  TokenCacheOptions options_;
  const text::PretrainedTokenizer* tokenizer_;
  std::string tokenizer_key_;
};

}  // namespace hone::data
