// Shared by the tests of the hub room: temporary directories, safetensors files made by hand, errors as text.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/team.h"
#include "tests/temporary_directory.h"

namespace hone::hub {
namespace fs = std::filesystem;

/// Reads and writes in these tests.
inline Team& team() {
  static Team threads(2);
  return threads;
}
}  // namespace hone::hub

namespace hone::hub::test {

using hone::test::TemporaryDirectory;

inline void write_text(const fs::path& path, std::string_view content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string read_text(const fs::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return std::move(content).str();
}

/// A safetensors file: the header's length, the header, the data.
inline std::string file_of(std::string_view header, std::string_view data) {
  const std::uint64_t length = header.size();
  std::string content(8, '\0');
  std::memcpy(content.data(), &length, 8);
  return content + std::string(header) + std::string(data);
}

/// What the user would read. Fails the test where nothing is thrown, the error is not the user's, or the text
/// is not one line of at most 600 bytes.
template <typename F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kUser) << what;
    EXPECT_LE(what.size(), 600U) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    return what;
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

/// True where our own promise was broken (Error of kind kInternal).
template <typename F>
bool is_internal_error(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.kind() == ErrorKind::kInternal;
  }
  return false;
}

/// Every file below a directory, by relative path.
inline std::map<std::string, std::string> files_below(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), directory).string()] = read_text(entry.path());
  return files;
}

/// Names in a directory, hidden ones too.
inline std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

}  // namespace hone::hub::test
