#include "hub/safetensors.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/message.h"
#include "json/node.h"

namespace hone::hub {

namespace {

using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little,
              "tensors are stored little-endian and used as they lie");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

/// Bytes of a tensor, or nullopt where the count leaves 63 bits or is not a whole number of bytes (packed
/// types).
std::optional<std::uint64_t> checked_size(const StoredType& type, const Shape& shape) {
  std::int64_t numel = 1;
  for (const std::int64_t dim : shape.dims())
    if (dim < 0 || __builtin_mul_overflow(numel, dim, &numel)) return std::nullopt;
  std::int64_t bits = 0;
  if (__builtin_mul_overflow(numel, type.bits, &bits) || bits % 8 != 0) return std::nullopt;
  return static_cast<std::uint64_t>(bits / 8);
}

/// One file's header being checked. Every complaint starts with the file's path.
class HeaderReader {
 public:
  explicit HeaderReader(const MappedFile& file) : path_(file.path().string()), file_(file) {}

  /// The JSON between the length and the data.
  std::string_view locate() {
    const auto bytes = file_.bytes();
    const std::string_view content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (is_lfs_pointer(content))
      fail("{}: is a Git LFS pointer, not the weights; run `git lfs pull` in its directory", path_);
    if (bytes.size() < kLengthBytes)
      fail("{}: {} bytes are too few for a safetensors file; the download or copy was cut short", path_,
           bytes.size());
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), kLengthBytes);
    if (length > kMaxHeaderBytes)
      fail(
          "{}: the header claims {} bytes, above the format's limit of {}; not a safetensors file, or "
          "damaged",
          path_, length, kMaxHeaderBytes);
    const std::uint64_t rest = bytes.size() - kLengthBytes;
    if (length > rest)
      fail("{}: the header claims {} bytes, only {} follow; the file is cut short or damaged", path_, length,
           rest);
    data_bytes_ = rest - length;
    return content.substr(kLengthBytes, length);
  }

  std::optional<Metadata> metadata(const Json& header) const {
    for (const auto& [name, value] : header.get_ref<const Json::object_t&>()) {
      if (name != kMetadataKey || value.is_null()) continue;
      if (!value.is_object()) fail("{}: {} is not an object of strings", path_, kMetadataKey);
      Metadata metadata;
      for (const auto& [key, text] : value.get_ref<const Json::object_t&>()) {
        if (!text.is_string()) fail("{}: {}.{} is not a string", path_, kMetadataKey, shown(key));
        metadata.emplace_back(key, text.get<std::string>());
      }
      return metadata;
    }
    return std::nullopt;
  }

  std::vector<StoredTensor> tensors(const Json& header) const {
    std::vector<StoredTensor> tensors;
    for (const auto& [name, entry] : header.get_ref<const Json::object_t&>())
      if (name != kMetadataKey) tensors.push_back(tensor(name, entry));
    check_cover(tensors);
    return tensors;
  }

 private:
  StoredTensor tensor(const std::string& name, const Json& entry) const {
    if (!entry.is_object()) fail("{}: tensor {} is not described by an object", path_, shown(name));
    const auto& type_name = field(name, entry, "dtype");
    if (!type_name.is_string()) fail("{}: tensor {}: dtype is not a string", path_, shown(name));
    const auto& type_text = type_name.get_ref<const std::string&>();
    const StoredType* type = find_stored_type(type_text);
    if (type == nullptr)
      fail("{}: tensor {} has unknown dtype \"{}\"; known: {}", path_, shown(name), shown(type_text, 40),
           stored_type_names());
    StoredTensor stored{{name, type, Shape(integers(name, entry, "shape"))}, 0, 0};
    const auto size = checked_size(*type, stored.spec.shape);
    if (!size)
      fail("{}: tensor {}: shape {} of {} is not a number of bytes that a file can hold", path_, shown(name),
           shown(stored.spec.shape.str()), type->name);
    const auto offsets = integers(name, entry, "data_offsets");
    if (offsets.size() != 2)
      fail("{}: tensor {}: data_offsets has {} numbers, expected 2", path_, shown(name), offsets.size());
    const auto begin = static_cast<std::uint64_t>(offsets[0]);
    const auto end = static_cast<std::uint64_t>(offsets[1]);
    if (begin > end || end > data_bytes_)
      fail(
          "{}: tensor {}: data_offsets [{}, {}] do not lie in the file's {} bytes of data; the file is cut "
          "short or "
          "damaged",
          path_, shown(name), begin, end, data_bytes_);
    if (end - begin != *size)
      fail("{}: tensor {}: data_offsets [{}, {}] hold {} bytes, {} of shape {} has {}", path_, shown(name),
           begin, end, end - begin, type->name, shown(stored.spec.shape.str()), *size);
    stored.begin = begin;
    stored.size_bytes = *size;
    return stored;
  }

  const Json& field(const std::string& name, const Json& entry, std::string_view key) const {
    for (const auto& [field_name, value] : entry.get_ref<const Json::object_t&>())
      if (field_name == key) return value;
    fail("{}: tensor {} has no {}", path_, shown(name), key);
  }

  std::vector<std::int64_t> integers(const std::string& name, const Json& entry, std::string_view key) const {
    const auto& list = field(name, entry, key);
    if (!list.is_array()) fail("{}: tensor {}: {} is not a list", path_, shown(name), key);
    std::vector<std::int64_t> values;
    for (const auto& value : list) {
      constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMax)
        fail("{}: tensor {}: {} holds {}, expected an integer from 0 to 2^63-1", path_, shown(name), key,
             shown(value.dump(), 60));
      values.push_back(value.get<std::int64_t>());
    }
    return values;
  }

  /// The tensors, in the order of their places, must tile the data.
  void check_cover(const std::vector<StoredTensor>& tensors) const {
    std::vector<std::size_t> order(tensors.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::pair(tensors[a].begin, tensors[a].size_bytes) <
             std::pair(tensors[b].begin, tensors[b].size_bytes);
    });
    std::uint64_t covered = 0;
    const StoredTensor* previous = nullptr;
    for (const std::size_t i : order) {
      const auto& tensor = tensors[i];
      if (tensor.begin > covered)
        fail("{}: tensor {} begins at byte {}, but the bytes from {} on belong to no tensor", path_,
             shown(tensor.spec.name), tensor.begin, covered);
      if (tensor.begin < covered)
        fail("{}: tensor {} begins at byte {}, inside tensor {} that ends at {}", path_,
             shown(tensor.spec.name), tensor.begin, shown(previous->spec.name), covered);
      covered += tensor.size_bytes;
      previous = &tensor;
    }
    if (covered != data_bytes_)
      fail("{}: the tensors cover {} bytes, but {} bytes of data follow the header", path_, covered,
           data_bytes_);
  }

  std::string path_;
  const MappedFile& file_;
  std::uint64_t data_bytes_ = 0;
};

void advise(std::span<const std::byte> bytes, int advice) {
  if (bytes.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto from = reinterpret_cast<std::uintptr_t>(bytes.data()) / page * page;
  const auto to = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size());
  ::madvise(reinterpret_cast<void*>(from), to - from, advice);  // advice only: a refusal changes nothing
}

std::string length_prefix(std::string_view header) {
  const std::uint64_t length = header.size();
  std::string prefix(kLengthBytes, '\0');
  std::memcpy(prefix.data(), &length, kLengthBytes);
  return prefix;
}

std::string joined(const Shape& shape) {
  std::string text;
  for (const auto dim : shape.dims()) text += fmt::format("{}{}", text.empty() ? "" : ",", dim);
  return text;
}

/// A JSON string literal as serde_json writes it: only quotes, backslashes and control characters are
/// escaped.
std::string json_quoted(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const nlohmann::json::exception&) {
    HONE_CHECK(false, "\"{}\" is not UTF-8 and cannot name a tensor", shown(text));
  }
}

}  // namespace

std::uint64_t TensorSpec::size_bytes() const {
  const auto size = checked_size(*type, shape);
  HONE_CHECK(size.has_value(), "tensor {} of shape {} has no size", name, shape.str());
  return *size;
}

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->map_ = MappedFile::open(path);
  HeaderReader reader(*file->map_);
  file->header_ = reader.locate();
  const Json header = parse_json(file->header_, path.string() + " (header)");
  if (!header.is_object()) fail("{}: the header is not a JSON object", path.string());
  file->metadata_ = reader.metadata(header);
  file->tensors_ = reader.tensors(header);
  for (std::size_t i = 0; i < file->tensors_.size(); ++i)
    file->by_name_.emplace(file->tensors_[i].spec.name, i);
  return file;
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const StoredTensor& tensor) const {
  return map_->bytes().subspan(place_of(tensor), tensor.size_bytes);
}

std::uint64_t SafetensorsFile::place_of(const StoredTensor& tensor) const {
  return kLengthBytes + header_.size() + tensor.begin;
}

void SafetensorsFile::release(const StoredTensor& tensor) const {
  advise(bytes(tensor), MADV_DONTNEED);
}

std::string make_header(std::vector<TensorSpec> tensors, const std::optional<Metadata>& metadata,
                        std::vector<StoredTensor>* placed) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return a.type->rank != b.type->rank ? a.type->rank > b.type->rank : a.name < b.name;
  });
  std::string header = "{";
  if (metadata) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : *metadata)
      header += fmt::format("{}{}:{}", header.back() == '{' ? "" : ",", json_quoted(key), json_quoted(value));
    header += "}";
  }
  std::uint64_t at = 0;
  for (auto& tensor : tensors) {
    const std::uint64_t size = tensor.size_bytes();
    header += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          header.size() > 1 ? "," : "", json_quoted(tensor.name), tensor.type->name,
                          joined(tensor.shape), at, at + size);
    if (placed != nullptr) placed->push_back({std::move(tensor), at, size});
    at += size;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                                     const std::optional<Metadata>& metadata)
    : file_(path) {
  std::vector<StoredTensor> placed;
  const std::string header = make_header(std::move(tensors), metadata, &placed);
  for (const auto& tensor : placed) add_slot(tensor, kLengthBytes + header.size());
  start(header);
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const SafetensorsFile& source)
    : file_(path) {
  for (const auto& tensor : source.tensors()) add_slot(tensor, kLengthBytes + source.header().size());
  start(source.header());
}

void SafetensorsWriter::add_slot(const StoredTensor& tensor, std::uint64_t data_offset) {
  const bool is_new =
      slots_.emplace(tensor.spec.name, Slot{data_offset + tensor.begin, tensor.size_bytes, 0}).second;
  HONE_CHECK(is_new, "two tensors are named {}", tensor.spec.name);
  missing_bytes_ += tensor.size_bytes;
}

void SafetensorsWriter::start(std::string_view header) {
  file_.reserve(kLengthBytes + header.size() + missing_bytes_);
  const std::string prefix = length_prefix(header);
  file_.write_at(0, std::as_bytes(std::span(prefix)));
  file_.write_at(kLengthBytes, std::as_bytes(std::span(header)));
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto slot = slots_.find(std::string(name));
  HONE_CHECK(slot != slots_.end() && slot->second.size_bytes == bytes.size(),
             "{}: {} bytes do not make tensor {}", path().string(), bytes.size(), name);
  write_part(name, 0, bytes);
}

void SafetensorsWriter::write_part(std::string_view name, std::uint64_t offset,
                                   std::span<const std::byte> bytes) {
  const auto found = slots_.find(std::string(name));
  HONE_CHECK(found != slots_.end(), "{} has no tensor {}", path().string(), name);
  auto& slot = found->second;
  HONE_CHECK(offset <= slot.size_bytes && bytes.size() <= slot.size_bytes - offset &&
                 bytes.size() <= slot.size_bytes - slot.written_bytes,
             "{}: bytes {}+{} of tensor {}, which has {}, {} of them written", path().string(), offset,
             bytes.size(), name, slot.size_bytes, slot.written_bytes);
  file_.write_at(slot.begin + offset, bytes);
  slot.written_bytes += bytes.size();
  missing_bytes_ -= bytes.size();
}

void SafetensorsWriter::finish() {
  for (const auto& [name, slot] : slots_)
    HONE_CHECK(slot.written_bytes == slot.size_bytes, "{}: {} of {} bytes of tensor {} were written",
               path().string(), slot.written_bytes, slot.size_bytes, name);
  file_.commit();
}

}  // namespace hone::hub
