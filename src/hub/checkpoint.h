// A Hugging Face checkpoint directory, read: model.safetensors, or shards under model.safetensors.index.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hub/pinned_bytes.h"
#include "hub/safetensors.h"

namespace hone::hub {

/// The weights in one file, or the list of the shards that hold them.
inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

/// One tensor of a checkpoint: where it lies.
struct CheckpointTensor {
  std::size_t shard = 0;                 ///< index into shards()
  const StoredTensor* stored = nullptr;  ///< name, type, shape and place in that shard
  const std::string& name() const { return stored->spec.name; }
  const Shape& shape() const { return stored->spec.shape; }
  const StoredType& type() const { return *stored->spec.type; }
};

/// The weights of a checkpoint directory, every header checked, nothing read yet. Cheap to copy.
class Checkpoint {
 public:
  /// Opens `directory` as Transformers does: model.safetensors if it is there, else the shards named by
  /// model.safetensors.index.json. Throws Error(kUser) that names the file for: no weights, or only weights
  /// of another kind (says which, and the fix); an index that is not valid, names a missing shard, leads out
  /// of the directory, or disagrees with its shards about which tensors there are; a broken shard;
  /// an adapter beside full weights.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const;
  /// Shards in the order of their names.
  const std::vector<std::shared_ptr<const SafetensorsFile>>& shards() const;
  /// Shard by shard, each in the order of its header. Addresses stay valid while any copy of the checkpoint
  /// lives.
  const std::vector<CheckpointTensor>& tensors() const;
  /// nullptr where there is no such tensor.
  const CheckpointTensor* find(std::string_view name) const;
  /// The tensors stored under another name than `name` whose plain_name() it is; mostly none.
  std::vector<const CheckpointTensor*> find_wrapped(std::string_view name) const;
  /// The index file as read; nullopt for a single model.safetensors.
  const std::optional<std::string>& index_text() const;
  /// The file to name when a tensor is missing: the single file, or the index.
  const std::filesystem::path& listing() const;

  /// The file that a tensor lies in.
  const std::filesystem::path& file_of(const CheckpointTensor& tensor) const;
  /// Bytes of one tensor, mapped, not aligned. Valid while the checkpoint lives.
  std::span<const std::byte> bytes(const CheckpointTensor& tensor) const;
  /// The same bytes, to be read and pinned piece by piece: for what is read again when saving.
  PinnedBytes to_pin(const CheckpointTensor& tensor) const;
  /// Gives a tensor's pages back, so that reading a checkpoint never holds more than a tensor of it.
  void release(const CheckpointTensor& tensor) const;

  /// Bytes of all tensors.
  std::uint64_t total_bytes() const;

 private:
  struct State;
  explicit Checkpoint(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace hone::hub
