#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/output_file.h"

namespace hone {

std::string read_file(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) fail("{}: is a directory, not a file", path.string());
  std::ifstream in(path, std::ios::binary);
  if (!in) fail("{}: cannot open: {}", path.string(), std::strerror(errno));
  std::ostringstream content;
  content << in.rdbuf();
  if (in.bad()) fail("{}: cannot read: {}", path.string(), std::strerror(errno));
  return std::move(content).str();
}

std::string read_regular_file(const std::filesystem::path& path) {
  const auto file = OpenFile::open(path);
  std::string content(file->size(), '\0');
  file->read_at(0, std::as_writable_bytes(std::span(content)));
  return content;
}

bool is_device(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
         !std::filesystem::is_directory(status);
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  OutputFile file(path);
  file.write_at(0, std::as_bytes(std::span(content)));
  file.commit();
}

void sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);  // some file systems refuse to sync a directory; nothing more can be done there
  ::close(fd);
}

std::shared_ptr<const OpenFile> OpenFile::open(const std::filesystem::path& path) {
  // Looked at before it is opened: opening a pipe waits, opening a device may act.
  if (std::filesystem::is_directory(path)) fail("{}: is a directory, not a file", path.string());
  if (is_device(path)) fail("{}: is a pipe, a socket or a device, not a file", path.string());
  std::shared_ptr<OpenFile> file(new OpenFile);
  file->path_ = path;
  file->fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file->fd_ < 0) fail("{}: cannot open: {}", path.string(), std::strerror(errno));
  struct stat status {};
  if (::fstat(file->fd_, &status) != 0) fail("{}: cannot stat: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(status.st_mode)) fail("{}: is not a file", path.string());
  file->size_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

OpenFile::~OpenFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OpenFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("{}: cannot read: {}", path_.string(), std::strerror(errno));
    if (n == 0)
      fail("{}: was cut short after it was opened: it ends at byte {} of {}", path_.string(), offset, size_);
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void OpenFile::will_need(std::uint64_t offset, std::uint64_t size_bytes) const {
  ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(size_bytes), POSIX_FADV_WILLNEED);
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->file_ = OpenFile::open(path);
  mapped->size_ = static_cast<std::size_t>(mapped->file_->size());
  if (mapped->size_ > 0) {
    void* at = ::mmap(nullptr, mapped->size_, PROT_READ, MAP_PRIVATE, mapped->file_->fd(), 0);
    if (at == MAP_FAILED) {
      mapped->size_ = 0;
      fail("{}: cannot map into memory: {}", path.string(), std::strerror(errno));
    }
    mapped->data_ = static_cast<const std::byte*>(at);
  }
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace hone
