#include "hub/pinned_bytes.h"

#include <algorithm>
#include <utility>

#include "base/content_hash.h"
#include "base/error.h"

namespace hone::hub {

PinnedBytes::PinnedBytes(std::shared_ptr<const OpenFile> file, std::uint64_t offset, std::uint64_t size_bytes)
    : file_(std::move(file)),
      offset_(offset),
      size_bytes_(size_bytes),
      hashes_(static_cast<std::size_t>((size_bytes + kPiece - 1) / kPiece)) {}

PinnedBytes PinnedBytes::read(std::shared_ptr<const OpenFile> file, std::uint64_t offset,
                              std::uint64_t size_bytes) {
  PinnedBytes pinned(std::move(file), offset, size_bytes);
  std::vector<std::byte> bytes(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, size_bytes)));
  for (std::size_t i = 0; i < pinned.num_pieces(); ++i)
    pinned.pin(i, std::span(bytes).first(pinned.size_of_piece(i)));
  if (size_bytes <= kHeld) {
    pinned.held_ = std::move(bytes);
    pinned.file_.reset();
  }
  return pinned;
}

std::size_t PinnedBytes::size_of_piece(std::size_t piece) const {
  return static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, size_bytes_ - piece * kPiece));
}

void PinnedBytes::pin(std::size_t piece, std::span<std::byte> bytes) {
  HONE_CHECK(bytes.size() == size_of_piece(piece), "{} bytes for piece {} of {}", bytes.size(), piece,
             file_->path().string());
  file_->read_at(offset_ + piece * kPiece, bytes);
  hashes_[piece] = content_hash(bytes);
}

void PinnedBytes::read_piece(std::size_t piece, std::span<std::byte> bytes) const {
  if (file_ == nullptr) {
    std::copy(held_.begin(), held_.end(), bytes.begin());
    return;
  }
  file_->read_at(offset_ + piece * kPiece, bytes);
  if (hashes_[piece] != 0 && content_hash(bytes) != hashes_[piece])
    fail("{}: its bytes are not those that were read from it at the start; put the file back as it was",
         file_->path().string());
}

void PinnedBytes::for_each_piece(
    const std::function<void(std::uint64_t, std::span<const std::byte>)>& take) const {
  if (file_ == nullptr) return take(0, held_);
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, size_bytes_)));
  for (std::size_t i = 0; i < num_pieces(); ++i) {
    const auto bytes = std::span(buffer).first(size_of_piece(i));
    read_piece(i, bytes);
    take(i * kPiece, bytes);
  }
}

}  // namespace hone::hub
