#include "train/saved_tensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/content_hash.h"
#include "base/error.h"

namespace hone::train {

namespace {

using nlohmann::ordered_json;

std::string hash_text(std::span<const std::byte> bytes) {
  return fmt::format("{:016x}", content_hash(bytes));
}

std::string describe(const Region& region) {
  return fmt::format("{} at {}", region.shape.str(), Shape(region.offset).str());
}

std::vector<std::int64_t> read_integers(const JsonNode& node) {
  std::vector<std::int64_t> result;
  for (const auto& element : node.elements()) result.push_back(element.as_integer());
  return result;
}

bool lies_in(const Region& region, const Shape& shape) {
  if (region.shape.rank() != shape.rank() || region.offset.size() != shape.dims().size()) return false;
  for (int d = 0; d < shape.rank(); ++d) {
    const std::int64_t begin = region.offset[static_cast<std::size_t>(d)];
    if (begin < 0 || region.shape[d] < 0 || begin > shape[d] || region.shape[d] > shape[d] - begin)
      return false;
  }
  return true;
}

/// What two boxes of one tensor share; nullopt: nothing.
std::optional<Region> shared_by(const Region& a, const Region& b) {
  std::vector<std::int64_t> offset, dims;
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    const int i = static_cast<int>(d);
    offset.push_back(std::max(a.offset[d], b.offset[d]));
    dims.push_back(std::min(a.offset[d] + a.shape[i], b.offset[d] + b.shape[i]) - offset.back());
    if (dims.back() <= 0) return std::nullopt;
  }
  return Region{std::move(offset), Shape(std::move(dims))};
}

/// Where the element at `at` of the tensor lies in a region's row-major order.
std::size_t place_in(const Region& region, const std::vector<std::int64_t>& at) {
  std::int64_t place = 0;
  for (std::size_t d = 0; d < at.size(); ++d)
    place = place * region.shape[static_cast<int>(d)] + at[d] - region.offset[d];
  return static_cast<std::size_t>(place);
}

/// Copies what `box` holds from one region's elements to another's, both of which it lies in; row by row.
void copy_box(const Region& box, const Region& from_region, std::span<const std::byte> from,
              const Region& to_region, std::span<std::byte> to, std::size_t element) {
  const std::size_t rank = box.offset.size();
  const std::size_t row = element * static_cast<std::size_t>(rank == 0 ? 1 : box.shape[-1]);
  std::vector<std::int64_t> at = box.offset;
  for (;;) {
    std::memcpy(to.data() + place_in(to_region, at) * element,
                from.data() + place_in(from_region, at) * element, row);
    std::size_t d = rank < 2 ? 0 : rank - 1;  // the next row: the last dimension but one counts fastest
    while (d > 0 && ++at[d - 1] == box.offset[d - 1] + box.shape[static_cast<int>(d - 1)]) {
      at[d - 1] = box.offset[d - 1];
      --d;
    }
    if (d == 0) return;
  }
}

}  // namespace

void write_shard(const std::filesystem::path& shard, std::span<const TensorPiece> pieces,
                 const std::function<std::span<const std::byte>(std::size_t)>& bytes, ordered_json& tensors) {
  std::vector<hub::TensorSpec> specs;
  for (const auto& piece : pieces) {
    // A tensor's name where the shard has all of it, as always with one rank.
    const bool whole = piece.region.shape == piece.shape;
    const std::string key =
        whole ? piece.name : fmt::format("{}@{}", piece.name, fmt::join(piece.region.offset, ","));
    HONE_CHECK(lies_in(piece.region, piece.shape), "{} {} of {}", piece.name, describe(piece.region),
               piece.shape.str());
    specs.push_back({key, &hub::stored_type(piece.dtype), piece.region.shape});
  }
  hub::SafetensorsWriter writer(shard, specs, std::nullopt);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const TensorPiece& piece = pieces[i];
    const auto values = bytes(i);
    writer.write(specs[i].name, values);
    ordered_json& tensor = tensors[piece.name];
    if (tensor.is_null())
      tensor = {
          {"dtype", name_of(piece.dtype)}, {"shape", piece.shape.dims()}, {"pieces", ordered_json::array()}};
    tensor["pieces"].push_back({{"shard", shard.filename().string()},
                                {"key", specs[i].name},
                                {"offset", piece.region.offset},
                                {"shape", piece.region.shape.dims()},
                                {"hash", hash_text(values)}});
  }
  writer.finish();
}

SavedTensors::SavedTensors(std::filesystem::path checkpoint, JsonNode tensors)
    : checkpoint_(std::move(checkpoint)), listed_(std::move(tensors)) {
  for (const auto& [name, tensor] : listed_.members()) {
    for (const auto& piece : tensor.at("pieces").elements()) {
      const std::string shard = piece.at("shard").as_string();
      auto& file = shards_[shard];
      if (file) continue;
      const std::filesystem::path plain(shard);
      if (plain.filename() != plain || shard == "." || shard == "..")
        fail("{}: '{}' is not the name of a file of the checkpoint", checkpoint_.string(), shard);
      file = hub::SafetensorsFile::open(checkpoint_ / plain);
    }
  }
}

/// The pieces that share something with a region: of a region without elements none.
std::vector<SavedTensors::Piece> SavedTensors::pieces_of(const std::string& name, const Shape& shape,
                                                         const Region& region, DType dtype) const {
  const auto broken = [&](const std::string& what) { fail("{}: {}: {}", checkpoint_.string(), name, what); };
  if (!has(name)) fail("{}: has no tensor {}", checkpoint_.string(), name);
  const JsonNode listed = listed_.at(name);
  const Shape stored(read_integers(listed.at("shape")));
  if (stored != shape) broken(fmt::format("has shape {}, the model's has {}", stored.str(), shape.str()));
  if (listed.at("dtype").as_string() != name_of(dtype))
    broken(fmt::format("is {}, expected {}", listed.at("dtype").as_string(), name_of(dtype)));
  std::vector<Piece> pieces;
  std::int64_t covered = 0;
  for (const auto& node : listed.at("pieces").elements()) {
    Piece piece{{read_integers(node.at("offset")), Shape(read_integers(node.at("shape")))},
                node.at("shard").as_string(),
                node.at("key").as_string(),
                node.at("hash").as_string()};
    if (!lies_in(piece.region, shape)) broken("has no place for a piece of " + describe(piece.region));
    const auto shared = shared_by(piece.region, region);
    if (!shared || shared->shape.numel() == 0) continue;
    for (const auto& other : pieces)
      if (shared_by(piece.region, other.region))
        broken(fmt::format("two pieces overlap, {} and {}", describe(other.region), describe(piece.region)));
    covered += shared->shape.numel();
    pieces.push_back(std::move(piece));
  }
  if (covered != region.shape.numel())
    broken(fmt::format("pieces are missing: they hold {} of the {} elements of {}", covered,
                       region.shape.numel(), describe(region)));
  return pieces;
}

std::span<const std::byte> SavedTensors::bytes_of(const std::string& name, const Piece& piece,
                                                  DType dtype) const {
  const auto& file = shard(piece.shard);
  const auto* stored = file.find(piece.key);
  if (stored == nullptr) fail("{}: has no tensor {}", file.path().string(), piece.key);
  if (stored->spec.shape != piece.region.shape || stored->spec.type != &hub::stored_type(dtype))
    fail("{}: {} is {} {}, the index has {} {}", file.path().string(), piece.key, stored->spec.type->name,
         stored->spec.shape.str(), name_of(dtype), piece.region.shape.str());
  const auto bytes = file.bytes(*stored);
  if (hash_text(bytes) != piece.hash)
    fail("{}: the bytes of {} are not those that were written", file.path().string(), name);
  return bytes;
}

void SavedTensors::read(const std::string& name, const Shape& shape, const Region& region,
                        std::span<std::byte> to, DType dtype) const {
  HONE_CHECK(
      lies_in(region, shape) && to.size() == static_cast<std::size_t>(region.shape.numel()) * size_of(dtype),
      "{} {} of {} in {} bytes", name, describe(region), shape.str(), to.size());
  for (const auto& piece : pieces_of(name, shape, region, dtype))
    copy_box(*shared_by(piece.region, region), piece.region, bytes_of(name, piece, dtype), region, to,
             size_of(dtype));
}

std::span<const std::byte> SavedTensors::bytes(const std::string& name, const Shape& shape,
                                               DType dtype) const {
  const Region whole = Region::whole(shape);
  const auto pieces = pieces_of(name, shape, whole, dtype);
  if (pieces.size() == 1) return bytes_of(name, pieces[0], dtype);
  assembled_.resize(static_cast<std::size_t>(shape.numel()) * size_of(dtype));
  read(name, shape, whole, assembled_, dtype);
  return assembled_;
}

model::CausalLM::Values SavedTensors::masters() const {
  return [this, last = std::string()](const model::Parameter& p) mutable -> std::optional<hub::Source> {
    release(last);
    last = "master." + p.spec.name;
    if (!has(last)) return std::nullopt;
    const bool own = listed_.at(last).at("dtype").as_string() == name_of(DType::kBF16);  // rounded at random
    const DType dtype = own ? DType::kBF16 : DType::kF32;
    return hub::Source{bytes(last, p.spec.shape, dtype).data(), dtype};
  };
}

void SavedTensors::release(std::string_view name) const {
  const auto listed = listed_.find(name);
  if (!listed) return;
  for (const auto& piece : listed->at("pieces").elements()) {
    const auto& file = shard(piece.at("shard").as_string());
    if (const auto* stored = file.find(piece.at("key").as_string())) file.release(*stored);
  }
}

}  // namespace hone::train
