// Cards that a run does not fit: what is said, and that what is said is true. On the emulated card, whose
// memory can be made small.
#include <cstdlib>
#include <regex>

#include "device/cuda_device.h"
#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

class SmallCard : public testing::Test {
 protected:
  void SetUp() override {
    const auto report = device::cuda_report();
    if (device::default_device().type != device::DeviceType::kCuda || report.cards.empty() ||
        !report.cards[0].name.starts_with("emulated"))
      GTEST_SKIP() << "needs the emulated card";
    workspace_.chat_data(8);
  }
  /// 1.6 million parameters, most of them experts that hardly compute: 3.1 MiB of weights and gradients each
  /// and 18.4 of masters and moments in bf16.
  void many_experts() {
    workspace_.chat_model("small");
    std::filesystem::copy(workspace_ / "small-config", workspace_ / "config");
    auto json = Json::parse(read(workspace_ / "config/config.json"));
    json.update({{"num_experts", 128}, {"moe_intermediate_size", 64}});
    write(workspace_ / "config/config.json", json.dump(1));
    workspace_.succeed({"init", "config", "model", "--seed", "1"});
    recipe(1);
  }
  void recipe(int batch) {
    write(workspace_ / "recipe.yaml",
          "model: {path: model, dtype: bf16}\n"
          "data: {train: train.jsonl, seq_len: 128}\n"
          "train: {steps: 1, global_batch: " +
              std::to_string(batch) + ", micro_batch: " + std::to_string(batch) +
              ", checkpoint_every: 0, threads: 1}\noutput: run\n");
  }
  Outcome train(const std::string& machine, std::vector<std::string> settings = {}) {
    settings.insert(settings.begin(), {"train", "recipe.yaml"});
    return workspace_.hone(settings, machine);
  }
  /// Those that the line says would fit.
  static std::vector<std::string> settings_in(const std::string& line) {
    std::smatch found;
    if (!std::regex_search(line, found, std::regex("; ([^;]*) would fit"))) return {};
    std::istringstream words(found[1]);
    return {std::istream_iterator<std::string>(words), {}};
  }
  Workspace workspace_;
};

TEST_F(SmallCard, EndsBeforeWeightsAreReadAndTheSettingThatItNamesFits) {
  many_experts();
  const std::string machine = "export HONE_CUDA_EMULATED_MEMORY=26000000;";
  const auto refused = train(machine);
  expect_refused(refused, {"device: out of memory: this run needs ",
                           " MiB (weights 3.1 MiB + optimizer 18.4 MiB + "
                           "gradients 3.1 MiB + activations ",
                           "and cuda:0 has 24.8 MiB, 24.8 MiB free; train.optimizer.state=8bit would fit"});
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "run"));
  const auto settings = settings_in(refused.message());
  ASSERT_EQ(settings.size(), 1U);
  const auto fits = train(machine, settings);
  EXPECT_EQ(fits.code, 0) << fits.err;
  EXPECT_TRUE(std::filesystem::exists(workspace_ / "run/model/config.json"));
}

TEST_F(SmallCard, EndsBeforeDataAreReadWhereWhatIsHeldIsTooMuch) {
  many_experts();
  write(workspace_ / "train.jsonl", "no row\n");
  expect_refused(
      train("export HONE_CUDA_EMULATED_MEMORY=18600000;"),
      {"this run needs at least 24.6 MiB",
       "train.optimizer.update=as_ready train.optimizer.state=8bit train.optimizer.master=bf16 would fit"});
  // Of 4 GiB others hold nearly all.
  expect_refused(train("export HONE_CUDA_EMULATED_MEMORY=4294967296 HONE_CUDA_EMULATED_OTHERS=4290000000;"),
                 {"has 4.0 GiB, 4.7 MiB free, 4.0 GiB held by other programs (nvidia-smi lists them); no "
                  "setting would fit"});
}

TEST_F(SmallCard, OutOfMemoryInAStepSaysWhatTheRunWasToNeed) {
  workspace_.chat_model();
  recipe(2);
  expect_refused(train("export HONE_CUDA_EMULATED_LARGEST=200000;"),
                 {"out of memory: ", " MiB more for ", " were refused (cuda:0 has 16.0 GiB, ",
                  "; by forecast this run needs ", "(weights 0.1 MiB + optimizer 0.5 MiB + ",
                  "; no setting would fit: "});
}

TEST_F(SmallCard, PinnedMemoryThatIsRefusedNamesTheWayBack) {
  many_experts();
  const auto refused = train("export HONE_CUDA_EMULATED_PINNED=1000000;", {"train.optimizer.offload=host"});
  expect_refused(refused,
                 {"out of memory of the host: 2.0 MiB more of pinned memory for optimizer were refused",
                  "and 18.4 MiB of the host; ", "ulimit -l", "train.optimizer.offload=none would fit"});
}

}  // namespace
}  // namespace hone::test
