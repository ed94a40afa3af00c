// A file written at random places that appears whole under its name, or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace hone {

/// Written without a name where the file system can do that (O_TMPFILE), else under a hidden random one that
/// is created exclusively: nobody who may write to the directory can place a link there first. commit() gives
/// it the name PATH. Destroyed without commit(), or killed, it leaves whatever lay at PATH as it was. A link
/// at PATH is replaced, not followed. A PATH that is a device (/dev/null, a pipe) is written to, not
/// replaced. Every method throws Error(kUser) that names PATH and the system's reason.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  /// Sets the file's size and claims the space now where the file system can, so that a full disk shows
  /// before the work.
  void reserve(std::uint64_t size_bytes);
  /// A pipe takes only what follows what it has.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Syncs, names and closes.
  void commit();

  const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void give_up(const char* what, int reason);
  void open_temporary();
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty: without a name, or a device
  bool is_device_ = false;
  std::uint64_t written_to_ = 0;  // of a device: the end of what it has
  int fd_ = -1;
};

}  // namespace hone
