// Files that appear whole or not at all, through no name that somebody else could have placed a link at.
#include "base/output_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "tests/temporary_directory.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

class OutputFileTest : public ::testing::Test {
 protected:
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(directory_), fs::directory_iterator()));
  }
  const test::TemporaryDirectory temporary_;
  const fs::path& directory_ = temporary_.path();
};

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

TEST_F(OutputFileTest, AppearsWholeAndLeavesNothingElse) {
  const fs::path path = directory_ / "a";
  {
    OutputFile file(path);
    file.reserve(4);
    file.write_at(2, bytes_of("cd"));
    EXPECT_FALSE(fs::exists(path));
    file.write_at(0, bytes_of("ab"));
    file.commit();
  }
  EXPECT_EQ(read_file(path), "abcd");
  EXPECT_EQ(entries(), 1U);
  { OutputFile dropped(path); }
  write_file_atomically(path, "new");
  EXPECT_EQ(read_file(path), "new");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(OutputFileTest, WritesThroughNoLinkThatLiesAtATemporarysName) {
  write_file_atomically(directory_ / "victim", "precious");
  for (const char* name : {"a.tmp", ".a.tmp", ".a.partial"}) fs::create_symlink("victim", directory_ / name);
  write_file_atomically(directory_ / "a", "content");
  OutputFile file(directory_ / "a");
  file.write_at(0, bytes_of("content"));
  file.commit();
  EXPECT_EQ(read_file(directory_ / "victim"), "precious");
  EXPECT_TRUE(fs::is_symlink(directory_ / "a.tmp"));
  fs::create_symlink("victim", directory_ / "b");  // at the name itself: replaced
  write_file_atomically(directory_ / "b", "content");
  EXPECT_EQ(read_file(directory_ / "victim"), "precious");
  EXPECT_FALSE(fs::is_symlink(directory_ / "b"));
}

TEST_F(OutputFileTest, WritesIntoAPipe) {
  const fs::path path = directory_ / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  write_file_atomically(path, "through");
  std::string got(20, '\0');
  got.resize(static_cast<std::size_t>(::read(reader, got.data(), got.size())));
  EXPECT_EQ(got, "through");
  ::close(reader);
}

TEST_F(OutputFileTest, TakesTheLongestName) {
  const fs::path path = directory_ / std::string(255, 'n');
  write_file_atomically(path, "x");
  EXPECT_EQ(read_file(path), "x");
}

TEST_F(OutputFileTest, SaysWhyItCannot) {
  const auto says = [](const fs::path& path) {
    try {
      write_file_atomically(path, "x");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUser);
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  EXPECT_EQ(says(directory_), directory_.string() + ": cannot create: Is a directory");
  EXPECT_EQ(says(directory_ / "no/x"),
            (directory_ / "no/x").string() + ": cannot create: No such file or directory");
}

TEST_F(OutputFileTest, AnOpenFileOutlivesItsNameAndNoticesItsEnd) {
  const fs::path path = directory_ / "a";
  write_file_atomically(path, "abcdef");
  const auto file = OpenFile::open(path);
  fs::rename(path, directory_ / "b");
  std::string got(3, '\0');
  file->read_at(3, std::as_writable_bytes(std::span(got)));
  EXPECT_EQ(got, "def");
  fs::resize_file(directory_ / "b", 4);
  EXPECT_THROW(file->read_at(3, std::as_writable_bytes(std::span(got))), Error);
  ASSERT_EQ(::mkfifo((directory_ / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(OpenFile::open(directory_ / "pipe"), Error);  // and does not wait for a writer
  EXPECT_THROW(read_regular_file(directory_ / "pipe"), Error);
}

}  // namespace
}  // namespace hone
