#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "hub/staged_directory.h"
#include "json/node.h"
#include "tensor/transfer.h"

namespace hone::train {

namespace {

using nlohmann::ordered_json;

constexpr const char* kShard = "rank-00000-of-00001.safetensors";
constexpr const char* kIndex = "index.json";
/// The format that is written. 1, of before 2026-11-27, lacks the fields from `started` on. A new number is
/// for what an older hone would read wrongly: it cannot continue such a run, and the newer one reads both.
constexpr int kVersion = 2;

ordered_json optional_number(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json history_json(const std::vector<Extension>& history) {
  ordered_json list = ordered_json::array();
  for (const auto& extension : history)
    list.push_back({{"step", extension.step}, {"changes", extension.changes}});
  return list;
}

ordered_json state_json(const TrainState& s) {
  return {{"step", s.step},
          {"epoch", s.cursor.epoch},
          {"pack", s.cursor.pack},
          {"updates", s.updates},
          {"last_norm", optional_number(s.last_norm)},
          {"tokens", s.tokens},
          {"supervised", s.supervised},
          {"seconds", s.seconds},
          {"average_loss", optional_number(s.average_loss)},
          {"consecutive_skips", s.consecutive_skips},
          {"best_eval_loss", optional_number(s.best_eval_loss)},
          {"best_step", s.best_step},
          {"evaluations_without_gain", s.evaluations_without_gain},
          {"stopped_early", s.stopped_early},
          {"finished", s.finished},
          {"started", s.started},
          {"expert_counts", s.expert_counts},
          {"waiting_row", s.waiting ? to_row(*s.waiting).dump() : ""},
          {"run_key", s.run_key},
          {"data_since", s.data_since},
          {"history", history_json(s.history)}};
}

std::optional<double> read_optional(const JsonNode& node) {
  return node.is_null() ? std::nullopt : std::optional(node.as_number());
}

/// index.json of a checkpoint in a format that this hone reads.
JsonNode read_index(const std::filesystem::path& checkpoint) {
  auto index = JsonNode::read(checkpoint / kIndex);
  if (index.at("format").as_string() != "hone-checkpoint")
    fail("{}: is not a checkpoint of hone", (checkpoint / kIndex).string());
  const std::int64_t version = index.at("version").as_integer();
  if (version > kVersion)
    throw NewerCheckpoint(fmt::format(
        "{}: written by a newer hone (checkpoint format {}, this one reads up to {}); continue with "
        "that version, nothing was changed",
        checkpoint.string(), version, kVersion));
  return index;
}

std::vector<Extension> read_history(const JsonNode& node) {
  std::vector<Extension> history;
  for (const auto& entry : node.elements()) {
    history.push_back({entry.at("step").as_integer(), {}});
    for (const auto& change : entry.at("changes").elements())
      history.back().changes.push_back(change.as_string());
  }
  return history;
}

std::vector<std::vector<std::int64_t>> read_counts(const JsonNode& node) {
  std::vector<std::vector<std::int64_t>> counts;
  for (const auto& layer : node.elements()) {
    counts.emplace_back();
    for (const auto& count : layer.elements()) counts.back().push_back(count.as_integer());
  }
  return counts;
}

}  // namespace

std::uint64_t CheckpointStore::size_bytes(const Optimizer& optimizer) {
  std::uint64_t bytes = 1 << 16;  // headers and index
  for (const auto& t : optimizer.state()) bytes += t.tensor.size_bytes() + 512;
  return bytes;
}

void CheckpointStore::save(ops::Context& context, const TrainState& state, const Optimizer& optimizer) const {
  try {
    write(context, state, optimizer);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUser) throw;
    fail("{}: could not be saved, older checkpoints are intact: {}", path_of(state.step).string(), e.what());
  }
}

void CheckpointStore::write(ops::Context& context, const TrainState& state,
                            const Optimizer& optimizer) const {
  std::filesystem::create_directories(directory_);
  hub::StagedDirectory staged(path_of(state.step), hub::IfExists::kReplace);
  ordered_json index{
      {"format", "hone-checkpoint"}, {"version", kVersion}, {"ranks", 1}, {"state", state_json(state)}};
  ordered_json& tensors = index["tensors"] = ordered_json::object();
  const auto values = optimizer.state();
  std::vector<TensorPiece> pieces;
  for (const auto& t : values)
    pieces.push_back({t.name, t.tensor.shape(), Region::whole(t.tensor.shape()), t.tensor.dtype()});
  std::optional<HostView> view;  // of one tensor at a time
  write_shard(
      staged.path() / kShard, pieces,
      [&](std::size_t i) { return view.emplace(context.stream(), values[i].tensor).bytes(); }, tensors);
  write_file_atomically(staged.path() / kIndex, index.dump(1) + "\n");
  staged.publish();
}

std::vector<std::int64_t> CheckpointStore::steps() const {
  std::vector<std::int64_t> result;
  if (!std::filesystem::is_directory(directory_)) return result;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-")) continue;
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
    if (error == std::errc{} && end == name.data() + name.size()) result.push_back(step);
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::vector<std::filesystem::path> CheckpointStore::all() const {
  std::vector<std::filesystem::path> result;
  for (const std::int64_t step : steps()) result.insert(result.begin(), path_of(step));
  return result;
}

void CheckpointStore::clean_up() const {
  if (!std::filesystem::is_directory(directory_)) return;
  std::vector<std::filesystem::path> leftovers;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    const std::string name = entry.path().filename().string();  // .step-N.partial, .step-N.previous
    if (name.starts_with(".step-")) leftovers.push_back(directory_ / name.substr(1, name.rfind('.') - 1));
  }
  for (const auto& target : leftovers) hub::StagedDirectory::clean_up(target);
}

TrainState CheckpointStore::load_state(const std::filesystem::path& checkpoint) {
  const auto s = read_index(checkpoint).at("state");
  TrainState state;
  state.step = s.at("step").as_integer();
  state.cursor = {s.at("epoch").as_integer(), s.at("pack").as_integer()};
  state.updates = s.at("updates").as_integer();
  state.tokens = s.at("tokens").as_integer();
  state.supervised = s.at("supervised").as_integer();
  state.seconds = s.at("seconds").as_number();
  state.average_loss = read_optional(s.at("average_loss"));
  state.consecutive_skips = s.at("consecutive_skips").as_integer();
  state.best_eval_loss = read_optional(s.at("best_eval_loss"));
  state.best_step = s.at("best_step").as_integer();
  state.finished = s.at("finished").as_bool();
  state.run_key = s.at("run_key").as_string();
  if (const auto norm = s.find("last_norm")) state.last_norm = read_optional(*norm);
  if (const auto started = s.find("started")) state.started = started->as_string();
  if (const auto counts = s.find("expert_counts")) state.expert_counts = read_counts(*counts);
  if (const auto row = s.find("waiting_row"); row && !row->as_string().empty())
    state.waiting = from_row(parse_json(row->as_string(), (checkpoint / kIndex).string()));
  if (const auto count = s.find("evaluations_without_gain"))
    state.evaluations_without_gain = count->as_integer();
  if (const auto early = s.find("stopped_early")) state.stopped_early = early->as_bool();
  if (const auto since = s.find("data_since")) state.data_since = since->as_integer();
  if (const auto history = s.find("history")) state.history = read_history(*history);
  return state;
}

SavedTensors open_tensors(const std::filesystem::path& checkpoint) {
  return {checkpoint, read_index(checkpoint).at("tensors")};
}

void CheckpointStore::load_tensors(const std::filesystem::path& checkpoint, ops::Context& context,
                                   Optimizer& optimizer) {
  const SavedTensors saved = open_tensors(checkpoint);
  for (const auto& t : optimizer.state()) {
    Staging staging(context.stream(), t.tensor);
    saved.read(t.name, t.tensor.shape(), Region::whole(t.tensor.shape()), staging.bytes(), t.tensor.dtype());
    staging.send();
    saved.release(t.name);
  }
  optimizer.masters_changed(context);
}

void CheckpointStore::set_aside(const std::vector<std::filesystem::path>& broken) const {
  for (const auto& path : broken) {
    const auto aside = directory_ / ("broken-" + path.filename().string());
    std::error_code error;
    std::filesystem::remove_all(aside, error);
    std::filesystem::rename(path, aside, error);
    if (error) fail("{}: cannot be moved to {}: {}", path.string(), aside.string(), error.message());
  }
}

void CheckpointStore::prune(std::int64_t keep_last, std::int64_t best) const {
  auto all = steps();
  const auto kept = std::min<std::size_t>(all.size(), static_cast<std::size_t>(keep_last));
  all.resize(all.size() - kept);
  for (const std::int64_t step : all) {
    if (step == best) continue;
    // Renamed first: a kill in the middle of the deletion must not leave half a checkpoint under its name.
    const auto doomed = directory_ / (".step-" + std::to_string(step) + ".partial");
    std::error_code error;
    std::filesystem::rename(path_of(step), doomed, error);
    if (!error) std::filesystem::remove_all(doomed, error);
  }
}

}  // namespace hone::train
