// The library through its public face: what it computes, what it lets see, and what it throws.
#include <gmock/gmock.h>
#include <hone/hone.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <stdexcept>

#include "tests/temporary_directory.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

const std::string kGolden = std::string(HONE_TEST_DATA) + "/golden/";

class Library : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (directory_ / name).string(); }

 private:
  test::TemporaryDirectory directory_;
};

AutoModelForCausalLM load(const std::string& golden, const std::string& dtype = "f32") {
  return AutoModelForCausalLM::from_pretrained(kGolden + golden, {.dtype = dtype, .threads = 1});
}

Batch some_rows() {
  Batch batch;
  batch.rows.push_back({{1, 2, 3, 4, 5, 6}, {-100, -100, 3, 4, 5, 6}});
  batch.rows.push_back({{9, 8, 7, 6}, {-100, 8, 7, 6}});
  return batch;
}
constexpr std::int64_t kSupervised = 7;  // of some_rows()

std::map<std::string, std::vector<float>> gradients(AutoModelForCausalLM& model) {
  std::map<std::string, std::vector<float>> all;
  for (const auto& p : model.named_parameters()) all[p.name] = model.get_gradient(p.name);
  return all;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(a[i] - b.at(i), 2);
    norm += std::pow(b[i], 2);
  }
  return std::sqrt(difference / norm);
}

TEST_F(Library, AccumulatedBatchesAddUpToOneWithTheAuxiliaryLoss) {
  auto model = load("qwen3_moe-aux");
  model.train();
  auto whole = model.forward(some_rows());
  whole.backward();
  const auto once = gradients(model);

  auto accumulating = load("qwen3_moe-aux");
  accumulating.train();
  float loss = 0;
  for (int i = 0; i < 4; ++i) {
    Batch batch = some_rows();
    batch.num_items_in_batch = 4 * kSupervised;
    auto output = accumulating.forward(batch);
    loss += output.loss;
    output.backward();
  }
  EXPECT_NEAR(loss, whole.loss, 1e-5);
  for (const auto& [name, gradient] : gradients(accumulating))
    EXPECT_LT(distance(gradient, once.at(name)), 1e-5) << name;
}

TEST_F(Library, AWeightOfTwoIsTheRowTwice) {
  Batch batch = some_rows();
  batch.rows.push_back(batch.rows.front());
  auto weighted = load("qwen3_moe-default");
  auto plain = load("qwen3_moe-default");
  weighted.train();
  plain.train();
  auto want = plain.forward(batch);
  want.backward();
  float loss = 0;
  for (int i = 0; i < 2; ++i) {  // a batch for every row
    Batch part;
    part.rows.push_back(some_rows().rows.at(static_cast<std::size_t>(i)));
    if (i == 0) part.rows[0].loss_weights.assign(part.rows[0].labels.size(), 2);
    part.loss_weight_in_batch = 2 * 4 + 3;
    auto output = weighted.forward(part);
    loss += output.loss;
    output.backward();
  }
  EXPECT_NEAR(loss, want.loss, 1e-5);
  const auto once = gradients(plain);
  for (const auto& [name, gradient] : gradients(weighted))
    EXPECT_LT(distance(gradient, once.at(name)), 1e-5) << name;
}

TEST_F(Library, RowsAreReadWithTheirWeights) {
  const auto tokenizer = AutoTokenizer::from_pretrained(std::string(HONE_TEST_DATA) + "/../../demo/model");
  const Example row = tokenizer.encode_row(R"({"input_ids": [1, 2, 3], "weights": [1, 0.5, 0]})");
  EXPECT_EQ(row.labels, (std::vector<std::int32_t>{1, 2, -100}));
  EXPECT_EQ(row.loss_weights, (std::vector<float>{1, 0.5F, 0}));
  EXPECT_TRUE(tokenizer.encode_row(R"({"text": "a"})").loss_weights.empty());
}

TEST_F(Library, WeightsThatAreNoneAreErrors) {
  auto model = load("llama-default");
  const auto error = [&](std::vector<float> weights) -> std::string {
    Batch batch = some_rows();
    batch.rows[1].loss_weights = std::move(weights);
    try {
      model.forward(batch);
    } catch (const std::exception& e) {
      EXPECT_TRUE(is_user_error(e));
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error({1, 2, 0, 4}), "");
  EXPECT_THAT(error({1, 2}), testing::HasSubstr("row 1 of the batch has 2 loss_weights for 4 labels"));
  EXPECT_THAT(error({1, 2, -3, 4}),
              testing::HasSubstr("row 1 of the batch: loss_weights[2] is -3; a weight"));
  EXPECT_THAT(error({1, NAN, 1, 1}), testing::HasSubstr("loss_weights[1] is nan"));
}

TEST_F(Library, ParametersHaveNamesShapesAndValues) {
  auto model = load("qwen3_moe-default");
  model.freeze({"embed_tokens"});
  model.train();
  const auto all = model.named_parameters();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.front().name, "model.embed_tokens.weight");
  EXPECT_FALSE(all.front().requires_grad);
  std::int64_t trained = 0;
  for (const auto& p : all) {
    std::int64_t elements = 1;
    for (const auto n : p.shape) elements *= n;
    EXPECT_EQ(static_cast<std::int64_t>(model.get_parameter(p.name).size()), elements) << p.name;
    EXPECT_EQ(p.dtype, "f32");
    if (p.requires_grad) trained += elements;
  }
  EXPECT_EQ(trained, model.num_parameters(true));
  EXPECT_TRUE(model.get_gradient("model.norm.weight").empty());
  model.forward(some_rows()).backward();
  EXPECT_FALSE(model.get_gradient("model.norm.weight").empty());
  EXPECT_TRUE(model.get_gradient("model.embed_tokens.weight").empty());
  try {
    model.get_parameter("model.norm.wait");
    FAIL() << "no error";
  } catch (const std::exception& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("model.norm.weight"));
    EXPECT_TRUE(is_user_error(e));
  }
}

TEST_F(Library, ParametersThatWereSetAreSaved) {
  auto model = load("llama-default");
  auto values = model.get_parameter("model.norm.weight");
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.5F + static_cast<float>(i);
  model.set_parameter("model.norm.weight", values);
  EXPECT_EQ(model.get_parameter("model.norm.weight"), values);
  model.save_pretrained(path("out"));
  auto back = AutoModelForCausalLM::from_pretrained(path("out"), {.dtype = "f32", .threads = 1});
  EXPECT_EQ(back.get_parameter("model.norm.weight"), values);
  values.pop_back();
  EXPECT_THROW(model.set_parameter("model.norm.weight", values), std::runtime_error);
}

TEST_F(Library, ParametersThatWereSetAreTheMastersToo) {
  auto model = load("llama-default", "bf16");
  AdamW optimizer(model, {.lr = 0, .weight_decay = 0});
  auto values = model.get_parameter("lm_head.weight");
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = 1.0F + 1e-4F * static_cast<float>(i % 7);  // not bf16's
  model.set_parameter("lm_head.weight", values);
  model.train();
  model.forward(some_rows()).backward();
  optimizer.step();
  EXPECT_EQ(model.get_parameter("lm_head.weight"), values);
}

TEST_F(Library, GroupsHaveRatesOfTheirOwn) {
  auto model = load("llama-default");
  const auto head = model.get_parameter("lm_head.weight");
  const auto norm = model.get_parameter("model.norm.weight");
  AdamW optimizer(model, {.lr = 0.01, .weight_decay = 0, .groups = {{.match = "lm_head", .lr_scale = 0}}});
  model.train();
  model.forward(some_rows()).backward();
  optimizer.step();
  EXPECT_EQ(model.get_parameter("lm_head.weight"), head);
  EXPECT_NE(model.get_parameter("model.norm.weight"), norm);
  EXPECT_THROW(AdamW(model, {.groups = {{.match = "no such parameter"}}}), std::runtime_error);
}

TEST_F(Library, ErrorsSayWhoseTheyAre) {
  try {
    load("nowhere");
    FAIL() << "no error";
  } catch (const std::runtime_error& e) {
    EXPECT_TRUE(is_user_error(e)) << e.what();
  }
  EXPECT_FALSE(is_user_error(std::runtime_error("of somebody else")));
}

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class TrainerTest : public Library {
 protected:
  TrainerTest() {
    std::ofstream rows(path("train.jsonl"));
    for (int i = 0; i < 24; ++i) rows << "{\"input_ids\": [1, " << 2 + i << ", " << 3 + i << ", 4, 5]}\n";
  }
  std::vector<std::string> settings(const std::string& output) const {
    return {"model.path=" + kGolden + "llama-default",
            "data.train=" + path("train.jsonl"),
            "data.eval=" + path("train.jsonl"),
            "train.steps=6",
            "train.global_batch=1",
            "train.optimizer.lr=1e-3",
            "train.threads=1",
            "data.seq_len=16",
            "output=" + path(output)};
  }
};

TEST_F(TrainerTest, ShowsEveryStepAndPrintsNothing) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  std::vector<TrainerStep> seen;
  const auto output = Trainer(settings("run")).train([&](const TrainerStep& step) {
    seen.push_back(step);
    return true;
  });
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  ASSERT_EQ(seen.size(), 7U);
  EXPECT_TRUE(seen.front().eval_loss.has_value());
  EXPECT_FALSE(seen[1].eval_loss.has_value());
  for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i].step, static_cast<std::int64_t>(i));
  EXPECT_LT(*seen.back().eval_loss, *seen.front().eval_loss);
  EXPECT_TRUE(output.finished);
  EXPECT_EQ(output.steps, 6);
  auto trained = AutoModelForCausalLM::from_pretrained(output.model, {.dtype = "f32", .threads = 1});
  EXPECT_NE(trained.get_parameter("lm_head.weight"), load("llama-default").get_parameter("lm_head.weight"));
}

TEST_F(TrainerTest, StoppedGoesOnWithTheSameBits) {
  const auto whole = Trainer(settings("whole")).train();
  Trainer trainer(settings("run"));
  const auto stopped = trainer.train([](const TrainerStep& step) { return step.step < 3; });
  EXPECT_FALSE(stopped.finished);
  EXPECT_EQ(stopped.steps, 3);
  EXPECT_EQ(stopped.model, "");
  std::int64_t first = -1;
  const auto output = trainer.train([&](const TrainerStep& step) {
    if (first < 0) first = step.step;
    return true;
  });
  EXPECT_EQ(first, 4);
  EXPECT_TRUE(output.finished);
  EXPECT_EQ(bytes_of(fs::path(output.model) / "model.safetensors"),
            bytes_of(fs::path(whole.model) / "model.safetensors"));
}

TEST_F(TrainerTest, EndsByAnExceptionWithARowOfEachStepInOrder) {
  const auto steps_of = [&](const std::string& run) {
    std::vector<std::int64_t> steps;
    std::ifstream rows(path(run + "/metrics.jsonl"));
    for (std::string row; std::getline(rows, row);)  // {"step":3,…
      steps.push_back(std::stoll(row.substr(row.find(':') + 1)));
    return steps;
  };
  const auto until = [](std::int64_t last) {
    std::vector<std::int64_t> steps(static_cast<std::size_t>(last) + 1);
    std::iota(steps.begin(), steps.end(), 0);
    return steps;
  };
  EXPECT_THROW(Trainer(settings("run")).train([&](const TrainerStep& step) -> bool {
    EXPECT_GE(std::ssize(steps_of("run")), step.step);  // all but the last, at least
    if (step.step == 3) throw std::runtime_error("enough");
    return true;
  }),
               std::runtime_error);
  EXPECT_EQ(steps_of("run"), until(3));
  Trainer(settings("run")).train();
  EXPECT_EQ(steps_of("run"), until(6));
}

TEST_F(TrainerTest, RefusesSettingsThatAreWrong) {
  try {
    Trainer trainer({"train.stepps=3"});
    FAIL() << "no error";
  } catch (const std::exception& e) {
    EXPECT_TRUE(is_user_error(e));
    EXPECT_THAT(e.what(), testing::HasSubstr("train.steps"));
  }
}

}  // namespace
}  // namespace hone
