#include "hub/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace hone::hub {

OutputFile::OutputFile(const std::filesystem::path& path) : path_(path), temporary_(path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) give_up("create", EISDIR);
  if (!is_device(path)) temporary_ += ".tmp";
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) give_up("create", errno);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  discard();
}

void OutputFile::reserve(std::uint64_t size_bytes) {
  if (temporary_ == path_) return;
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
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) give_up("write", errno);
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void OutputFile::commit() {
  HONE_CHECK(fd_ >= 0, "{} is closed", path_.string());
  if (temporary_ != path_ && ::fsync(fd_) != 0) give_up("sync", errno);
  if (::close(std::exchange(fd_, -1)) != 0) {
    const int reason = errno;
    remove_temporary();
    give_up("close", reason);
  }
  if (temporary_ == path_) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    remove_temporary();
    give_up("rename into place", reason);
  }
  sync_directory(path_.has_parent_path() ? path_.parent_path() : ".");
}

void OutputFile::give_up(const char* what, int reason) {
  discard();
  const char* fix = reason == ENOSPC || reason == EDQUOT ? "; free some space or write elsewhere"
                    : reason == EFBIG                    ? "; a file-size limit (ulimit -f) is set"
                                                         : "";
  fail("{}: cannot {}: {}{}", path_.string(), what, std::strerror(reason), fix);
}

void OutputFile::discard() noexcept {
  if (fd_ < 0) return;
  ::close(std::exchange(fd_, -1));
  remove_temporary();
}

void OutputFile::remove_temporary() noexcept {
  if (temporary_ != path_) ::unlink(temporary_.c_str());
}

}  // namespace hone::hub
