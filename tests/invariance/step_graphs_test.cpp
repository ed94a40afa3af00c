// Steps that are launches of a graph are bit for bit the steps that are called kernel by kernel. On a card,
// whose memory is pooled; elsewhere nothing is captured, for a reason that is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/causal_lm.h"
#include "tensor/transfer.h"
#include "train/optimizer.h"
#include "train/step_graphs.h"

namespace hone::test {
namespace {

using testing::HasSubstr;
using StateBytes = std::map<std::string, std::vector<std::byte>>;
using Lengths = std::vector<std::int32_t>;

bool on_card() {
  return device::default_device().type == device::DeviceType::kCuda;
}

struct GraphSetting {
  const char* name;
  const char* model = "qwen3_moe-default";
  DType dtype = DType::kF32;
  train::OptimizerOptions optimizer = {};
  train::StepOptions step = {.learning_rate = 0, .clip = 1};
  int micro_batches = 1;
  bool weighted = false, fp8 = false;
};

/// A model in training, with graphs or without.
class StepsOfModel {
 public:
  StepsOfModel(const GraphSetting& setting, bool with_graphs)
      : setting_(setting),
        with_graphs_(with_graphs),
        context_(device::default_device(), 2),
        model_(model::CausalLM::from_pretrained(
            context_, std::string(HONE_TEST_DATA) + "/golden/" + setting.model, {.dtype = setting.dtype})) {
    model_.decoder().parameters().set_trainable({}, setting.micro_batches > 1 ? DType::kF32 : setting.dtype);
    model_.decoder().parameters().multiply_in_fp8(setting.fp8);
    auto options = setting.optimizer;
    options.weight_decay = 0.1;
    optimizer_.emplace(context_, model_, options);
  }

  /// Documents of these lengths in each micro-batch, other ids in each step, every fifth label left out.
  /// Rates and weights change with the step.
  train::StepResult step(int number, const Lengths& lengths) { return begin(number, lengths).read(); }
  train::PendingStep begin(int number, const Lengths& lengths) {
    auto& batches = batches_.emplace_back(static_cast<std::size_t>(setting_.micro_batches));
    const CounterRng random(5, RngPurpose::kBench);
    std::uint64_t draw = static_cast<std::uint64_t>(number) << 20;
    for (auto& batch : batches)
      for (const auto length : lengths) {
        std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
        for (auto& id : ids) id = static_cast<std::int32_t>(random.below(draw++, 96));
        auto labels = ids;
        std::vector<float> weights(setting_.weighted ? ids.size() : 0);
        // As many labels in every step, at other places.
        labels[1 + random.below(draw++, labels.size() - 1)] = kIgnoredLabel;
        for (auto& weight : weights) weight = 1;
        for (std::size_t i = 1; setting_.weighted; ++i)  // one of 2, here or there
          if (labels[number % 2 == 0 ? i : labels.size() - i] != kIgnoredLabel) {
            weights[number % 2 == 0 ? i : labels.size() - i] = 2;
            break;
          }
        batch.add(ids, labels, weights);
      }
    auto options = setting_.step;
    if (!with_graphs_) options.weight_gradients_beside = false;  // which is to have the same bits
    options.learning_rate = 1e-3 * (1 + number % 7);
    return with_graphs_ ? graphs_.begin(context_, model_.decoder(), *optimizer_, batches, options)
                        : train::begin_step(context_, model_.decoder(), *optimizer_, batches, options);
  }

  /// The loss of a batch that is not learnt from.
  double evaluate(const Lengths& lengths) {
    model::TokenBatch batch;
    for (const auto length : lengths) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
      for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % 96);
      batch.add(ids, ids);
    }
    return train::evaluate(context_, model_.decoder(), batch).loss;
  }

  StateBytes bytes() {
    StateBytes result;
    const auto add = [&](const std::string& name, const Tensor& tensor) {
      const HostView view(context_.stream(), tensor);
      result[name].assign(view.bytes().begin(), view.bytes().end());
    };
    for (const auto& state : optimizer_->state()) add(state.name, state.tensor);
    for (const auto& p : model_.decoder().parameters().all()) add(p.spec.name, p.value);
    return result;
  }
  /// As a checkpoint does.
  void take_over(const StateBytes& saved, const StepsOfModel& from) {
    const auto put = [&](const std::string& name, const Tensor& tensor) {
      Staging staging(context_.stream(), tensor);
      std::memcpy(staging.data(), saved.at(name).data(), saved.at(name).size());
      staging.send();
    };
    for (const auto& state : optimizer_->state()) put(state.name, state.tensor);
    optimizer_->masters_changed(context_);
    optimizer_->set_updates(from.optimizer_->updates());
    optimizer_->set_last_norm(from.optimizer_->last_norm());
  }

  /// Makes a weight that is no number of the last norm, or what it was.
  void break_norm() {
    const Tensor& norm = model_.decoder().parameters().find("model.norm.weight")->value;
    const HostView view(context_.stream(), norm);
    before_.assign(view.bytes().begin(), view.bytes().end());
    put_norm(std::vector<std::byte>(before_.size(), std::byte{0xff}));
  }
  void mend_norm() { put_norm(before_); }

  ops::Context& context() { return context_; }
  train::StepGraphs& graphs() { return graphs_; }
  train::Optimizer& optimizer() { return *optimizer_; }

 private:
  void put_norm(const std::vector<std::byte>& bytes) {
    Staging staging(context_.stream(), model_.decoder().parameters().find("model.norm.weight")->value);
    std::memcpy(staging.data(), bytes.data(), bytes.size());
    staging.send();
  }

  GraphSetting setting_;
  bool with_graphs_;
  ops::Context context_;
  model::CausalLM model_;
  std::optional<train::Optimizer> optimizer_;
  train::StepGraphs graphs_;
  std::deque<std::vector<model::TokenBatch>> batches_;  // which steps read as long as they are not read
  std::vector<std::byte> before_;
};

void expect_same(const train::StepResult& got, const train::StepResult& want, int step) {
  const auto bits = [](double x) { return std::isnan(x) ? std::string("nan") : fmt::format("{:a}", x); };
  EXPECT_EQ(bits(got.loss), bits(want.loss)) << step;
  EXPECT_EQ(bits(got.lm_loss), bits(want.lm_loss)) << step;
  EXPECT_EQ(bits(got.aux_loss), bits(want.aux_loss)) << step;
  EXPECT_EQ(bits(got.grad_norm), bits(want.grad_norm)) << step;
  EXPECT_EQ(got.skipped, want.skipped) << step;
  EXPECT_EQ(got.nonfinite, want.nonfinite) << step;
  EXPECT_EQ(got.nonfinite_documents, want.nonfinite_documents) << step;
  EXPECT_EQ(got.tokens, want.tokens) << step;
  EXPECT_EQ(got.supervised, want.supervised) << step;
  EXPECT_EQ(got.expert_counts, want.expert_counts) << step;
}

void expect_same(const StateBytes& got, const StateBytes& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, bytes] : want) EXPECT_TRUE(got.at(name) == bytes) << name;
}

/// The emulated card's memory is pooled here, unlike that of the other tests.
class Pooled : public testing::Test {
 protected:
  Pooled() {
    if (const char* value = std::getenv("HONE_GUARDED"); value != nullptr) before_ = value;
    if (on_card()) ::setenv("HONE_GUARDED", "0", 1);
  }
  ~Pooled() override {
    if (before_)
      ::setenv("HONE_GUARDED", before_->c_str(), 1);
    else
      ::unsetenv("HONE_GUARDED");
  }

 private:
  std::optional<std::string> before_;
};

class StepGraphs : public Pooled, public testing::WithParamInterface<GraphSetting> {};

// And the host begins each step before it has read what became of the last.
TEST_P(StepGraphs, AreBitForBitTheSteps) {
  StepsOfModel graphs(GetParam(), true), calls(GetParam(), false);
  // As many tokens and documents, the longest as long; other documents.
  const Lengths shapes[] = {{9, 5, 3, 12}, {12, 9, 5, 3}, {3, 4, 12, 10}, {12, 2, 12, 3}, {6, 6, 5, 12}};
  constexpr int kSteps = 6, kBroken = 3;
  std::vector<train::StepResult> want;
  std::optional<train::PendingStep> unread;
  int reads = 0, early = 0;
  const auto read = [&] {
    const auto got = unread->read();
    expect_same(got, want.at(static_cast<std::size_t>(reads)), reads);
    EXPECT_EQ(got.skipped, reads == kBroken);
    ++reads;
    unread.reset();
  };
  for (int i = 0; i < kSteps; ++i) {
    if (i == kBroken)
      for (StepsOfModel* training : {&graphs, &calls}) training->break_norm();
    want.push_back(calls.step(i, shapes[i % 5]));
    if (unread && !graphs.optimizer().may_begin_unread()) read();
    auto begun = graphs.begin(i, shapes[i % 5]);
    if (unread) {
      ++early;
      read();
    }
    unread = std::move(begun);
    if (i == kBroken)
      for (StepsOfModel* training : {&graphs, &calls}) training->mend_norm();
  }
  read();
  EXPECT_EQ(early, kSteps - 2);  // the second waits for the first
  expect_same(graphs.bytes(), calls.bytes());
  EXPECT_EQ(graphs.optimizer().updates(), calls.optimizer().updates());
  const auto& counts = graphs.graphs().counts();
  EXPECT_EQ(counts.called + counts.launched, kSteps);
  if (on_card()) {
    EXPECT_EQ(counts.captured, 1);
    EXPECT_GE(counts.launched, kSteps - 2) << graphs.graphs().text();
    EXPECT_GT(counts.size, 50U);
  } else {
    EXPECT_EQ(counts.launched, 0);
  }
}

using Optimizing = train::OptimizerOptions;
INSTANTIATE_TEST_SUITE_P(
    Settings, StepGraphs,
    testing::Values(
        GraphSetting{.name = "dense", .model = "qwen3-default"}, GraphSetting{.name = "experts"},
        GraphSetting{.name = "experts_bf16", .dtype = DType::kBF16},
        GraphSetting{.name = "rounded_at_random",
                     .dtype = DType::kBF16,
                     .optimizer = {.master = Optimizing::Master::kBF16, .seed = 3}},
        GraphSetting{.name = "moments_of_8_bits", .optimizer = {.state = Optimizing::State::k8Bit}},
        GraphSetting{.name = "momentum", .optimizer = {.type = Optimizing::Type::kSgd, .momentum = 0.9}},
        GraphSetting{.name = "as_ready",
                     .dtype = DType::kBF16,
                     .optimizer = {.master = Optimizing::Master::kBF16},
                     .step = {.clip = 0.1, .update_as_ready = true}},
        GraphSetting{.name = "accumulated",
                     .dtype = DType::kBF16,
                     .step = {.clip = 1, .aux_coefficient = 0.01},
                     .micro_batches = 2},
        GraphSetting{.name = "recomputed", .step = {.clip = 1, .recompute = true, .aux_coefficient = 0.01}},
        GraphSetting{.name = "weighted", .model = "deepseek_v3-default", .weighted = true},
        GraphSetting{.name = "sinks_and_windows", .model = "gpt_oss-default", .dtype = DType::kBF16},
        GraphSetting{.name = "tied", .model = "gemma3_text-default"},
        GraphSetting{
            .name = "beside", .model = "qwen3-default", .step = {.clip = 1, .weight_gradients_beside = true}},
        GraphSetting{.name = "beside_as_ready",
                     .model = "deepseek_v3-default",
                     .dtype = DType::kBF16,
                     .optimizer = {.master = Optimizing::Master::kBF16},
                     .step = {.clip = 0.1, .update_as_ready = true, .weight_gradients_beside = true}},
        GraphSetting{.name = "beside_accumulated",
                     .model = "gemma3_text-default",
                     .dtype = DType::kBF16,
                     .step = {.clip = 1, .recompute = true, .weight_gradients_beside = true},
                     .micro_batches = 2},
        GraphSetting{.name = "beside_fp8",
                     .model = "deepseek_v3-default",
                     .dtype = DType::kBF16,
                     .optimizer = {.state = Optimizing::State::k8Bit},
                     .step = {.clip = 1, .weight_gradients_beside = true},
                     .fp8 = true}),
    [](const auto& test) { return std::string(test.param.name); });

/// Two steps in a row that are skipped, of which the second is begun before the first was read; without
/// graphs.
class PendingSteps : public Pooled, public testing::WithParamInterface<GraphSetting> {};

TEST_P(PendingSteps, GoByWhatBecameOfTheOneBefore) {
  StepsOfModel late(GetParam(), false), sync(GetParam(), false);
  const Lengths lengths{9, 5, 3, 12};
  std::vector<train::StepResult> want;
  std::vector<train::PendingStep> begun;
  const auto read = [&](int i) {
    expect_same(begun.at(static_cast<std::size_t>(i)).read(), want.at(static_cast<std::size_t>(i)), i);
  };
  for (int i = 0; i < 6; ++i) {
    if (i == 2)
      for (StepsOfModel* training : {&late, &sync}) training->break_norm();
    want.push_back(sync.step(i, lengths));
    EXPECT_EQ(want.back().skipped, i == 2 || i == 3);
    EXPECT_EQ(late.optimizer().may_begin_unread(), i != 1);
    if (i == 1) read(0);
    begun.push_back(late.begin(i, lengths));
    if (i > 1) {
      EXPECT_FALSE(late.optimizer().may_begin_unread()) << "two are unread";
      read(i - 1);
    }
    if (i == 3)
      for (StepsOfModel* training : {&late, &sync}) training->mend_norm();
  }
  read(5);
  expect_same(late.bytes(), sync.bytes());
  EXPECT_EQ(late.optimizer().updates(), 4);
  EXPECT_EQ(late.optimizer().last_norm(), sync.optimizer().last_norm());
}
INSTANTIATE_TEST_SUITE_P(Settings, PendingSteps,
                         testing::Values(GraphSetting{.name = "as_ready",
                                                      .model = "qwen3-default",
                                                      .dtype = DType::kBF16,
                                                      .optimizer = {.master = Optimizing::Master::kBF16},
                                                      .step = {.clip = 0.1, .update_as_ready = true}},
                                         GraphSetting{.name = "offloaded",
                                                      .model = "qwen3-default",
                                                      .optimizer = {.offload = Optimizing::Offload::kHost}}),
                         [](const auto& test) { return std::string(test.param.name); });

class GraphsOfSteps : public Pooled {};

TEST_F(GraphsOfSteps, AreOfEachShapeThatComesAgain) {
  const GraphSetting setting{.name = "", .model = "qwen3-default"};
  StepsOfModel graphs(setting, true), calls(setting, false);
  const Lengths a{9, 5, 3}, b{17}, other[] = {{8, 5, 3}, {9, 8}, {10, 4, 3}, {4, 4, 4, 5}};
  const Lengths order[] = {a, b, other[0], a, b, other[1], b, a, other[2], a, other[3], b, a};
  int i = 0;
  for (const auto& lengths : order) {
    expect_same(graphs.step(i, lengths), calls.step(i, lengths), i);
    ++i;
  }
  expect_same(graphs.bytes(), calls.bytes());
  if (!on_card()) return;
  // Of 7 that had one like them before; what a second graph holds may lie in the first one's memory.
  EXPECT_GE(graphs.graphs().counts().captured, 2) << graphs.graphs().text();
  EXPECT_GE(graphs.graphs().counts().launched, 4);
}

TEST_F(GraphsOfSteps, AreForgottenWhereMoreShapesComeThanAreKept) {
  const GraphSetting setting{.name = "", .model = "qwen3-default"};
  StepsOfModel graphs(setting, true), calls(setting, false);
  for (int i = 0; i < 13; ++i) {  // six shapes, one after the other
    const Lengths lengths{5 + i % 6};
    expect_same(graphs.step(i, lengths), calls.step(i, lengths), i);
  }
  expect_same(graphs.bytes(), calls.bytes());
  if (on_card()) {
    EXPECT_EQ(graphs.graphs().counts().captured, 6);  // the first one's is forgotten by the end
    EXPECT_EQ(graphs.graphs().counts().launched, 6);
  }
}

TEST_F(GraphsOfSteps, TakeNothingOfTheCardAndGiveTheirMemoryToOthers) {
  if (!on_card()) GTEST_SKIP() << "elsewhere there are none";
  const GraphSetting setting{.name = ""};
  StepsOfModel graphs(setting, true), calls(setting, false);
  const Lengths lengths{9, 5, 3, 12};
  for (int i = 0; i < 3; ++i) expect_same(graphs.step(i, lengths), calls.step(i, lengths), i);
  ASSERT_GE(graphs.graphs().counts().launched, 1) << graphs.graphs().text();
  auto& allocator = graphs.context().allocator();
  const auto held = allocator.held_bytes();
  const auto in_use = graphs.context().ledger().current_total();
  for (int i = 3; i < 6; ++i) expect_same(graphs.step(i, lengths), calls.step(i, lengths), i);
  EXPECT_EQ(allocator.held_bytes(), held);
  EXPECT_EQ(graphs.context().ledger().current_total(), in_use);
  // An evaluation between two launches has the same blocks.
  EXPECT_EQ(graphs.evaluate({9, 5}), calls.evaluate({9, 5}));
  EXPECT_LT(allocator.held_bytes() - held, held / 20);
  const auto before = graphs.graphs().counts();
  expect_same(graphs.step(6, lengths), calls.step(6, lengths), 6);
  EXPECT_EQ(graphs.graphs().counts().launched, before.launched + 1);
  expect_same(graphs.bytes(), calls.bytes());
}

TEST_F(GraphsOfSteps, AreMadeAgainWhereOthersHaveTheirMemory) {
  const GraphSetting setting{.name = ""};
  StepsOfModel graphs(setting, true), calls(setting, false);
  const Lengths lengths{9, 5, 3, 12};
  int i = 0;
  const auto steps = [&](int count) {
    for (int end = i + count; i < end; ++i) expect_same(graphs.step(i, lengths), calls.step(i, lengths), i);
  };
  steps(3);
  const auto made = graphs.graphs().counts();
  // All that is kept is somebody's, who writes there.
  std::vector<std::shared_ptr<device::Buffer>> others;
  std::vector<std::vector<std::byte>> bytes;
  auto& stream = graphs.context().stream();
  for (const std::size_t size : {256UL, 512UL, 1024UL, 1280UL, 2048UL, 4096UL, 6144UL, 8192UL})
    for (int n = 0; n < 40; ++n) {
      others.push_back(graphs.context().allocator().allocate(size, device::Purpose::kCache));
      stream.fill(others.back()->data(), 0x5a, size);
    }
  steps(4);
  for (const auto& other : others) {
    const auto back = stream.host_memory(other->size_bytes());
    stream.download(other->data(), back);
    stream.synchronize();
    const auto* data = static_cast<const std::uint8_t*>(back->data());
    EXPECT_EQ(std::count(data, data + other->size_bytes(), 0x5a),
              static_cast<std::ptrdiff_t>(other->size_bytes()));
  }
  others.clear();
  // A long evaluation has the stream's scratch memory, and the tables of angles, grow.
  EXPECT_EQ(graphs.evaluate({300, 900}), calls.evaluate({300, 900}));
  steps(4);
  expect_same(graphs.bytes(), calls.bytes());
  if (!on_card()) return;
  EXPECT_GE(made.launched, 1);
  EXPECT_GE(graphs.graphs().counts().captured, made.captured + 2);
  EXPECT_GE(graphs.graphs().counts().launched, made.launched + 2);
}

TEST_F(GraphsOfSteps, GoOnFromACheckpointOfOthers) {
  const GraphSetting setting{
      .name = "", .dtype = DType::kBF16, .optimizer = {.master = Optimizing::Master::kBF16, .seed = 3}};
  const Lengths lengths{9, 5, 3, 12};
  StepsOfModel whole(setting, false), first(setting, true), second(setting, true);
  for (int i = 0; i < 7; ++i) (void)whole.step(i, lengths);
  for (int i = 0; i < 4; ++i) (void)first.step(i, lengths);
  for (int i = 10; i < 13; ++i) (void)second.step(i, lengths);  // a graph, then other values in its memory
  second.take_over(first.bytes(), first);
  for (int i = 4; i < 7; ++i) (void)second.step(i, lengths);
  expect_same(second.bytes(), whole.bytes());
}

TEST_F(GraphsOfSteps, AreRefusedWithAReason) {
  const GraphSetting setting{.name = "", .model = "qwen3-default"};
  StepsOfModel training(setting, true);
  const auto why = [&] { return train::StepGraphs::why_none(training.context(), training.optimizer()); };
  if (!on_card()) {
    EXPECT_EQ(why(), "on cpu a kernel is a call of a function");
    return;
  }
  EXPECT_EQ(why(), "");
  ::setenv("HONE_CUDA_SYNC", "1", 1);
  EXPECT_EQ(why(), "HONE_CUDA_SYNC=1 waits for each kernel");
  ::unsetenv("HONE_CUDA_SYNC");
  kernels::Profile profile;
  training.context().set_profile(&profile);
  EXPECT_EQ(why(), "each kernel is timed by itself");
  for (int i = 0; i < 3; ++i) (void)training.step(i, {9, 5});
  EXPECT_EQ(training.graphs().counts().launched, 0);
  training.context().set_profile(nullptr);
  for (int i = 3; i < 6; ++i) (void)training.step(i, {9, 5});
  EXPECT_GE(training.graphs().counts().launched, 1);
  StepsOfModel offloaded({.name = "", .optimizer = {.offload = Optimizing::Offload::kHost}}, true);
  for (int i = 0; i < 3; ++i) (void)offloaded.step(i, {9, 5});
  EXPECT_EQ(offloaded.graphs().counts().launched, 0);
  EXPECT_THAT(train::StepGraphs::why_none(offloaded.context(), offloaded.optimizer()),
              HasSubstr("piece by piece"));
  ::setenv("HONE_GUARDED", "1", 1);
  StepsOfModel guarded(setting, true);
  EXPECT_THAT(train::StepGraphs::why_none(guarded.context(), guarded.optimizer()),
              HasSubstr("an allocation of its own"));
}

}  // namespace
}  // namespace hone::test
