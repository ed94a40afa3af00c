// Documents beyond max_position_embeddings: every verb has the same limit.
#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

class Lengths : public testing::Test {
 protected:
  /// The chat model (max_position_embeddings 128) with `rope_scaling`, and a row of `tokens` ids.
  void prepare(const Json& rope_scaling, int tokens) {
    workspace_.chat_model();
    auto config = Json::parse(read(workspace_ / "model/config.json"));
    config.erase("rope_parameters");
    config["rope_theta"] = 10000.0;
    config["rope_scaling"] = rope_scaling;
    write(workspace_ / "model/config.json", config.dump(1));
    Json ids = Json::array();
    for (int i = 0; i < tokens; ++i) ids.push_back(i * 7 % 500);
    write(workspace_ / "rows.jsonl", Json{{"input_ids", ids}, {"labels", ids}}.dump() + "\n");
    write(workspace_ / "recipe.yaml",
          "model: {path: model, dtype: f32}\n"
          "data: {train: rows.jsonl, packing: false, seq_len: " +
              std::to_string(tokens) +
              "}\n"
              "train: {steps: 1, global_batch: 1, threads: 1}\n"
              "output: run\n");
  }
  std::vector<std::vector<std::string>> verbs(int tokens) const {
    return {{"train", "recipe.yaml"},
            {"eval", "model", "rows.jsonl"},
            {"check", "model", "rows.jsonl", "--seq-len", std::to_string(tokens)},
            {"logits", "model", "--ids", "rows.jsonl", "--out", "out.safetensors"}};
  }
  Workspace workspace_;
};

TEST_F(Lengths, OfAStretchedRopeGoWithEveryVerb) {
  for (const Json& rope :
       {Json{{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 128}},
        Json{{"rope_type", "yarn"}, {"factor", 4.0}}, Json{{"type", "linear"}, {"factor", 2.0}},
        Json{{"type", "dynamic"}, {"factor", 2.0}},
        Json{{"rope_type", "llama3"},
             {"factor", 8.0},
             {"low_freq_factor", 1.0},
             {"high_freq_factor", 4.0},
             {"original_max_position_embeddings", 128}}}) {
    std::filesystem::remove_all(workspace_ / "model");
    std::filesystem::remove_all(workspace_ / "model-config");
    std::filesystem::remove_all(workspace_ / "run");
    prepare(rope, 200);
    for (const auto& verb : verbs(200)) EXPECT_EQ(workspace_.hone(verb).code, 0) << verb[0] << rope.dump();
  }
}

TEST_F(Lengths, BeyondTheStretchAreRefusedByEveryVerb) {
  prepare({{"type", "yarn"}, {"factor", 1.5}, {"original_max_position_embeddings", 128}}, 200);
  for (const auto& verb : verbs(200)) {
    const auto outcome = workspace_.hone(verb);
    expect_refused(outcome, {"200", "192"});
    if (verb[0] != "eval")  // which reads rows of up to the context, and names the row
      expect_refused(outcome, {"original_max_position_embeddings 128 x factor 1.5 of rope_type yarn"});
  }
}

}  // namespace
}  // namespace hone::test
