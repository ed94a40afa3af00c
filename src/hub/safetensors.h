// The safetensors format: an 8-byte little-endian length, a JSON header of that length, and the tensors'
// bytes without gaps. The reader trusts nothing; the writer produces the same file, byte for byte, as the
// safetensors library (0.8).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/output_file.h"
#include "base/shape.h"
#include "hub/stored_type.h"

namespace hone::hub {

/// What a file says about a tensor, without its place.
struct TensorSpec {
  std::string name;
  const StoredType* type = nullptr;
  Shape shape;  ///< () for a scalar; a dimension may be 0

  /// Bytes of the tensor. Throws Error(kInternal) on a shape that no file can hold.
  std::uint64_t size_bytes() const;
};

/// A tensor at its place in a file.
struct StoredTensor {
  TensorSpec spec;
  std::uint64_t begin = 0;  ///< of its first byte, counted from the end of the header
  std::uint64_t size_bytes = 0;
};

/// The `__metadata__` of a header, in the order of the file.
using Metadata = std::vector<std::pair<std::string, std::string>>;

/// Largest header in bytes that the safetensors library reads.
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

/// A safetensors file, mapped into memory, with a header that has been checked in every respect: sizes agree
/// with dtypes and shapes, tensors cover the data without gap or overlap, names are unique.
class SafetensorsFile {
 public:
  /// Throws Error(kUser) that names the file, the tensor and the numbers.
  static std::shared_ptr<const SafetensorsFile> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return map_->path(); }
  /// In the order of the header.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// nullptr where there is no such tensor.
  const StoredTensor* find(std::string_view name) const;
  /// nullopt where the header has none.
  const std::optional<Metadata>& metadata() const { return metadata_; }
  /// The header's JSON as it lies in the file, with its padding.
  std::string_view header() const { return header_; }

  /// The tensor's bytes. Not aligned to anything: old writers did not pad. Valid while this object lives.
  std::span<const std::byte> bytes(const StoredTensor& tensor) const;
  /// The file itself and the byte of it that the tensor begins at: for reading what may change meanwhile.
  const std::shared_ptr<const OpenFile>& file() const { return map_->file(); }
  std::uint64_t place_of(const StoredTensor& tensor) const;
  /// Gives the tensor's pages back to the system; they are read again when touched again.
  void release(const StoredTensor& tensor) const;

 private:
  SafetensorsFile() = default;
  std::shared_ptr<const MappedFile> map_;
  std::string header_;  // a copy: the file may be cut short before it is written again
  std::optional<Metadata> metadata_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

/// Writes a safetensors file. The header goes first, then each tensor's bytes in any order, straight to their
/// place, so that host memory holds one tensor at a time. The file appears at finish(), whole, or not at all.
/// Every method throws Error(kUser) that names the path and the system's reason (no space, no permission).
class SafetensorsWriter {
 public:
  /// A new file laid out as the safetensors library does: by rank of the dtype, then by name; the header
  /// padded with spaces to a multiple of 8. Throws Error(kInternal) for two tensors of one name.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                    const std::optional<Metadata>& metadata);
  /// A new file with exactly the header, order and places of `source`.
  SafetensorsWriter(const std::filesystem::path& path, const SafetensorsFile& source);

  /// All bytes of one tensor.
  void write(std::string_view name, std::span<const std::byte> bytes);
  /// `bytes` of one tensor, from its byte `offset` on. The parts of a tensor may come in any order but must
  /// not overlap.
  void write_part(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes);

  /// True when every byte of every tensor has been written.
  bool is_complete() const { return missing_bytes_ == 0; }
  /// Syncs the file and renames it into place. Throws Error(kInternal) where a tensor has not been written
  /// whole.
  void finish();

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  struct Slot {
    std::uint64_t begin = 0;  // from the start of the file
    std::uint64_t size_bytes = 0;
    std::uint64_t written_bytes = 0;
  };
  void add_slot(const StoredTensor& tensor, std::uint64_t data_offset);
  void start(std::string_view header);

  OutputFile file_;
  std::unordered_map<std::string, Slot> slots_;
  std::uint64_t missing_bytes_ = 0;
};

/// The header (without its length, with its padding) and the places that the safetensors library gives these
/// tensors.
std::string make_header(std::vector<TensorSpec> tensors, const std::optional<Metadata>& metadata,
                        std::vector<StoredTensor>* placed);

}  // namespace hone::hub
