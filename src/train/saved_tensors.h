// The tensors of a checkpoint, by pieces.
//
// They lie in safetensors shards; index.json says of every tensor its dtype, its shape and its pieces: the
// shard and key of each, where it begins in every dimension, its shape and a hash of its bytes. A reader goes
// by that alone, never by the name of a shard or by who wrote it: what some ranks have written, others read
// in other pieces.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/shape.h"
#include "hub/safetensors.h"
#include "json/node.h"
#include "model/causal_lm.h"

namespace hone::train {

/// A box of a tensor's elements.
struct Region {
  std::vector<std::int64_t> offset;  // of its first element, in every dimension
  Shape shape;

  static Region whole(const Shape& shape) {
    return {std::vector<std::int64_t>(shape.dims().size(), 0), shape};
  }
};

/// A piece of a tensor, to be written.
struct TensorPiece {
  std::string name;
  Shape shape;  // of the whole tensor
  Region region;
  DType dtype = DType::kF32;
};

/// Writes a shard, and its pieces into the index: the object "tensors" of index.json, which other shards may
/// be in already. `bytes` is asked once for each piece, in order: its region's elements, row-major, in host
/// memory, where they stay until it is asked for the next. Throws Error(kUser) where the file cannot be
/// written.
void write_shard(const std::filesystem::path& shard, std::span<const TensorPiece> pieces,
                 const std::function<std::span<const std::byte>(std::size_t piece)>& bytes,
                 nlohmann::ordered_json& tensors);

/// The tensors of one checkpoint, mapped.
class SavedTensors {
 public:
  /// `tensors`: of the index. Throws Error(kUser) where a shard is missing or is not what it should be.
  SavedTensors(std::filesystem::path checkpoint, JsonNode tensors);
  bool has(std::string_view name) const { return listed_.has(name); }
  /// In the order of the index.
  std::vector<std::string> names() const { return listed_.keys(); }

  /// Reads a region of a tensor, row-major, into `to` (of its size); every piece that it lies in is compared
  /// with its hash. Throws Error(kUser) where there is no such tensor, where it has another shape or dtype,
  /// where pieces are missing, overlap or reach over its end, and where bytes are not those that were
  /// written.
  void read(const std::string& name, const Shape& shape, const Region& region, std::span<std::byte> to,
            DType dtype = DType::kF32) const;
  /// The bytes of a whole tensor: in its pages where it is one piece, else put together. Valid until the next
  /// call. Throws as read.
  std::span<const std::byte> bytes(const std::string& name, const Shape& shape,
                                   DType dtype = DType::kF32) const;
  /// The masters, for model::CausalLM::save_pretrained: of a parameter that was not trained, nullopt. This
  /// object must live as long as the function, which gives the pages of a tensor back when it is asked for
  /// the next.
  model::CausalLM::Values masters() const;
  /// Gives a tensor's pages back.
  void release(std::string_view name) const;

 private:
  struct Piece {
    Region region;
    std::string shard, key, hash;
  };
  std::vector<Piece> pieces_of(const std::string& name, const Shape& shape, const Region& region,
                               DType dtype) const;
  std::span<const std::byte> bytes_of(const std::string& name, const Piece& piece, DType dtype) const;
  const hub::SafetensorsFile& shard(const std::string& name) const { return *shards_.at(name); }

  std::filesystem::path checkpoint_;
  JsonNode listed_;
  std::map<std::string, std::shared_ptr<const hub::SafetensorsFile>> shards_;
  mutable std::vector<std::byte> assembled_;
};

}  // namespace hone::train
