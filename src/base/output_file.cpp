#include "base/output_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace hone {

namespace {

/// A hidden name beside `path` that nobody can foresee.
std::filesystem::path random_name_beside(const std::filesystem::path& path) {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random)
    fail("{}: the system has no random numbers: {}", path.string(), std::strerror(errno));
  // A file system's names are at most 255 bytes long.
  return path.parent_path() / fmt::format(".{}.{:016x}.tmp", path.filename().string().substr(0, 200), random);
}

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

std::string proc_name(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

}  // namespace

OutputFile::OutputFile(const std::filesystem::path& path) : path_(path), is_device_(is_device(path)) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) give_up("create", EISDIR);
  if (is_device_) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    open_temporary();
  }
  if (fd_ < 0) give_up("create", errno);
}

void OutputFile::open_temporary() {
  fd_ = ::open(directory_of(path_).c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644);
  if (fd_ >= 0 && ::access(proc_name(fd_).c_str(), F_OK) == 0) return;  // what commit() will link
  if (fd_ >= 0) ::close(fd_);
  temporary_ = random_name_beside(path_);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      is_device_(other.is_device_),
      written_to_(other.written_to_),
      fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  discard();
}

void OutputFile::reserve(std::uint64_t size_bytes) {
  if (is_device_) return;
  const auto size = static_cast<off_t>(size_bytes);
  while (::fallocate(fd_, 0, 0, size) != 0) {
    if (errno == EINTR) continue;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) give_up("reserve its space", errno);
    if (::ftruncate(fd_, size) != 0)
      give_up("set its size", errno);  // cannot reserve here; a full disk shows later
    break;
  }
}

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  HONE_CHECK(fd_ >= 0, "{} is closed", path_.string());
  while (!bytes.empty()) {
    ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == ESPIPE && is_device_ && offset == written_to_)
      n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) give_up("write", errno);
    offset += static_cast<std::uint64_t>(n);
    written_to_ = offset;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void OutputFile::commit() {
  HONE_CHECK(fd_ >= 0, "{} is closed", path_.string());
  if (!is_device_) {
    if (::fsync(fd_) != 0) give_up("sync", errno);
    if (temporary_.empty()) {
      const auto name = random_name_beside(path_);
      if (::linkat(AT_FDCWD, proc_name(fd_).c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
        give_up("name", errno);
      temporary_ = name;
    }
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) give_up("rename into place", errno);
    temporary_.clear();
  }
  if (::close(std::exchange(fd_, -1)) != 0) give_up("close", errno);
  if (!is_device_) sync_directory(directory_of(path_));
}

void OutputFile::give_up(const char* what, int reason) {
  discard();
  const char* fix = reason == ENOSPC || reason == EDQUOT ? "; free some space or write elsewhere"
                    : reason == EFBIG                    ? "; a file-size limit (ulimit -f) is set"
                                                         : "";
  fail("{}: cannot {}: {}{}", path_.string(), what, std::strerror(reason), fix);
}

void OutputFile::discard() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

}  // namespace hone
