#include "comm/mesh.h"

#include <algorithm>

#include "base/error.h"
#include "base/suggest.h"

namespace hone::comm {

namespace {

constexpr std::array<std::string_view, kNumMeshDims> kNames{"pp", "dp_replicate", "dp_shard", "cp",
                                                            "tp", "ep_shard",     "ep"};

}  // namespace

std::string_view name_of(MeshDim dim) {
  return kNames.at(static_cast<std::size_t>(dim));
}

Mesh Mesh::ones() {
  Mesh mesh;
  const auto self = make_self_communicator();
  mesh.along_.fill(self);
  mesh.data_ = self;
  mesh.world_ = self;
  return mesh;
}

Mesh Mesh::parse(const std::vector<std::pair<std::string, std::int64_t>>& sizes, std::string_view where) {
  const std::string prefix = where.empty() ? "" : std::string(where) + ": ";
  for (const auto& [name, size] : sizes) {
    if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
      const std::vector<std::string> known(kNames.begin(), kNames.end());
      fail("{}mesh.{}: unknown dimension{}", prefix, name, suggestion(name, known));
    }
    if (size < 1) fail("{}mesh.{}: {} ranks; a dimension has at least 1", prefix, name, size);
    if (size != 1)
      fail("{}mesh.{}: {} ranks; only a mesh of ones exists yet, so leave it out or set it to 1", prefix,
           name, size);
  }
  return ones();
}

std::string Mesh::str() const {
  std::string text;
  for (std::size_t i = 0; i < kNumMeshDims; ++i) {
    const auto dim = static_cast<MeshDim>(i);
    if (size(dim) == 1) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : " x ", name_of(dim), size(dim));
  }
  return text.empty() ? "1 rank" : text;
}

}  // namespace hone::comm
