// A part of a file as it was when it was first read: read again, it is the same or an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"

namespace hone::hub {

/// Bytes that a run reads when it starts and again when it saves, hours later. The file is held open, so that
/// its name may move or go; a hash of every MiB tells whether its bytes are still those. Holds 8 bytes a MiB,
/// and of read() files of at most kHeld bytes themselves, so that a directory of many small files is not as
/// many open ones.
class PinnedBytes {
 public:
  static constexpr std::size_t kPiece = std::size_t{1} << 20;
  static constexpr std::size_t kHeld = std::size_t{1} << 16;

  /// Nothing is read yet: each piece is to be given to pin() once; one that is not is handed out as it is.
  PinnedBytes(std::shared_ptr<const OpenFile> file, std::uint64_t offset, std::uint64_t size_bytes);
  /// Reads and pins all of it.
  static PinnedBytes read(std::shared_ptr<const OpenFile> file, std::uint64_t offset,
                          std::uint64_t size_bytes);

  std::size_t num_pieces() const { return hashes_.size(); }
  std::uint64_t size_bytes() const { return size_bytes_; }
  /// Bytes of a piece: kPiece, the last one what is left.
  std::size_t size_of_piece(std::size_t piece) const;
  /// Reads a piece into `bytes`, as long as size_of_piece(), and pins it. Different pieces from any threads.
  void pin(std::size_t piece, std::span<std::byte> bytes);
  /// Reads a piece again. Throws Error(kUser) where its bytes are not those that were pinned, or the file is
  /// cut short.
  void read_piece(std::size_t piece, std::span<std::byte> bytes) const;
  /// Asks the system to start reading the file's bytes.
  void will_need() const { file_->will_need(offset_, size_bytes_); }
  const std::filesystem::path& path() const { return file_->path(); }
  /// Hands the bytes out piece by piece, in order. Throws as read_piece() does, before such a piece is handed
  /// out.
  void for_each_piece(
      const std::function<void(std::uint64_t offset, std::span<const std::byte>)>& take) const;

 private:
  std::shared_ptr<const OpenFile> file_;
  std::uint64_t offset_ = 0;
  std::uint64_t size_bytes_ = 0;
  std::vector<std::uint64_t> hashes_;  // 0: not pinned
  std::vector<std::byte> held_;        // all of it, and file_ is null
};

}  // namespace hone::hub
