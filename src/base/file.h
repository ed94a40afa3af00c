// Files that are read whole, and files that appear whole or not at all.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hone {

/// The bytes of a file. Throws Error(kUser) that names the path and the reason.
std::string read_file(const std::filesystem::path& path);

/// Whether `path` is there and neither a file nor a directory: /dev/null, /dev/stdout, a pipe. Such a thing
/// is written to, never replaced.
bool is_device(const std::filesystem::path& path);

/// Writes `content` beside `path`, syncs it and renames it into place: a reader sees the old file or the new
/// one, never a part. Throws Error(kUser) that names the path and the reason (no space, no permission); the
/// old file is then untouched.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Flushes a directory's entries (after a rename) to the disk.
void sync_directory(const std::filesystem::path& directory);

/// A read-only memory map of a whole file; lives as long as any pointer to it is held.
class MappedFile {
 public:
  /// Throws Error(kUser) where the file cannot be opened or mapped.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace hone
