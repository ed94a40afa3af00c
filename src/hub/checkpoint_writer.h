// A Hugging Face checkpoint directory, written: tensors streamed into their shards, every other file copied,
// the whole directory published in one step (staged_directory.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hub/checkpoint.h"
#include "hub/other_files.h"
#include "hub/safetensors.h"
#include "hub/staged_directory.h"

namespace hone::hub {

/// A tensor of a fresh checkpoint.
struct NewTensor {
  TensorSpec spec;
  /// Tensors of one group (not 0) stay in one shard and count together towards its size, as tensors that
  /// share a storage do in huggingface_hub: Transformers splits a fused expert weight into such views.
  int group = 0;
};

/// Which tensors go to which file.
struct ShardLayout {
  std::vector<std::vector<std::size_t>> shards;  ///< indices of tensors, per file
  std::vector<std::string> file_names;  ///< "model.safetensors", or "model-00001-of-0000N.safetensors" …
  std::uint64_t total_bytes = 0;
};

/// Shards as huggingface_hub's split_torch_state_dict_into_shards: greedy in the given order; a tensor larger
/// than `max_shard_bytes` gets a shard of its own at once, before the one still open.
ShardLayout plan_shards(const std::vector<NewTensor>& tensors, std::uint64_t max_shard_bytes);

/// The text of model.safetensors.index.json as Transformers 5 writes it.
std::string make_index_text(const std::map<std::string, std::string>& weight_map, std::uint64_t total_bytes,
                            std::uint64_t total_parameters);

/// What becomes of tensors of the checkpoint they come from, by name, that are not stored as there: what they
/// are stored as, in the same file, under this or another name; nullopt: nothing.
using StoredChanges = std::unordered_map<std::string, std::optional<TensorSpec>>;

/// save_pretrained's default ("50GB").
inline constexpr std::uint64_t kDefaultMaxShardBytes = 50'000'000'000;

/// Writes one checkpoint directory. With IfExists::kMerge a directory that holds an adapter is refused:
/// Transformers would load the adapter from it, not these weights. Every method throws Error(kUser) for what
/// the system refuses; destroyed without publish(), it leaves nothing behind and the old directory as it was.
class CheckpointWriter {
 public:
  /// Same files, keys, order, dtypes, shapes, metadata and index as `source`: headers and index are copied
  /// byte for byte. A file with tensors in `changes` that are stored otherwise there gets a header of its
  /// own, laid out as the safetensors library does, and the index their new names and size.
  static CheckpointWriter like(const Checkpoint& source, const std::filesystem::path& target,
                               IfExists if_exists = IfExists::kRefuse, const StoredChanges& changes = {});
  /// Bytes of all tensors of such a checkpoint.
  static std::uint64_t size_bytes(const Checkpoint& source, const StoredChanges& changes);
  /// A new checkpoint with metadata {"format": "pt"}, sharded as plan_shards does. `total_parameters` goes
  /// into the index (unique parameters; tied ones count once); without it, the elements of all tensors.
  static CheckpointWriter fresh(const std::vector<NewTensor>& tensors, const std::filesystem::path& target,
                                IfExists if_exists = IfExists::kRefuse,
                                std::uint64_t max_shard_bytes = kDefaultMaxShardBytes,
                                std::optional<std::uint64_t> total_parameters = std::nullopt);

  /// All bytes of one tensor; each tensor once, in any order. A shard is synced and closed when its last
  /// tensor arrives.
  void write(std::string_view name, std::span<const std::byte> bytes);
  /// A part of a tensor; parts in any order, not overlapping.
  void write_part(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes);

  /// A file beside the weights, e.g. "config.json". `name` may have sub-directories but does not lead out.
  void add_file(const std::filesystem::path& name, std::string_view content);
  /// Writes every one of `files`, byte for byte, but for those that this writer writes itself or add_file()
  /// has written, and those in a directory that holds the target (an output inside its source). Where the
  /// target is merged into, a file that lies there is replaced only if it is_model_file(); the others are
  /// returned, sorted. Throws Error(kUser) where a file is not what was listed.
  std::vector<std::string> add_files(const OtherFiles& files);
  /// The files that this writer writes itself: the shards and their index.
  std::set<std::string> own_files() const;

  /// Throws Error(kInternal) where a tensor has not been written. A merge removes the weights that these
  /// replace: model.safetensors, its index, and shards of the names that Transformers gives them.
  void publish();

  const std::filesystem::path& target() const { return staged_.target(); }

 private:
  struct Shard {
    std::string file_name;
    std::optional<SafetensorsWriter> writer;        // from the first byte to the last
    std::vector<TensorSpec> tensors;                // of a fresh checkpoint
    std::shared_ptr<const SafetensorsFile> source;  // of one written like another
    bool is_finished = false;
    std::optional<Metadata> metadata{{{"format", "pt"}}};  // with `tensors`
  };
  CheckpointWriter(const std::filesystem::path& target, IfExists if_exists);
  std::vector<std::filesystem::path> obsolete_weights() const;
  SafetensorsWriter& writer_of(Shard& shard);
  static void finish_if_complete(Shard& shard);

  StagedDirectory staged_;
  std::vector<Shard> shards_;
  std::unordered_map<std::string, std::size_t> shard_of_;
};

}  // namespace hone::hub
