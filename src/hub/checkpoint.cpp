#include "hub/checkpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "base/message.h"
#include "hub/link.h"
#include "hub/tolerant_lookup.h"
#include "json/node.h"

namespace hone::hub {

namespace fs = std::filesystem;

namespace {

/// Says what else lies in a directory without safetensors weights, and what to do about it.
[[noreturn]] void fail_no_weights(const fs::path& directory) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored))
    names.insert(entry.path().filename().string());
  const auto first = [&](auto&& accept) {
    const auto found = std::find_if(names.begin(), names.end(), accept);
    return found == names.end() ? std::string() : *found;
  };
  const auto ending = [&](std::initializer_list<std::string_view> ends) {
    return first([&](const std::string& name) {
      return std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return name.ends_with(end); });
    });
  };
  const std::string lead = fmt::format("{}: no {} and no {}", directory.string(), kSingleFile, kIndexFile);
  if (const auto name = ending({".gguf"}); !name.empty())
    fail(
        "{}; {} is a GGUF file, made for inference: take the safetensors checkpoint that it was converted "
        "from",
        lead, shown(name));
  if (const auto name =
          first([](const auto& n) { return n.starts_with("model-0") && n.ends_with(".safetensors"); });
      !name.empty())
    fail("{}; there are shards ({}), but the index that lists them is missing: download it too", lead,
         shown(name));
  if (const auto name =
          first([](const auto& n) { return n == "adapter_model.safetensors" || n == "adapter_config.json"; });
      !name.empty())
    fail("{}; {} belongs to an adapter: give the directory of its base model", lead, name);
  if (const auto name = ending({".bin", ".pt", ".pth", ".bin.index.json"}); !name.empty())
    fail(
        "{}; {} holds PyTorch weights, which run code when they are read: convert them once with "
        "Transformers "
        "(AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR))",
        lead, shown(name));
  if (const auto name = ending({".safetensors", ".h5", ".msgpack", ".onnx"}); !name.empty())
    fail(
        "{}; {} is not a file that Transformers would load: convert the model with Transformers' "
        "save_pretrained",
        lead, shown(name));
  fail("{}; a checkpoint directory holds one of them beside config.json", lead);
}

}  // namespace

struct Checkpoint::State {
  fs::path directory;
  fs::path listing;
  std::vector<std::shared_ptr<const SafetensorsFile>> shards;
  std::vector<CheckpointTensor> tensors;
  std::unordered_map<std::string_view, std::size_t> by_name;
  std::unordered_multimap<std::string, std::size_t> by_plain_name;  // of tensors whose name is not plain
  std::optional<std::string> index_text;

  void add_shard(const fs::path& path) {
    const auto& file = shards.emplace_back(SafetensorsFile::open(path));
    for (const auto& stored : file->tensors()) {
      const auto [at, is_new] = by_name.emplace(stored.spec.name, tensors.size());
      if (!is_new)
        fail("{}: tensor {} is also in {}; a tensor may lie in one shard only", path.string(),
             shown(stored.spec.name), shards[tensors[at->second].shard]->path().filename().string());
      if (auto plain = plain_name(stored.spec.name); plain != stored.spec.name)
        by_plain_name.emplace(std::move(plain), tensors.size());
      tensors.push_back({shards.size() - 1, &stored});
    }
  }

  /// Opens the shards that the index names and holds the two against each other.
  void read_index() {
    const std::string name = listing.string();
    const nlohmann::ordered_json index = parse_json(*index_text, name);
    const auto map = index.is_object() ? index.find("weight_map") : index.end();
    if (map == index.end() || !map->is_object())
      fail("{}: has no object weight_map (tensor name -> file)", name);
    std::set<std::string> file_names;
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string()) fail("{}: weight_map[{}] is not a file name", name, shown(tensor));
      const auto& file_name = file.get_ref<const std::string&>();
      if (file_name.empty() || file_name == "." || file_name == ".." ||
          file_name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
        fail("{}: weight_map[{}] is \"{}\"; a shard is a file in the same directory", name, shown(tensor),
             shown(file_name));
      file_names.insert(file_name);
    }
    if (file_names.empty()) fail("{}: weight_map is empty", name);
    open_shards(file_names);
    for (const auto& [tensor, file] : map->items()) check_entry(tensor, file.get_ref<const std::string&>());
    if (map->size() == tensors.size()) return;
    std::set<std::string_view> listed;
    for (const auto& member : map->get_ref<const nlohmann::ordered_json::object_t&>())
      listed.insert(member.first);
    for (const auto& tensor : tensors)
      if (!listed.contains(tensor.name()))
        fail("{}: tensor {} of {} is not in weight_map; the index does not belong to these shards", name,
             shown(tensor.name()), shards[tensor.shard]->path().filename().string());
  }

 private:
  void open_shards(const std::set<std::string>& file_names) {
    std::vector<std::string> missing;
    std::error_code ignored;
    for (const auto& file_name : file_names) {
      check_link(directory / file_name);
      if (!fs::exists(directory / file_name, ignored)) missing.push_back(file_name);
    }
    if (!missing.empty())
      fail("{}: shard {} is missing ({} of {} shards are); finish the download", listing.string(),
           shown(missing[0]), missing.size(), file_names.size());
    for (const auto& file_name : file_names) add_shard(directory / file_name);
  }

  void check_entry(const std::string& tensor, const std::string& file_name) const {
    const auto found = by_name.find(tensor);
    if (found == by_name.end())
      fail("{}: weight_map puts tensor {} into {}, which has no such tensor", listing.string(), shown(tensor),
           shown(file_name));
    const auto actual = shards[tensors[found->second].shard]->path().filename().string();
    if (actual != file_name)
      fail("{}: weight_map puts tensor {} into {}, but it lies in {}", listing.string(), shown(tensor),
           shown(file_name), shown(actual));
  }
};

Checkpoint Checkpoint::open(const fs::path& directory) {
  std::error_code ignored;
  if (!fs::exists(directory, ignored)) fail("{}: no such directory", directory.string());
  if (!fs::is_directory(directory, ignored))
    fail("{}: is a file; give the checkpoint directory that holds it", directory.string());
  if (fs::exists(directory / "adapter_config.json", ignored) &&
      (fs::exists(directory / kSingleFile, ignored) || fs::exists(directory / kIndexFile, ignored)))
    fail(
        "{}: holds an adapter (adapter_config.json) beside the full weights; Transformers would add it to "
        "them, hone "
        "does not: merge it first (PEFT's merge_and_unload(), then save_pretrained(NEW_DIR)), or move the "
        "adapter's files away",
        directory.string());
  auto state = std::make_shared<State>();
  state->directory = directory;
  check_link(directory / kSingleFile);
  if (fs::exists(directory / kSingleFile, ignored)) {
    state->listing = directory / kSingleFile;
    state->add_shard(state->listing);
  } else if (check_link(directory / kIndexFile); fs::exists(directory / kIndexFile, ignored)) {
    state->listing = directory / kIndexFile;
    state->index_text = read_regular_file(state->listing);
    state->read_index();
  } else {
    fail_no_weights(directory);
  }
  return Checkpoint(std::move(state));
}

const fs::path& Checkpoint::directory() const {
  return state_->directory;
}

const std::vector<std::shared_ptr<const SafetensorsFile>>& Checkpoint::shards() const {
  return state_->shards;
}

const std::vector<CheckpointTensor>& Checkpoint::tensors() const {
  return state_->tensors;
}

const CheckpointTensor* Checkpoint::find(std::string_view name) const {
  const auto found = state_->by_name.find(name);
  return found == state_->by_name.end() ? nullptr : &state_->tensors[found->second];
}

std::vector<const CheckpointTensor*> Checkpoint::find_wrapped(std::string_view name) const {
  std::vector<const CheckpointTensor*> found;
  if (state_->by_plain_name.empty()) return found;
  const auto [begin, end] = state_->by_plain_name.equal_range(std::string(name));
  for (auto at = begin; at != end; ++at) found.push_back(&state_->tensors[at->second]);
  return found;
}

const std::optional<std::string>& Checkpoint::index_text() const {
  return state_->index_text;
}

const fs::path& Checkpoint::listing() const {
  return state_->listing;
}

const fs::path& Checkpoint::file_of(const CheckpointTensor& tensor) const {
  return state_->shards.at(tensor.shard)->path();
}

std::span<const std::byte> Checkpoint::bytes(const CheckpointTensor& tensor) const {
  return state_->shards.at(tensor.shard)->bytes(*tensor.stored);
}

PinnedBytes Checkpoint::to_pin(const CheckpointTensor& tensor) const {
  const auto& shard = *state_->shards.at(tensor.shard);
  return {shard.file(), shard.place_of(*tensor.stored), tensor.stored->size_bytes};
}

void Checkpoint::release(const CheckpointTensor& tensor) const {
  state_->shards.at(tensor.shard)->release(*tensor.stored);
}

std::uint64_t Checkpoint::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& tensor : tensors()) total += tensor.stored->size_bytes;
  return total;
}

}  // namespace hone::hub
