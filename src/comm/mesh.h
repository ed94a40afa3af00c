// Mesh: the ranks of a run in named dimensions, and the communicator along each.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/communicator.h"

namespace hone::comm {

/// The dimensions, outermost first. The first five span all ranks. Experts see the ranks of (dp_replicate,
/// dp_shard, cp, tp) once more, as (ep_shard, ep): expert parallelism takes nothing from data parallelism.
enum class MeshDim {
  kPp,           // pipeline stages
  kDpReplicate,  // the same parameters, other data
  kDpShard,      // parameters in shards, other data
  kCp,           // other parts of the same sequences
  kTp,           // other parts of the same products
  kEpShard,      // shards of the same experts
  kEp            // other experts
};
inline constexpr std::size_t kNumMeshDims = 7;
/// "pp", "dp_replicate", "dp_shard", "cp", "tp", "ep_shard", "ep": as in a recipe.
std::string_view name_of(MeshDim dim);

/// Where this rank stands among all. Only a mesh of ones exists yet; code above asks the mesh all the same.
class Mesh {
 public:
  /// One process that is everything.
  static Mesh ones();
  /// From a recipe's `mesh` section; what is not named is 1. Throws Error(kUser) for an unknown name (with
  /// the nearest), a size below 1, and, until more than ones exist, any other than 1. Messages start with
  /// `where` (the recipe's path, say) and name the key.
  static Mesh parse(const std::vector<std::pair<std::string, std::int64_t>>& sizes,
                    std::string_view where = {});

  /// Ranks in all: the product of the first five dimensions.
  int size() const { return world().size(); }
  int size(MeshDim dim) const { return along(dim).size(); }
  /// This rank's coordinate.
  int rank(MeshDim dim) const { return along(dim).rank(); }

  /// The ranks that differ from this one in `dim` only.
  Communicator& along(MeshDim dim) const { return *along_[static_cast<std::size_t>(dim)]; }
  /// The ranks that see other tokens: (dp_replicate, dp_shard, cp). Losses, token counts and the gradients of
  /// what is not sharded are summed over them.
  Communicator& data() const { return *data_; }
  Communicator& world() const { return *world_; }

  /// "1 rank" or the dimensions above one: "dp_shard 4 x tp 2".
  std::string str() const;

 private:
  Mesh() = default;
  std::array<std::shared_ptr<Communicator>, kNumMeshDims> along_;
  std::shared_ptr<Communicator> data_, world_;
};

}  // namespace hone::comm
