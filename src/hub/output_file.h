// A file written at random places that appears whole under its name, or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace hone::hub {

/// Writes to PATH.tmp and renames it to PATH at commit(). Destroyed without commit(), it removes the
/// temporary and leaves whatever lay at PATH as it was. A PATH that is a device (/dev/null) is written to,
/// not replaced. Every method throws Error(kUser) that names PATH and the system's reason.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  /// Sets the file's size and claims the space now where the file system can, so that a full disk shows
  /// before the work.
  void reserve(std::uint64_t size_bytes);
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Syncs, closes and renames into place.
  void commit();

  const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void give_up(const char* what, int reason);
  void discard() noexcept;
  void remove_temporary() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // PATH itself for a device
  int fd_ = -1;
};

}  // namespace hone::hub
