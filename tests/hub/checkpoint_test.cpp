// Checkpoint directories: opened as Transformers opens them, and written back byte for byte.
#include "hub/checkpoint.h"

#include "hub/checkpoint_writer.h"
#include "json/node.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::file_of;
using test::files_below;
using test::is_internal_error;
using test::TemporaryDirectory;
using test::write_text;

/// A file of U8 tensors, one byte each: the first letter of the name.
std::string tiny_file(const std::vector<std::string>& names) {
  std::string header = "{";
  std::string data;
  for (const auto& name : names) {
    header += fmt::format("{}\"{}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{},{}]}}",
                          data.empty() ? "" : ",", name, data.size(), data.size() + 1);
    data += name[0];
  }
  return file_of(header + "}", data);
}

/// Two shards: a and b in one, c in two.
void write_sharded(const fs::path& directory, std::string_view index) {
  write_text(directory / "one.safetensors", tiny_file({"a", "b"}));
  write_text(directory / "two.safetensors", tiny_file({"c"}));
  write_text(directory / kIndexFile, index);
}

TEST(Checkpoint, OpensASingleFile) {
  const TemporaryDirectory directory;
  write_text(directory / "model.safetensors", tiny_file({"b", "a"}));
  write_text(directory / kIndexFile, "broken");  // Transformers looks at the single file first
  const auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_EQ(checkpoint.tensors().size(), 2U);
  EXPECT_EQ(checkpoint.tensors()[0].name(), "b");
  EXPECT_EQ(checkpoint.index_text(), std::nullopt);
  EXPECT_EQ(checkpoint.listing(), directory / "model.safetensors");
  EXPECT_EQ(checkpoint.total_bytes(), 2U);
  EXPECT_EQ(checkpoint.find("absent"), nullptr);
}

TEST(Checkpoint, OpensShards) {
  const TemporaryDirectory directory;
  write_sharded(
      directory.path(),
      R"({"metadata":{"total_size":3.0},"weight_map":{"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"}})");
  const auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_EQ(checkpoint.shards().size(), 2U);
  const auto* c = checkpoint.find("c");
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(checkpoint.file_of(*c).filename(), "two.safetensors");
  EXPECT_EQ(checkpoint.bytes(*c)[0], std::byte{'c'});
  checkpoint.release(*c);
  EXPECT_EQ(checkpoint.bytes(*c)[0], std::byte{'c'});
}

TEST(Checkpoint, RefusesAnIndexThatLies) {
  const std::vector<std::pair<std::string, std::string>> lies{
      {"{", "index.json:1:"},
      {"[]", "has no object weight_map"},
      {"{\"weight_map\": []}", "has no object weight_map"},
      {"{\"weight_map\": {}}", "weight_map is empty"},
      {"{\"weight_map\": {\"a\": 1}}", "weight_map[a] is not a file name"},
      {"{\"weight_map\": {\"a\": \"one.safetensors\", \"a\": \"one.safetensors\"}}",
       "key \"a\" appears twice"},
      {"{\"weight_map\": {\"a\": \"../one.safetensors\"}}",
       "weight_map[a] is \"../one.safetensors\"; a shard is a file in"},
      {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "a shard is a file in the same directory"},
      {"{\"weight_map\": {\"a\": \"sub/one.safetensors\"}}", "a shard is a file in the same directory"},
      {"{\"weight_map\": {\"a\": \"x\\\\y\"}}", "a shard is a file in the same directory"},
      {"{\"weight_map\": {\"a\": \"one.safetensors\\u0000\"}}", "a shard is a file in the same directory"},
      {"{\"weight_map\": {\"a\": \"\"}}", "a shard is a file in the same directory"},
      {"{\"weight_map\": {\"a\": \"..\"}}", "a shard is a file in the same directory"},
      {"{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"three.safetensors\", \"c\": "
       "\"four.safetensors\"}}",
       "shard four.safetensors is missing (2 of 3 shards are); finish the download"},
      {"{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"one.safetensors\", \"c\": "
       "\"two.safetensors\", \"d\": "
       "\"two.safetensors\"}}",
       "weight_map puts tensor d into two.safetensors, which has no such tensor"},
      {"{\"weight_map\": {\"a\": \"two.safetensors\", \"b\": \"one.safetensors\", \"c\": "
       "\"two.safetensors\"}}",
       "weight_map puts tensor a into two.safetensors, but it lies in one.safetensors"},
      {"{\"weight_map\": {\"a\": \"one.safetensors\", \"c\": \"two.safetensors\"}}",
       "tensor b of one.safetensors is not in weight_map"},
  };
  for (const auto& [index, message] : lies) {
    const TemporaryDirectory directory;
    write_sharded(directory.path(), index);
    const std::string what = error_of([&] { Checkpoint::open(directory.path()); });
    EXPECT_CONTAINS(what, message);
    EXPECT_CONTAINS(what, kIndexFile);
  }
}

TEST(Checkpoint, RefusesATensorInTwoShards) {
  const TemporaryDirectory directory;
  write_sharded(directory.path(), R"({"weight_map":{"a":"one.safetensors","c":"two.safetensors"}})");
  write_text(directory / "two.safetensors", tiny_file({"c", "a"}));
  EXPECT_CONTAINS(error_of([&] { Checkpoint::open(directory.path()); }),
                  "two.safetensors: tensor a is also in one.safetensors");
}

TEST(Checkpoint, SaysWhatElseLiesThereAndWhatToDo) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{}, "a checkpoint directory holds one of them"},
      {{"pytorch_model.bin"}, "pytorch_model.bin holds PyTorch weights"},
      {{"pytorch_model.bin.index.json"}, "holds PyTorch weights"},
      {{"consolidated.00.pth"}, "holds PyTorch weights"},
      {{"model-q4.gguf", "config.json"}, "model-q4.gguf is a GGUF file"},
      {{"model-00001-of-00002.safetensors"}, "the index that lists them is missing"},
      {{"adapter_config.json", "adapter_model.safetensors"}, "belongs to an adapter"},
      {{"model.fp16.safetensors"}, "is not a file that Transformers would load"},
  };
  for (const auto& [files, message] : cases) {
    const TemporaryDirectory directory;
    for (const auto& file : files) write_text(directory / file, "x");
    const std::string what = error_of([&] { Checkpoint::open(directory.path()); });
    EXPECT_CONTAINS(what,
                    directory.path().string() + ": no model.safetensors and no model.safetensors.index.json");
    EXPECT_CONTAINS(what, message);
  }
  const TemporaryDirectory directory;
  EXPECT_CONTAINS(error_of([&] { Checkpoint::open(directory / "absent"); }), "absent: no such directory");
  write_text(directory / "model.safetensors", tiny_file({"a"}));
  EXPECT_CONTAINS(error_of([&] { Checkpoint::open(directory / "model.safetensors"); }), "is a file");
}

TEST(Checkpoint, RefusesAnAdapterBesideFullWeights) {
  const TemporaryDirectory directory;
  write_text(directory / "model.safetensors", tiny_file({"a"}));
  write_text(directory / "adapter_model.safetensors", tiny_file({"l"}));
  EXPECT_NO_THROW(Checkpoint::open(directory.path()));  // as Transformers, which looks for the configuration
  write_text(directory / "adapter_config.json", "{}");
  EXPECT_CONTAINS(error_of([&] { Checkpoint::open(directory.path()); }),
                  "holds an adapter (adapter_config.json) beside the full weights");
}

/// Writes `source` again through a writer, tensors in reverse order, other files copied.
std::vector<std::string> rewrite(const fs::path& source, const fs::path& target, IfExists if_exists) {
  const auto checkpoint = Checkpoint::open(source);
  auto writer = CheckpointWriter::like(checkpoint, target, if_exists);
  const auto others = OtherFiles::list(source);
  writer.add_files(others);
  std::vector<std::string> left_out;
  for (const auto& name : others.left_out())
    if (!writer.own_files().contains(name)) left_out.push_back(name);
  for (auto tensor = checkpoint.tensors().rbegin(); tensor != checkpoint.tensors().rend(); ++tensor)
    writer.write(tensor->name(), checkpoint.bytes(*tensor));
  writer.publish();
  return left_out;
}

TEST(CheckpointWriter, WritesEveryGoldenCheckpointBackByteForByte) {
  int seen = 0;
  int sharded = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(HONE_TEST_DATA) / "golden")) {
    if (!entry.is_directory()) continue;
    const TemporaryDirectory directory;
    const auto left_out = rewrite(entry.path(), directory / "m", IfExists::kRefuse);
    EXPECT_EQ(left_out, std::vector<std::string>{"golden.safetensors"});
    auto expected = files_below(entry.path());
    expected.erase("golden.safetensors");
    EXPECT_EQ(files_below(directory / "m"), expected) << entry.path();
    ++seen;
    sharded += expected.contains(kIndexFile) ? 1 : 0;
  }
  EXPECT_GE(seen, 8);
  EXPECT_GE(sharded, 1);
}

TEST(CheckpointWriter, MayReplaceTheCheckpointItReads) {
  const TemporaryDirectory directory;
  write_sharded(
      directory / "m",
      R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}})");
  const auto before = files_below(directory / "m");
  rewrite(directory / "m", directory / "m", IfExists::kMerge);
  EXPECT_EQ(files_below(directory / "m"), before);
  EXPECT_EQ(test::names_in(directory.path()), std::vector<std::string>{"m"});
}

TEST(CheckpointWriter, RefusesToPublishHalfACheckpoint) {
  const TemporaryDirectory directory;
  write_text(directory / "s/model.safetensors", tiny_file({"a", "b"}));
  const auto checkpoint = Checkpoint::open(directory / "s");
  {
    auto writer = CheckpointWriter::like(checkpoint, directory / "m");
    writer.write("a", checkpoint.bytes(*checkpoint.find("a")));
    EXPECT_TRUE(is_internal_error([&] { writer.write("a", checkpoint.bytes(*checkpoint.find("a"))); }));
    EXPECT_TRUE(is_internal_error([&] { writer.write("x", {}); }));
    EXPECT_TRUE(is_internal_error([&] { writer.publish(); }));
  }
  EXPECT_EQ(test::names_in(directory.path()), std::vector<std::string>{"s"});
}

TEST(CheckpointWriter, WritesTensorsWithoutBytes) {
  const TemporaryDirectory directory;
  const std::string content = file_of(
      R"({"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      "x");
  write_text(directory / "s/model.safetensors", content);
  write_text(directory / "t/model.safetensors", file_of("{}", ""));
  for (const char* name : {"s", "t"}) {
    rewrite(directory / name, directory / (std::string(name) + "2"), IfExists::kRefuse);
    EXPECT_EQ(files_below(directory / (std::string(name) + "2")), files_below(directory / name));
  }
}

TEST(CheckpointWriter, CopiesWhatIsNotWeightsAndListsTheRest) {
  const TemporaryDirectory directory;
  const fs::path source = directory / "s";
  const std::vector<std::string> copied{"config.json",    "generation_config.json",
                                        "tokenizer.json", "tokenizer.model",
                                        "LICENSE",        "README.md",
                                        "merges.txt",     "modeling_x.py",
                                        ".gitattributes", "chat_template.jinja",
                                        "vocab.json",     "trainer_state.json",
                                        "figures/a.png",  "additional_chat_templates/tool_use.jinja"};
  const std::vector<std::string> left_out{"Model.GGUF",
                                          "checkpoint-10/",
                                          "consolidated.safetensors",
                                          "model.fp16.safetensors",
                                          "onnx/",
                                          "optimizer.pt",
                                          "original/",
                                          "pytorch_model.bin",
                                          "pytorch_model.bin.index.json",
                                          "sub/x.onnx"};
  for (const auto& name : copied) write_text(source / name, "content of " + name);
  for (const auto& name : left_out)
    write_text(name.back() == '/' ? source / (name + "config.json") : source / name, "weights");
  write_text(source / "model.safetensors", tiny_file({"a"}));
  write_text(source / kIndexFile, "belongs to the weights too");
  write_text(source / ".git/config", "");
  write_text(source / ".cache/huggingface/x", "");
  write_text(source / "run/metrics.jsonl", "");  // the output lies inside its source
  EXPECT_EQ(rewrite(source, source / "run/model", IfExists::kRefuse), left_out);
  std::map<std::string, std::string> expected{{"model.safetensors", tiny_file({"a"})}};
  for (const auto& name : copied) expected[name] = "content of " + name;
  EXPECT_EQ(files_below(source / "run/model"), expected);
}

TEST(CheckpointWriter, KeepsAFileTheCallerWrote) {
  const TemporaryDirectory directory;
  write_text(directory / "s/config.json", "old");
  auto writer = CheckpointWriter::fresh({}, directory / "m");
  writer.add_file("config.json", "new");
  writer.add_file("sub/x.txt", "x");
  EXPECT_TRUE(is_internal_error([&] { writer.add_file("../x", ""); }));
  EXPECT_TRUE(is_internal_error([&] { writer.add_file("a/../../x", ""); }));
  EXPECT_TRUE(is_internal_error([&] { writer.add_file("/x", ""); }));
  EXPECT_TRUE(writer.add_files(OtherFiles::list(directory / "s")).empty());
  writer.publish();
  EXPECT_EQ(test::read_text(directory / "m/config.json"), "new");
  EXPECT_EQ(test::read_text(directory / "m/sub/x.txt"), "x");
}

std::vector<NewTensor> tensors_of_sizes(const std::vector<std::int64_t>& sizes,
                                        const std::vector<int>& groups = {}) {
  std::vector<NewTensor> tensors;
  for (std::size_t i = 0; i < sizes.size(); ++i)
    tensors.push_back(
        {{fmt::format("t{}", i), find_stored_type("U8"), Shape{sizes[i]}}, groups.empty() ? 0 : groups[i]});
  return tensors;
}

TEST(PlanShards, FollowsTheHubsGreedyRule) {
  using Shards = std::vector<std::vector<std::size_t>>;
  // The examples of split_torch_state_dict_into_shards' documentation.
  EXPECT_EQ(plan_shards(tensors_of_sizes({6, 6, 2, 6, 2, 2}), 10).shards, (Shards{{0}, {1, 2}, {3, 4, 5}}));
  // A tensor above the limit comes before the shard that is still open.
  EXPECT_EQ(plan_shards(tensors_of_sizes({1, 11, 1}), 10).shards, (Shards{{1}, {0, 2}}));
  EXPECT_EQ(plan_shards(tensors_of_sizes({1, 2}), 10).file_names,
            std::vector<std::string>{"model.safetensors"});
  const auto grouped = plan_shards(tensors_of_sizes({3, 3, 3, 3, 3}, {0, 1, 0, 1, 0}), 8);
  EXPECT_EQ(grouped.shards, (Shards{{0}, {1, 3}, {2, 4}}));
  EXPECT_EQ(grouped.total_bytes, 15U);
  EXPECT_EQ(grouped.file_names[2], "model-00003-of-00003.safetensors");
  EXPECT_EQ(plan_shards({}, 10).shards, Shards{{}});
}

TEST(MakeIndexText, EscapesAsPythonDoes) {
  EXPECT_EQ(make_index_text({{"b", "f"}, {"a é", "f"}}, 10, 5),
            "{\n  \"metadata\": {\n    \"total_parameters\": 5,\n    \"total_size\": 10\n  },\n  "
            "\"weight_map\": {\n    "
            "\"a \\u00e9\": \"f\",\n    \"b\": \"f\"\n  }\n}\n");
}

}  // namespace
}  // namespace hone::hub
