#include "hub/staged_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "hub/directory_merge.h"

namespace hone::hub {

namespace fs = std::filesystem;

namespace {

fs::path beside(const fs::path& target, const char* suffix) {
  return target.parent_path() / fmt::format(".{}{}", target.filename().string(), suffix);
}
fs::path partial_of(const fs::path& target) {
  return beside(target, ".partial");
}
fs::path previous_of(const fs::path& target) {
  return beside(target, ".previous");
}

/// Absolute, links followed, no trailing slash.
fs::path resolved(const fs::path& target) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(target), error);
  if (error) fail("{}: cannot resolve this path: {}", target.string(), error.message());
  if (!path.has_filename()) path = path.parent_path();
  if (!path.has_filename()) fail("{}: is not a directory that can be written", target.string());
  return path;
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

void remove_quietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

enum class Lock { kTaken, kHeldElsewhere, kUnsupported };

/// Tries to lock a directory; `fd` stays open in every case but a failed open (-1).
Lock try_lock(const fs::path& directory, int& fd) {
  fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Lock::kUnsupported;
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return Lock::kTaken;
  return errno == EWOULDBLOCK ? Lock::kHeldElsewhere
                              : Lock::kUnsupported;  // some network file systems lock no directories
}

void sync_tree(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_directory()) {
      sync_tree(entry.path());
      continue;
    }
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    const int failed = fd < 0 ? errno : ::fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) ::close(fd);
    if (failed != 0) fail("{}: cannot sync: {}", entry.path().string(), std::strerror(failed));
  }
  sync_directory(directory);
}

void rename_or_fail(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  const int reason = errno;
  fail("{}: cannot move {} there: {}", to.string(), from.filename().string(), std::strerror(reason));
}

void check_target(const fs::path& target, IfExists if_exists) {
  if (!is_there(target)) return;
  if (!fs::is_directory(target))
    fail("{}: exists and is not a directory; choose another output", target.string());
  if (if_exists == IfExists::kRefuse && !fs::is_empty(target))
    fail("{}: exists and is not empty; choose another output or remove it", target.string());
}

}  // namespace

StagedDirectory::StagedDirectory(const fs::path& target, IfExists if_exists)
    : target_(resolved(target)), if_exists_(if_exists) {
  try {
    fs::create_directories(target_.parent_path());
    clean_up(target_);
    check_target(target_, if_exists);
    merges_ = if_exists == IfExists::kMerge && is_there(target_);
  } catch (const fs::filesystem_error& error) {
    fail("{}: {}", target_.string(), error.code().message());
  }
  workspace_ = merges_ ? merge_workspace(target_) : partial_of(target_);
  staging_ = merges_ ? workspace_ / "new" : workspace_;
  if (::mkdir(workspace_.c_str(), 0777) != 0) {
    const int reason = errno;
    if (reason == EEXIST)
      fail("{}: another process is writing it (its work lies in {})", target_.string(), workspace_.string());
    fail("{}: cannot create {} {}: {}", target_.string(), workspace_.filename().string(),
         merges_ ? "in it" : "beside it", std::strerror(reason));
  }
  struct stat made {};
  struct stat now {};
  const Lock lock = try_lock(workspace_, lock_);
  // Between the two calls above another process may have taken the new directory for a dead one.
  const bool is_ours = lock_ >= 0 && lock != Lock::kHeldElsewhere && ::fstat(lock_, &made) == 0 &&
                       ::stat(workspace_.c_str(), &now) == 0 && made.st_ino == now.st_ino;
  if (!is_ours) {
    if (lock_ >= 0) ::close(lock_);
    fail("{}: another process is writing it (its work lies in {})", target_.string(), workspace_.string());
  }
  if (merges_ && ::mkdir(staging_.c_str(), 0777) != 0) {
    const int reason = errno;
    discard();
    fail("{}: cannot create {}: {}", target_.string(), staging_.string(), std::strerror(reason));
  }
}

StagedDirectory::StagedDirectory(StagedDirectory&& other) noexcept
    : target_(std::move(other.target_)),
      workspace_(std::move(other.workspace_)),
      staging_(std::move(other.staging_)),
      if_exists_(other.if_exists_),
      merges_(other.merges_),
      lock_(std::exchange(other.lock_, -1)) {}

StagedDirectory::~StagedDirectory() {
  discard();
}

void StagedDirectory::discard() noexcept {
  if (lock_ < 0) return;
  try {
    remove_quietly(workspace_);
  } catch (...) {  // out of memory: clean_up() finds it next time
  }
  ::close(std::exchange(lock_, -1));
}

void StagedDirectory::publish(const std::vector<fs::path>& obsolete) {
  HONE_CHECK(lock_ >= 0, "{} has been published", target_.string());
  try {
    sync_tree(staging_);
    check_target(target_, merges_                            ? IfExists::kMerge
                          : if_exists_ == IfExists::kReplace ? if_exists_
                                                             : IfExists::kRefuse);
    if (merges_) {
      merge_directory(target_, obsolete);
    } else if (!is_there(target_) || fs::is_empty(target_)) {
      rename_or_fail(staging_, target_);
    } else if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
      sync_directory(target_.parent_path());
      remove_quietly(staging_);  // now the old directory
    } else {
      const fs::path previous = previous_of(target_);
      rename_or_fail(target_, previous);
      if (::rename(staging_.c_str(), target_.c_str()) != 0) {
        const int reason = errno;
        rename_or_fail(previous, target_);
        fail("{}: cannot move the new directory there: {}", target_.string(), std::strerror(reason));
      }
      sync_directory(target_.parent_path());
      remove_quietly(previous);
    }
    sync_directory(target_.parent_path());
  } catch (const fs::filesystem_error& error) {
    fail("{}: {}: {}", target_.string(), error.path1().string(), error.code().message());
  }
  ::close(std::exchange(lock_, -1));
}

void StagedDirectory::clean_up(const fs::path& target) {
  const fs::path path = resolved(target);
  const fs::path partial = partial_of(path);
  const fs::path previous = previous_of(path);
  for (const auto& left : {merge_workspace(path), partial}) {
    if (!is_there(left)) continue;
    int fd = -1;
    const bool is_alive = try_lock(left, fd) == Lock::kHeldElsewhere;
    if (!is_alive && left == partial) remove_quietly(left);
    if (!is_alive && left != partial) finish_merge(path);
    if (fd >= 0) ::close(fd);
    if (is_alive) return;
  }
  if (!is_there(previous)) return;
  if (is_there(path)) {
    remove_quietly(previous);
  } else {
    rename_or_fail(previous, path);
  }
}

void rehearse_save(const fs::path& target, std::uint64_t size_bytes, IfExists if_exists) {
  const StagedDirectory staged(target, if_exists);
  write_file_atomically(staged.path() / "rehearsal", "a file can be written here");
  struct statvfs status {};
  if (::statvfs(staged.path().c_str(), &status) != 0) return;  // cannot tell; the save itself will
  const std::uint64_t free_bytes = static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
  if (free_bytes < size_bytes)
    fail(
        "{}: saving takes {} bytes ({:.1f} GiB), its file system has {} free; free some space or write "
        "elsewhere",
        staged.target().string(), size_bytes, static_cast<double>(size_bytes) / (1 << 30), free_bytes);
}

}  // namespace hone::hub
