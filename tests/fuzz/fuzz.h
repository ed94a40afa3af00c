// What the fuzz tests share: files in memory, mutations, and what an input may do.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"

namespace hone::fuzz {

/// A file in memory that can be opened by path, so that 20,000 of them do not touch a disk.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {}
  ~MemoryFile() { ::close(fd_); }
  void write(const std::string& content) const {
    ASSERT_EQ(::ftruncate(fd_, 0), 0);
    ASSERT_EQ(::pwrite(fd_, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  }
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }

 private:
  int fd_;
};

/// Words of a JSON file's content, and behind them what breaks JSON: its punctuation, escapes, bytes that are
/// no UTF-8.
inline std::vector<std::string> with_json_punctuation(std::vector<std::string> words) {
  for (const char* word : {",", ":", "[", "]", "{", "}", "\"", "\\", "\\u0000", "\\ud800", "\xff",
                           "\xed\xa0\x80", "\xc3\xa9", "\xe2\x96\x81", " ", "\n", "/*"})
    words.emplace_back(word);
  words.emplace_back(1, '\0');
  return words;
}

/// One random change, or up to four: bytes flipped, ranges removed, repeated or moved, words put in or over
/// numbers.
inline std::string mutate(std::string text, const std::vector<std::string>& words, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  for (std::size_t left = 1 + below(2) * below(4); left > 0; --left) {
    const std::size_t at = below(text.size());
    const std::size_t n = std::min(text.size() - at, 1 + below(24));
    switch (below(7)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, n);
        break;
      case 2:
        text.insert(at, text.substr(below(text.size()), n));
        break;
      case 3:
        text.insert(at, words[below(words.size())]);
        break;
      case 4:
        text.replace(at, n, words[below(words.size())]);
        break;
      case 5:
        text.resize(at);
        break;
      default: {  // a number becomes one of the first 16 words: these keep the JSON whole and lie in its
                  // content
        const auto digit = text.find_first_of("0123456789", at);
        if (digit == std::string::npos) break;
        const auto end = std::min(text.find_first_not_of("0123456789", digit), text.size());
        text.replace(digit, end - digit, words[below(std::min<std::size_t>(words.size(), 16))]);
      }
    }
  }
  return text;
}

/// True where `f` returned, false where it threw as it should.
template <typename F>
bool survives(F&& f, const std::string& input) {
  try {
    f();
    return true;
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kUser) << what << "\n" << input;
    EXPECT_LE(what.size(), 600U) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  } catch (const std::exception& other) {
    ADD_FAILURE() << "not an Error: " << other.what() << "\n" << input;
  }
  return false;
}

}  // namespace hone::fuzz
