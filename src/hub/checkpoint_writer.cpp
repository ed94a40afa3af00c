#include "hub/checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "hub/json_file.h"
#include "hub/message.h"

namespace hone::hub {

namespace fs = std::filesystem;

namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

/// The size that counts for sharding: of all tensors of a group at its first member, 0 at the others.
std::vector<std::uint64_t> block_sizes(const std::vector<NewTensor>& tensors) {
  std::vector<std::uint64_t> sizes(tensors.size(), 0);
  std::unordered_map<int, std::size_t> first_of_group;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const int group = tensors[i].group;
    const std::size_t first = group == 0 ? i : first_of_group.emplace(group, i).first->second;
    sizes[first] += tensors[i].spec.size_bytes();
  }
  return sizes;
}

TensorSpec with_type(TensorSpec spec, const StoredTypes& types) {
  const auto found = types.find(spec.name);
  if (found != types.end()) spec.type = found->second;
  return spec;
}

/// An index as Transformers writes it, with another size.
std::string with_total_size(const std::string& index_text, std::uint64_t total_bytes) {
  auto index = parse_json(index_text, kIndexFile);
  index["metadata"]["total_size"] = total_bytes;
  return index.dump(2, ' ', true) + "\n";
}

bool is_weight_file(const std::string& name) {
  static constexpr std::array<std::string_view, 18> kEnds{
      ".safetensors", ".bin",       ".pt",        ".pth",  ".ckpt",    ".gguf",
      ".ggml",        ".onnx",      ".onnx_data", ".h5",   ".msgpack", ".tflite",
      ".mlmodel",     ".mlpackage", ".npz",       ".nemo", ".pkl",     ".ot"};
  std::string stem = name;
  std::transform(stem.begin(), stem.end(), stem.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (constexpr std::string_view kIndex = ".index.json"; stem.ends_with(kIndex))
    stem.resize(stem.size() - kIndex.size());
  return std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) { return stem.ends_with(end); });
}

bool is_weight_directory(const std::string& name) {
  static const std::set<std::string, std::less<>> kNames{"original", "onnx",  "openvino", "coreml",
                                                         "gguf",     "metal", "mlx"};
  constexpr std::string_view kTrainer = "checkpoint-";
  const bool is_trainers = name.starts_with(kTrainer) && name.size() > kTrainer.size() &&
                           name.find_first_not_of("0123456789", kTrainer.size()) == std::string::npos;
  return is_trainers || kNames.contains(name) || name.ends_with(".mlpackage");
}

/// True where `inner` is `outer` or lies below it.
bool lies_in(const fs::path& inner, const fs::path& outer) {
  const auto [left, right] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return left == outer.end();
}

/// Copies a tree of files that are not weights.
class FileCopier {
 public:
  FileCopier(fs::path from, const StagedDirectory& to, const std::set<std::string>& own_files)
      : from_(std::move(from)), to_(to), own_files_(own_files) {}

  std::vector<std::string> run() {
    copy_directory("", 0);
    std::sort(left_out_.begin(), left_out_.end());
    return std::move(left_out_);
  }

 private:
  void copy_directory(const fs::path& relative, int depth) {
    if (depth > 16)
      fail("{}: directories nest too deep to copy; is there a loop of links?", (from_ / relative).string());
    for (const auto& entry : fs::directory_iterator(from_ / relative)) {
      const fs::path path = relative / entry.path().filename();
      if (entry.is_directory()) {
        visit_directory(path, depth);
      } else if (!own_files_.contains(path.string())) {
        copy_file(path, entry);
      }
    }
  }

  void visit_directory(const fs::path& path, int depth) {
    const fs::path real = fs::canonical(from_ / path);
    if (lies_in(to_.path(), real) || lies_in(to_.target(), real))
      return;                                               // what is being written, or what it replaces
    if (path.filename().string().starts_with('.')) return;  // .git, .cache: the tools' own
    if (is_left_out(path)) {
      left_out_.push_back(path.string() + "/");
      return;
    }
    copy_directory(path, depth + 1);
  }

  void copy_file(const fs::path& path, const fs::directory_entry& entry) {
    if (is_left_out(path)) {
      left_out_.push_back(path.string());
      return;
    }
    const fs::path target = to_.path() / path;
    if (fs::exists(target)) return;  // written by the caller already
    if (!fs::exists(entry.path())) fail("{}: is a broken link", entry.path().string());
    if (!entry.is_regular_file()) return;
    fs::create_directories(target.parent_path());
    fs::copy_file(entry.path(), target);
  }

  fs::path from_;
  const StagedDirectory& to_;
  const std::set<std::string>& own_files_;
  std::vector<std::string> left_out_;
};

}  // namespace

bool is_left_out(const fs::path& relative) {
  for (const auto& part : relative.parent_path())
    if (is_weight_directory(part.string())) return true;
  const std::string name = relative.filename().string();
  return is_weight_file(name) || is_weight_directory(name);
}

ShardLayout plan_shards(const std::vector<NewTensor>& tensors, std::uint64_t max_shard_bytes) {
  const auto sizes = block_sizes(tensors);
  ShardLayout layout;
  std::vector<std::size_t> open;
  std::uint64_t open_bytes = 0;
  std::unordered_map<int, std::size_t> first_of_group;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const int group = tensors[i].group;
    if (group != 0 && !first_of_group.emplace(group, i).second) continue;  // follows its first member below
    layout.total_bytes += sizes[i];
    if (sizes[i] > max_shard_bytes) {
      layout.shards.push_back({i});
      continue;
    }
    if (open_bytes + sizes[i] > max_shard_bytes) {
      layout.shards.push_back(std::exchange(open, {}));
      open_bytes = 0;
    }
    open.push_back(i);
    open_bytes += sizes[i];
  }
  if (!open.empty() || layout.shards.empty()) layout.shards.push_back(std::move(open));
  std::unordered_map<std::size_t, std::size_t> shard_of;
  for (std::size_t shard = 0; shard < layout.shards.size(); ++shard)
    for (const std::size_t i : layout.shards[shard]) shard_of.emplace(i, shard);
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (!shard_of.contains(i)) layout.shards[shard_of.at(first_of_group.at(tensors[i].group))].push_back(i);
  const std::size_t n = layout.shards.size();
  for (std::size_t shard = 0; shard < n; ++shard)
    layout.file_names.push_back(n == 1 ? kSingleFile
                                       : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, n));
  return layout;
}

std::string make_index_text(const std::map<std::string, std::string>& weight_map, std::uint64_t total_bytes,
                            std::uint64_t total_parameters) {
  // As json.dumps(index, indent=2, sort_keys=True) + "\n": nlohmann's sorted objects and ASCII output are the
  // same text.
  const nlohmann::json index{
      {"metadata", {{"total_parameters", total_parameters}, {"total_size", total_bytes}}},
      {"weight_map", weight_map}};
  return index.dump(2, ' ', true) + "\n";
}

CheckpointWriter CheckpointWriter::like(const Checkpoint& source, const fs::path& target, IfExists if_exists,
                                        const StoredTypes& types) {
  CheckpointWriter writer(target, if_exists);
  bool is_retyped = false;
  for (const auto& file : source.shards()) {
    Shard shard{file->path().filename().string(), std::nullopt, {}, file, false, file->metadata()};
    bool same = true;
    for (const auto& tensor : file->tensors()) {
      writer.shard_of_.emplace(tensor.spec.name, writer.shards_.size());
      shard.tensors.push_back(with_type(tensor.spec, types));
      same = same && shard.tensors.back().type == tensor.spec.type;
    }
    if (!same) shard.source = nullptr;
    is_retyped = is_retyped || !same;
    writer.shards_.push_back(std::move(shard));
  }
  if (source.index_text())
    writer.add_file(kIndexFile, is_retyped ? with_total_size(*source.index_text(), size_bytes(source, types))
                                           : *source.index_text());
  return writer;
}

std::uint64_t CheckpointWriter::size_bytes(const Checkpoint& source, const StoredTypes& types) {
  std::uint64_t total = 0;
  for (const auto& file : source.shards())
    for (const auto& tensor : file->tensors()) total += with_type(tensor.spec, types).size_bytes();
  return total;
}

CheckpointWriter CheckpointWriter::fresh(const std::vector<NewTensor>& tensors, const fs::path& target,
                                         IfExists if_exists, std::uint64_t max_shard_bytes,
                                         std::optional<std::uint64_t> total_parameters) {
  CheckpointWriter writer(target, if_exists);
  const ShardLayout layout = plan_shards(tensors, max_shard_bytes);
  std::map<std::string, std::string> weight_map;
  std::uint64_t elements = 0;
  for (std::size_t i = 0; i < layout.shards.size(); ++i) {
    Shard shard{layout.file_names[i], std::nullopt, {}, nullptr, false};
    for (const std::size_t t : layout.shards[i]) {
      const auto& spec = tensors[t].spec;
      HONE_CHECK(weight_map.emplace(spec.name, shard.file_name).second, "two tensors are named {}",
                 spec.name);
      writer.shard_of_.emplace(spec.name, i);
      elements += static_cast<std::uint64_t>(spec.shape.numel());
      shard.tensors.push_back(spec);
    }
    writer.shards_.push_back(std::move(shard));
  }
  if (layout.shards.size() > 1)
    writer.add_file(kIndexFile,
                    make_index_text(weight_map, layout.total_bytes, total_parameters.value_or(elements)));
  return writer;
}

SafetensorsWriter& CheckpointWriter::writer_of(Shard& shard) {
  if (!shard.writer) {
    const fs::path path = staged_.path() / shard.file_name;
    if (shard.source) {
      shard.writer.emplace(path, *shard.source);
    } else {
      shard.writer.emplace(path, shard.tensors, shard.metadata);
    }
  }
  return *shard.writer;
}

void CheckpointWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = shard_of_.find(std::string(name));
  HONE_CHECK(found != shard_of_.end(), "{} has no tensor {}", target().string(), name);
  auto& shard = shards_[found->second];
  if (shard.is_finished && bytes.empty()) return;
  HONE_CHECK(!shard.is_finished, "tensor {} is written twice", name);
  writer_of(shard).write(name, bytes);
  finish_if_complete(shard);
}

void CheckpointWriter::write_part(std::string_view name, std::uint64_t offset,
                                  std::span<const std::byte> bytes) {
  const auto found = shard_of_.find(std::string(name));
  HONE_CHECK(found != shard_of_.end(), "{} has no tensor {}", target().string(), name);
  auto& shard = shards_[found->second];
  if (shard.is_finished && bytes.empty()) return;
  HONE_CHECK(!shard.is_finished, "tensor {} is written twice", name);
  writer_of(shard).write_part(name, offset, bytes);
  finish_if_complete(shard);
}

void CheckpointWriter::finish_if_complete(Shard& shard) {
  if (!shard.writer->is_complete()) return;
  shard.writer->finish();
  shard.writer.reset();
  shard.is_finished = true;
}

void CheckpointWriter::add_file(const fs::path& name, std::string_view content) {
  const fs::path plain = name.lexically_normal();
  HONE_CHECK(plain.is_relative() && !plain.empty() && *plain.begin() != "..", "{} leads out of the directory",
             name.string());
  const fs::path path = staged_.path() / plain;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) fail("{}: cannot create: {}", path.parent_path().string(), error.message());
  write_file_atomically(path, content);
}

std::vector<std::string> CheckpointWriter::copy_other_files(const fs::path& source_directory) {
  std::set<std::string> own_files{kIndexFile};
  for (const auto& shard : shards_) own_files.insert(shard.file_name);
  try {
    return FileCopier(source_directory, staged_, own_files).run();
  } catch (const fs::filesystem_error& error) {
    fail("{}: cannot copy {}: {}", target().string(), error.path1().string(), error.code().message());
  }
}

void CheckpointWriter::publish() {
  for (auto& shard : shards_) {
    if (shard.is_finished) continue;
    writer_of(shard).finish();  // only tensors without bytes, or an error
    shard.writer.reset();
    shard.is_finished = true;
  }
  staged_.publish();
}

}  // namespace hone::hub
