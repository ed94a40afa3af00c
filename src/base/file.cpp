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

namespace hone {

namespace {

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags, mode_t mode = 0)
      : fd_(::open(path.c_str(), flags, mode)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  /// Closes now and reports what close() says (a full disk may show only here).
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) fail("{}: is a directory, not a file", path.string());
  std::ifstream in(path, std::ios::binary);
  if (!in) fail("{}: cannot open: {}", path.string(), std::strerror(errno));
  std::ostringstream content;
  content << in.rdbuf();
  if (in.bad()) fail("{}: cannot read: {}", path.string(), std::strerror(errno));
  return std::move(content).str();
}

bool is_device(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
         !std::filesystem::is_directory(status);
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  const bool in_place = is_device(path);
  std::filesystem::path temporary = path;
  if (!in_place) temporary += ".tmp";
  const auto give_up = [&](const char* what) {
    const int reason = errno;
    std::error_code ignored;
    if (!in_place) std::filesystem::remove(temporary, ignored);
    fail("{}: cannot {}: {}", path.string(), what, std::strerror(reason));
  };
  Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.get() < 0) give_up("create");
  while (!content.empty()) {
    const ssize_t n = ::write(file.get(), content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) give_up("write");
    content.remove_prefix(static_cast<std::size_t>(n));
  }
  if (!in_place && ::fsync(file.get()) != 0) give_up("sync");
  if (file.close() != 0) give_up("close");
  if (in_place) return;
  if (::rename(temporary.c_str(), path.c_str()) != 0) give_up("rename into place");
  sync_directory(path.has_parent_path() ? path.parent_path() : ".");
}

void sync_directory(const std::filesystem::path& directory) {
  const Descriptor d(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (d.get() >= 0)
    ::fsync(d.get());  // some file systems refuse to sync a directory; nothing more can be done there
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) fail("{}: is a directory, not a file", path.string());
  const Descriptor file(path, O_RDONLY | O_CLOEXEC);
  if (file.get() < 0) fail("{}: cannot open: {}", path.string(), std::strerror(errno));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail("{}: cannot stat: {}", path.string(), std::strerror(errno));
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->path_ = path;
  mapped->size_ = static_cast<std::size_t>(status.st_size);
  if (mapped->size_ > 0) {
    void* at = ::mmap(nullptr, mapped->size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
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
