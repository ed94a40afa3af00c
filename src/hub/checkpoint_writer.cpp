#include "hub/checkpoint_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/message.h"
#include "base/output_file.h"
#include "json/node.h"

namespace hone::hub {

namespace fs = std::filesystem;

namespace {

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

/// A tensor as it is to be stored; nullopt: it is not.
std::optional<TensorSpec> changed(const TensorSpec& spec, const StoredChanges& changes) {
  const auto found = changes.find(spec.name);
  return found == changes.end() ? spec : found->second;
}

/// An index as Transformers writes it, with other tensors and another size.
std::string changed_index(const std::string& index_text, const StoredChanges& changes,
                          std::uint64_t total_bytes) {
  auto index = parse_json(index_text, kIndexFile);
  index["metadata"]["total_size"] = total_bytes;
  auto& files = index["weight_map"];
  for (const auto& [name, spec] : changes) {
    if (spec && spec->name == name) continue;
    const auto file = files.find(name);
    if (file == files.end()) continue;
    if (spec) files[spec->name] = *file;
    files.erase(name);
  }
  return index.dump(2, ' ', true) + "\n";
}

/// True where `inner` is `outer` or lies below it.
bool lies_in(const fs::path& inner, const fs::path& outer) {
  const auto [left, right] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return left == outer.end();
}

/// "model-00001-of-00003.safetensors": the name that Transformers gives a shard, and by which it removes
/// stale ones.
bool is_shard_name(std::string_view name) {
  constexpr std::string_view kForm = "model-00000-of-00000.safetensors";
  return name.size() == kForm.size() &&
         std::equal(name.begin(), name.end(), kForm.begin(),
                    [](char a, char b) { return b == '0' ? a >= '0' && a <= '9' : a == b; });
}

}  // namespace

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

CheckpointWriter::CheckpointWriter(const fs::path& target, IfExists if_exists) : staged_(target, if_exists) {
  if (staged_.merges() && fs::exists(staged_.target() / "adapter_config.json"))
    fail(
        "{}: holds an adapter (adapter_config.json), which Transformers would load in place of the model; "
        "choose "
        "another directory",
        staged_.target().string());
}

CheckpointWriter CheckpointWriter::like(const Checkpoint& source, const fs::path& target, IfExists if_exists,
                                        const StoredChanges& changes) {
  CheckpointWriter writer(target, if_exists);
  bool is_changed = false;
  for (const auto& file : source.shards()) {
    Shard shard{file->path().filename().string(), std::nullopt, {}, file, false, file->metadata()};
    bool same = true;
    for (const auto& tensor : file->tensors()) {
      auto spec = changed(tensor.spec, changes);
      same = same && spec && spec->name == tensor.spec.name && spec->type == tensor.spec.type;
      if (!spec) continue;
      HONE_CHECK(writer.shard_of_.emplace(spec->name, writer.shards_.size()).second,
                 "two tensors are named {}", spec->name);
      shard.tensors.push_back(std::move(*spec));
    }
    if (!same) shard.source = nullptr;
    is_changed = is_changed || !same;
    writer.shards_.push_back(std::move(shard));
  }
  if (source.index_text())
    writer.add_file(kIndexFile,
                    is_changed ? changed_index(*source.index_text(), changes, size_bytes(source, changes))
                               : *source.index_text());
  return writer;
}

std::uint64_t CheckpointWriter::size_bytes(const Checkpoint& source, const StoredChanges& changes) {
  std::uint64_t total = 0;
  for (const auto& file : source.shards())
    for (const auto& tensor : file->tensors())
      if (const auto spec = changed(tensor.spec, changes)) total += spec->size_bytes();
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

std::set<std::string> CheckpointWriter::own_files() const {
  std::set<std::string> names{kIndexFile};
  for (const auto& shard : shards_) names.insert(shard.file_name);
  return names;
}

std::vector<std::string> CheckpointWriter::add_files(const OtherFiles& files) {
  const auto own = own_files();
  const auto holds_target = [&](const fs::path& name) {
    for (auto parent = name.parent_path(); !parent.empty(); parent = parent.parent_path())
      if (lies_in(target(), files.directory() / parent)) return true;
    return false;
  };
  std::vector<std::string> kept;
  for (const auto& file : files.files()) {
    const fs::path path = staged_.path() / file.name;
    if (own.contains(file.name.string()) || fs::exists(path) || holds_target(file.name)) continue;
    if (staged_.merges() && !is_model_file(file.name) &&
        fs::exists(fs::symlink_status(target() / file.name))) {
      kept.push_back(file.name.string());
      continue;
    }
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (error) fail("{}: cannot create: {}", path.parent_path().string(), error.message());
    OutputFile out(path);
    file.bytes.for_each_piece(
        [&](std::uint64_t offset, std::span<const std::byte> bytes) { out.write_at(offset, bytes); });
    out.commit();
  }
  return kept;
}

std::vector<fs::path> CheckpointWriter::obsolete_weights() const {
  auto own = own_files();
  if (shards_.size() == 1 && !fs::exists(staged_.path() / kIndexFile)) own.erase(kIndexFile);
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(target())) {
    const std::string name = entry.path().filename().string();
    const bool is_weights = name == kSingleFile || name == kIndexFile || is_shard_name(name);
    if (is_weights && !entry.is_directory() && !own.contains(name)) names.emplace_back(name);
  }
  return names;
}

void CheckpointWriter::publish() {
  for (auto& shard : shards_) {
    if (shard.is_finished) continue;
    writer_of(shard).finish();  // only tensors without bytes, or an error
    shard.writer.reset();
    shard.is_finished = true;
  }
  staged_.publish(staged_.merges() ? obsolete_weights() : std::vector<fs::path>{});
}

}  // namespace hone::hub
