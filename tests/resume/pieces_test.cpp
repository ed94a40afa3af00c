// Checkpoints whose tensors lie in pieces, as ranks will write them, are those of the whole.
#include <array>

#include "json/node.h"
#include "tests/resume/runs.h"
#include "train/saved_tensors.h"

namespace hone::test {
namespace {

using train::Region;
using train::SavedTensors;
using train::TensorPiece;

/// At most `count` boxes of odd sizes that fill a tensor.
std::vector<Region> cut(const Shape& shape, std::size_t count) {
  std::vector<Region> boxes{Region::whole(shape)};
  for (std::size_t i = 0; boxes.size() < count && i < 4 * count; ++i) {
    Region box = boxes.front();
    boxes.erase(boxes.begin());
    const int d = shape.rank() == 0 ? 0 : static_cast<int>(i) % shape.rank();
    if (shape.rank() == 0 || box.shape[d] < 2) {
      boxes.push_back(box);
      continue;
    }
    const std::int64_t first = std::max<std::int64_t>(1, box.shape[d] * 3 / 7);
    auto low = box.shape.dims(), high = box.shape.dims();
    low[static_cast<std::size_t>(d)] = first;
    high[static_cast<std::size_t>(d)] -= first;
    boxes.push_back({box.offset, Shape(low)});
    box.offset[static_cast<std::size_t>(d)] += first;
    boxes.push_back({box.offset, Shape(high)});
  }
  return boxes;
}

Shape shape_of(const Json& tensor) {
  return Shape(tensor.at("shape").get<std::vector<std::int64_t>>());
}

/// Writes a checkpoint anew: every tensor in five pieces, over three files of other names.
void cut_checkpoint(const Path& checkpoint) {
  auto index = nlohmann::ordered_json::parse(read(checkpoint / "index.json"));
  std::array<std::vector<TensorPiece>, 3> shards;
  std::array<std::vector<std::vector<std::byte>>, 3> values;
  std::size_t next = 0;
  {
    const SavedTensors saved(checkpoint, JsonNode::read(checkpoint / "index.json").at("tensors"));
    for (const auto& name : saved.names()) {
      const Shape shape = shape_of(index["tensors"][name]);
      for (const Region& region : cut(shape, 5)) {
        auto& bytes =
            values[next % 3].emplace_back(static_cast<std::size_t>(region.shape.numel()) * sizeof(float));
        saved.read(name, shape, region, bytes);
        shards[next++ % 3].push_back({name, shape, region, DType::kF32});
      }
    }
  }
  std::filesystem::remove(checkpoint / "rank-00000-of-00001.safetensors");
  auto& tensors = index["tensors"] = nlohmann::ordered_json::object();
  const char* names[] = {"z.safetensors", "a.safetensors", "rank-7.safetensors"};
  for (std::size_t i = 0; i < 3; ++i)
    train::write_shard(
        checkpoint / names[i], shards[i], [&](std::size_t piece) { return std::span(values[i][piece]); },
        tensors);
  write(checkpoint / "index.json", index.dump(1));
}

class Pieces : public Resume {
 protected:
  const std::vector<std::string> constant_{"train.schedule.type=constant"};
  std::vector<std::string> with(const std::string& output, std::vector<std::string> more) const {
    more.insert(more.begin(), constant_.begin(), constant_.end());
    return args(output, std::move(more));
  }
};

TEST_F(Pieces, ARunGoesOnFromFiveOddPiecesOverThreeFiles) {
  workspace_.succeed(with("whole", {}));
  workspace_.succeed(with("run", {"train.steps=6"}));
  const Path checkpoint = workspace_ / "run" / newest_checkpoint("run");
  workspace_.succeed({"export", checkpoint.string(), "before"});
  cut_checkpoint(checkpoint);
  const auto index = Json::parse(read(checkpoint / "index.json"));
  std::size_t most = 0;
  for (const auto& tensor : index["tensors"]) most = std::max(most, tensor["pieces"].size());
  EXPECT_EQ(most, 5U);
  workspace_.succeed({"export", checkpoint.string(), "after"});
  EXPECT_TRUE(workspace_.files("before") == workspace_.files("after"));
  workspace_.succeed(with("run", {"--extend"}));
  EXPECT_TRUE(workspace_.files("run/model") == workspace_.files("whole/model"));
  EXPECT_TRUE(read(workspace_ / "run" / newest_checkpoint("run") / kShard) ==
              read(workspace_ / "whole" / newest_checkpoint("whole") / kShard));
}

TEST_F(Pieces, WhatIsMissingOrRottenIsNoticed) {
  workspace_.succeed(with("run", {"train.steps=2"}));
  const Path checkpoint = workspace_ / "run" / newest_checkpoint("run");
  cut_checkpoint(checkpoint);
  const auto index = Json::parse(read(checkpoint / "index.json"));
  const std::string name = "master.model.embed_tokens.weight";
  const Shape shape = shape_of(index.at("tensors").at(name));
  std::vector<std::byte> bytes(static_cast<std::size_t>(shape.numel()) * sizeof(float));
  const auto expect_refused = [&](const std::function<void(Json&)>& change, const std::string& wanted) {
    Json changed = index;
    change(changed.at("tensors").at(name));
    try {
      const SavedTensors saved(checkpoint, JsonNode::parse(changed.at("tensors").dump(), "index.json"));
      saved.read(name, shape, Region::whole(shape), bytes);
      FAIL() << "read, where it should say: " << wanted;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUser);
      EXPECT_NE(std::string(error.what()).find(wanted), std::string::npos) << error.what();
    }
  };
  expect_refused([](Json& t) { t["pieces"].erase(2); }, "pieces are missing: they hold ");
  expect_refused([](Json& t) { t["pieces"].push_back(t["pieces"][0]); }, "two pieces overlap");
  expect_refused([](Json& t) { t["pieces"][0]["offset"][0] = 1 << 20; }, "has no place for a piece of ");
  expect_refused([](Json& t) { t["pieces"][0]["offset"][0] = -1; }, "has no place for a piece of ");
  expect_refused([](Json& t) { t["pieces"][0]["offset"].push_back(0); }, "has no place for a piece of ");
  expect_refused([](Json& t) { t["pieces"][1]["key"] = "other"; }, "has no tensor other");
  expect_refused([](Json& t) { t["pieces"][1]["hash"] = "0123456789abcdef"; },
                 "are not those that were written");
  expect_refused([](Json& t) { t["pieces"][1]["shard"] = "../z.safetensors"; }, "is not the name of a file");
  expect_refused([](Json& t) { t["pieces"][1]["shard"] = ".."; }, "is not the name of a file");
  expect_refused([](Json& t) { t["shape"][0] = 3; }, "has shape (3, ");
  expect_refused([](Json& t) { t["dtype"] = "bf16"; }, "is bf16, expected f32");
}

TEST_F(Pieces, AnyRegionIsReadFromAnyPieces) {
  workspace_.succeed(with("run", {"train.steps=2"}));
  const Path checkpoint = workspace_ / "run" / newest_checkpoint("run");
  const auto open = [&] {
    return SavedTensors(checkpoint, JsonNode::read(checkpoint / "index.json").at("tensors"));
  };
  const std::string name = "master.model.embed_tokens.weight";
  const Shape shape = shape_of(Json::parse(read(checkpoint / "index.json")).at("tensors").at(name));
  const std::int64_t rows = shape[0], cols = shape[1];
  std::vector<float> whole(static_cast<std::size_t>(rows * cols));
  open().read(name, shape, Region::whole(shape), std::as_writable_bytes(std::span(whole)));
  cut_checkpoint(checkpoint);
  const SavedTensors saved = open();
  for (const Region& region :
       {Region{{0, 0}, {rows, 1}}, Region{{1, 2}, {rows - 3, cols - 5}}, Region{{rows - 1, cols - 1}, {1, 1}},
        Region{{rows / 2, 0}, {1, cols}}, Region{{3, 3}, {0, 4}}}) {
    std::vector<float> part(static_cast<std::size_t>(region.shape.numel()));
    saved.read(name, shape, region, std::as_writable_bytes(std::span(part)));
    for (std::int64_t i = 0; i < region.shape[0]; ++i)
      for (std::int64_t j = 0; j < region.shape[1]; ++j)
        ASSERT_EQ(part[static_cast<std::size_t>(i * region.shape[1] + j)],
                  whole[static_cast<std::size_t>((region.offset[0] + i) * cols + region.offset[1] + j)])
            << i << ", " << j;
  }
}

}  // namespace
}  // namespace hone::test
