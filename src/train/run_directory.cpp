#include "train/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "train/recipe.h"

namespace hone::train {

namespace {

constexpr const char* kLock = ".lock";

/// An empty directory, or one in which a run began: it has a resolved recipe, or what a start that was killed
/// before that leaves (locks and temporaries, which are hidden, and the recipe's own).
bool is_run(const std::filesystem::path& path) {
  if (std::filesystem::exists(path / "recipe.yaml"))
    return read_file(path / "recipe.yaml").starts_with(kResolvedRecipeHeader);
  const auto only_hidden = [](const std::filesystem::path& directory) {
    for (const auto& entry : std::filesystem::directory_iterator(directory))
      if (!entry.path().filename().string().starts_with('.')) return false;
    return true;
  };
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    const bool leftover = name.starts_with('.') || name == "recipe.yaml.tmp" ||
                          (name == "checkpoints" && entry.is_directory() && only_hidden(entry.path()));
    if (!leftover) return false;
  }
  return true;
}

}  // namespace

RunDirectory::RunDirectory(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path);
  if (exists && !std::filesystem::is_directory(path))
    fail("output {}: is a file, expected a directory", path.string());
  if (exists && !is_run(path))
    fail("output {}: holds something that is not a run of hone; choose another output, or empty it",
         path.string());
  for (auto missing = std::filesystem::absolute(path).lexically_normal();
       !std::filesystem::exists(missing, error) && missing.has_relative_path();
       missing = missing.parent_path())
    if (missing.has_filename()) created_ = missing;
  std::filesystem::create_directories(path, error);
  if (error) fail("output {}: cannot be created: {}", path.string(), error.message());
  lock();
  remove_temporaries();
}

/// What a start that was killed between making a file and giving it its name has left (base/output_file.h).
void RunDirectory::remove_temporaries() const {
  std::vector<std::filesystem::path> left;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.ends_with(".tmp")) left.push_back(entry.path());
  }
  std::error_code ignored;
  for (const auto& path : left) std::filesystem::remove(path, ignored);
}

void RunDirectory::lock() {
  const auto file = path_ / kLock;
  for (;;) {
    lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock_ < 0) fail("output {}: cannot be written: {}", path_.string(), std::strerror(errno));
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) {
        log_warning(
            "output {}: its file system cannot lock ({}); see to it that no other process writes there",
            path_.string(), std::strerror(errno));
        return;
      }
      ::close(lock_);
      fail("output {}: is in use by another hone process", path_.string());
    }
    struct stat held {};
    struct stat named {};
    if (::fstat(lock_, &held) == 0 && ::stat(file.c_str(), &named) == 0 && held.st_ino == named.st_ino)
      return;
    ::close(lock_);  // its owner removed it between our open and our lock
  }
}

RunDirectory::RunDirectory(RunDirectory&& other) noexcept
    : path_(std::move(other.path_)),
      lock_(std::exchange(other.lock_, -1)),
      created_(std::move(other.created_)) {}

RunDirectory::~RunDirectory() {
  if (lock_ < 0) return;  // moved from
  std::error_code error;
  std::filesystem::remove(path_ / kLock, error);
  ::close(lock_);
  // Where nothing came of it, what was created goes again.
  std::filesystem::remove(checkpoints(), error);  // only where it is empty
  if (created_.empty()) return;
  for (auto path = std::filesystem::absolute(path_).lexically_normal(); !path.empty();
       path = path.parent_path()) {
    if (path.has_filename() && !std::filesystem::remove(path, error)) return;
    if (path == created_) return;
  }
}

}  // namespace hone::train
