// Files that are read whole, and files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hone {

/// The bytes of a file. Throws Error(kUser) that names the path and the reason.
std::string read_file(const std::filesystem::path& path);
/// The same, but a device is refused, and not opened: for files that others wrote (a downloaded directory).
std::string read_regular_file(const std::filesystem::path& path);

/// Whether `path` is there and neither a file nor a directory: /dev/null, /dev/stdout, a pipe. Such a thing
/// is written to, never replaced.
bool is_device(const std::filesystem::path& path);

/// Writes `content` as OutputFile does: a reader sees the old file or the new one, never a part. Throws
/// Error(kUser) that names the path and the reason (no space, no permission); the old file is then untouched.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Flushes a directory's entries (after a rename) to the disk.
void sync_directory(const std::filesystem::path& directory);

/// A file held open for reading: it can be read to the end where its name is moved or removed meanwhile.
class OpenFile {
 public:
  /// Throws Error(kUser) where it cannot be opened, and for a directory or a device, which is never opened.
  static std::shared_ptr<const OpenFile> open(const std::filesystem::path& path);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  /// The bytes from `offset` on. From any thread. Throws Error(kUser) where the file is shorter by now.
  void read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  /// Asks the system to start reading these bytes.
  void will_need(std::uint64_t offset, std::uint64_t size_bytes) const;
  /// Bytes, when it was opened.
  std::uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  int fd() const { return fd_; }

 private:
  OpenFile() = default;
  std::filesystem::path path_;
  std::uint64_t size_ = 0;
  int fd_ = -1;
};

/// A read-only memory map of a whole file; lives as long as any pointer to it is held. Touching bytes that
/// the file has lost since it was opened ends the program (SIGBUS): what may change is read through file().
class MappedFile {
 public:
  /// Throws Error(kUser) where the file cannot be opened or mapped, and for a device.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return file_->path(); }
  const std::shared_ptr<const OpenFile>& file() const { return file_; }

 private:
  MappedFile() = default;
  std::shared_ptr<const OpenFile> file_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace hone
