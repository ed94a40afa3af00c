// What saves an optimizer's memory: eight-bit moments, weights without masters, updates as gradients are
// ready.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "model/causal_lm.h"
#include "tensor/transfer.h"
#include "tests/tolerance.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace hone::test {
namespace {

using Values = std::map<std::string, std::vector<double>>;

struct Outcome {
  Values weights;
  std::vector<double> losses, norms;
  std::int64_t optimizer_bytes = 0, most_gradient_bytes = 0, weight_bytes = 0;
};

struct Training {
  DType dtype = DType::kF32;
  train::OptimizerOptions optimizer = {};
  train::StepOptions step = {.learning_rate = 1e-3, .clip = 0};
  int steps = 4;
  const char* model = "qwen3_moe-default";
};

std::vector<double> numbers(ops::Context& context, const Tensor& tensor) {
  const HostView view(context.stream(), tensor);
  std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
  convert(tensor.dtype(), view.data(), DType::kF64, values.data(), values.size());
  return values;
}

Outcome train(const Training& training) {
  ops::Context context(device::default_device(), 2);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/" + training.model, {.dtype = training.dtype});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, training.dtype);
  train::Optimizer optimizer(context, model, training.optimizer);
  const CounterRng random(5, RngPurpose::kBench);
  std::uint64_t draw = 0;
  Outcome outcome;
  const auto& ledger = context.ledger();
  for (int step = 0; step < training.steps; ++step) {
    model::TokenBatch batch;
    for (int row = 0; row < 4; ++row) {
      std::vector<std::int32_t> ids(5 + random.below(draw++, 20));
      for (auto& id : ids) id = static_cast<std::int32_t>(random.below(draw++, 96));
      batch.add(ids, ids);
    }
    const auto result = train::train_step(context, model.decoder(), optimizer, {&batch, 1}, training.step);
    EXPECT_FALSE(result.skipped);
    outcome.losses.push_back(result.loss);
    outcome.norms.push_back(result.grad_norm);
  }
  EXPECT_EQ(optimizer.updates(), training.steps);
  outcome.optimizer_bytes = ledger.current(device::Purpose::kOptimizer);
  outcome.most_gradient_bytes = ledger.peak(device::Purpose::kGradients);
  outcome.weight_bytes = ledger.current(device::Purpose::kWeights);
  for (const auto& p : parameters.all()) outcome.weights[p.spec.name] = numbers(context, p.value);
  return outcome;
}

void expect_equal(const Outcome& got, const Outcome& want) {
  EXPECT_EQ(got.losses, want.losses);
  for (const auto& [name, values] : want.weights) EXPECT_EQ(got.weights.at(name), values) << name;
}

class AsReady : public testing::TestWithParam<const char*> {};

TEST_P(AsReady, WithoutClippingIsBitForBitTheSame) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const bool recompute : {false, true}) {
      Training training{.dtype = dtype, .model = GetParam()};
      training.step.recompute = recompute;
      const Outcome at_end = train(training);
      training.step.update_as_ready = true;
      const Outcome as_ready = train(training);
      expect_equal(as_ready, at_end);
      EXPECT_LT(as_ready.most_gradient_bytes, at_end.most_gradient_bytes);
    }
}

// Tied embeddings, experts, latent attention, shared experts.
INSTANTIATE_TEST_SUITE_P(Models, AsReady,
                         testing::Values("qwen3_moe-default", "gemma3_text-default", "deepseek_v3-default",
                                         "gpt_oss-default"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(AsReadyClipped, ByTheNormOfTheStepBeforeAndTheFirstByItsOwn) {
  Training training;
  training.optimizer.type = train::OptimizerOptions::Type::kSgd;  // whose step is the gradient's length
  training.step.clip = 1e-2;
  training.steps = 1;
  const Outcome first = train(training);
  training.step.update_as_ready = true;
  const Outcome ready = train(training);
  for (const auto& [name, values] : first.weights)
    EXPECT_LT(relative_distance(ready.weights.at(name), values), 1e-6) << name;
  EXPECT_NEAR(ready.norms[0] / first.norms[0], 1, 1e-6);
  training.steps = 2;
  const Outcome two = train(training);
  // The second step's length is clip * norm / (the first's norm).
  double length = 0;
  for (const auto& [name, values] : two.weights)
    for (std::size_t i = 0; i < values.size(); ++i)
      length += std::pow(values[i] - ready.weights.at(name)[i], 2);
  const double want = training.step.learning_rate * training.step.clip * two.norms[1] / two.norms[0];
  EXPECT_NEAR(std::sqrt(length) / want, 1, 1e-2);
}

TEST(Optimizer, NamesTheFirstGradientThatIsNotFinite) {
  ops::Context context(device::default_device(), 1);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3-default", {.dtype = DType::kF32});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({"layers.0.*"}, DType::kF32);
  train::Optimizer optimizer(context, model, {});
  std::vector<const model::Parameter*> trained;
  for (const auto& p : parameters.all())
    if (p.trainable) trained.push_back(&p);
  ASSERT_GT(trained.size(), 5U);
  const auto step = [&](const std::map<std::size_t, float>& broken, float loss) {
    for (std::size_t i = 0; i < trained.size(); ++i) {
      std::vector<float> values(static_cast<std::size_t>(trained[i]->value.numel()), 1e-3F);
      if (const auto at = broken.find(i); at != broken.end()) values.back() = at->second;
      const auto target = ops::GradTarget::of(context, *trained[i]->grad_slot);
      upload_bytes(context.stream(), std::as_bytes(std::span(values)), target.grad);
    }
    const Tensor its_loss = context.empty(Shape{1}, DType::kF32);
    upload_bytes(context.stream(), std::as_bytes(std::span(&loss, 1)), its_loss);
    const auto result = optimizer.step(context, 1e-3, 1, its_loss);
    parameters.reset_grads();
    return result;
  };
  constexpr float kNaN = NAN, kInfinity = HUGE_VALF;
  for (const auto& [broken, first] : std::vector<std::pair<std::map<std::size_t, float>, std::size_t>>{
           {{{0, kNaN}}, 0},
           {{{2, kInfinity}, {4, kNaN}}, 2},
           {{{trained.size() - 1, -kInfinity}}, trained.size() - 1}}) {
    const auto result = step(broken, 1);
    EXPECT_TRUE(result.skipped);
    EXPECT_EQ(result.nonfinite, trained[first]->spec.name);
  }
  const auto of_loss = step({}, kNaN);
  EXPECT_TRUE(of_loss.skipped);
  EXPECT_EQ(of_loss.nonfinite, "");
  const auto of_norm = step({{1, 3e38F}, {3, 3e38F}, {5, 3e38F}}, 1);  // whose norm f32 has not
  EXPECT_TRUE(of_norm.skipped);
  EXPECT_EQ(of_norm.nonfinite, "");
  EXPECT_EQ(optimizer.updates(), 0);
  EXPECT_FALSE(step({}, 1).skipped);
  EXPECT_EQ(optimizer.updates(), 1);
}

TEST(AsReadyClipped, AFirstGradientThatIsNotFiniteChangesNothing) {
  ops::Context context(device::default_device(), 1);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = DType::kF32});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, DType::kF32);
  train::Optimizer optimizer(context, model, {.weight_decay = 0.5});
  const std::string broken = "model.norm.weight";
  Staging staging(context.stream(), parameters.find(broken)->value);
  std::vector<float> values(staging.bytes().size() / sizeof(float), 1);
  values[3] = NAN;
  std::memcpy(staging.bytes().data(), values.data(), staging.bytes().size());
  staging.send();
  Values before;
  for (const auto& p : parameters.all()) before[p.spec.name] = numbers(context, p.value);
  model::TokenBatch batch;
  const std::vector<std::int32_t> ids{1, 2, 3, 4};
  batch.add(ids, ids);
  const auto result = train::train_step(context, model.decoder(), optimizer, {&batch, 1},
                                        {.learning_rate = 1e-3, .clip = 1, .update_as_ready = true});
  EXPECT_TRUE(result.skipped);
  EXPECT_EQ(result.nonfinite, "loss");
  for (const auto& p : parameters.all())
    if (p.spec.name != broken) {
      EXPECT_EQ(numbers(context, p.value), before.at(p.spec.name)) << p.spec.name;
    }
}

// ---- states in the host's memory ----

/// Of everything that an optimizer and its weights hold.
using Bytes = std::map<std::string, std::vector<std::byte>>;

struct Offloaded {
  const char* name;
  DType dtype = DType::kBF16;
  train::OptimizerOptions optimizer = {};
  bool as_ready = false;
  double clip = 0;
  int micro_batches = 1;
};

/// On the CPU a guarded one, whose memory is as far from the host as a card's.
class Offload : public testing::TestWithParam<Offloaded> {
 protected:
  void SetUp() override {
    if (on_cpu()) ::setenv("HONE_GUARDED", "1", 1);
  }
  void TearDown() override {
    if (on_cpu()) ::unsetenv("HONE_GUARDED");
  }
  static bool on_cpu() { return device::default_device() == device::Device{}; }
};

/// A model in training, its states here or there.
class InTraining {
 public:
  using Where = train::OptimizerOptions::Offload;
  InTraining(const Offloaded& setting, Where where)
      : setting_(setting),
        context_(device::default_device(), 2),
        model_(model::CausalLM::from_pretrained(
            context_, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = setting.dtype})) {
    auto& parameters = model_.decoder().parameters();
    parameters.set_trainable({}, setting.micro_batches > 1 ? DType::kF32 : setting.dtype);
    auto options = setting.optimizer;
    options.offload = where;
    options.offload_piece_bytes = 6000;  // of parameters of some thousand elements: two pieces and more
    options.weight_decay = 0.1;
    optimizer_.emplace(context_, model_, options);
  }

  /// Steps `first` … `last` - 1, of which the third is not finite and skipped.
  void steps(int first, int last) {
    for (int step = first; step < last; ++step) {
      std::vector<model::TokenBatch> batches(static_cast<std::size_t>(setting_.micro_batches));
      const CounterRng random(5, RngPurpose::kBench);
      std::uint64_t draw = static_cast<std::uint64_t>(step) << 20;
      for (auto& batch : batches)
        for (int row = 0; row < 2; ++row) {
          std::vector<std::int32_t> ids(5 + random.below(draw++, 9));
          for (auto& id : ids) id = static_cast<std::int32_t>(random.below(draw++, 96));
          batch.add(ids, ids);
        }
      const bool broken = step == 2;
      const auto before = broken ? break_norm() : std::vector<std::byte>();
      const auto result = train::train_step(
          context_, model_.decoder(), *optimizer_, batches,
          {.learning_rate = 1e-3, .clip = setting_.clip, .update_as_ready = setting_.as_ready});
      EXPECT_EQ(result.skipped, broken);
      if (broken) put_norm(before);
    }
  }
  Bytes bytes() {
    Bytes result;
    const auto add = [&](const std::string& name, const Tensor& tensor) {
      const HostView view(context_.stream(), tensor);
      result[name].assign(view.bytes().begin(), view.bytes().end());
    };
    for (const auto& state : optimizer_->state()) add(state.name, state.tensor);
    for (const auto& p : model_.decoder().parameters().all()) add(p.spec.name, p.value);
    return result;
  }
  /// As a checkpoint does.
  void take_over(const Bytes& saved, const InTraining& from) {
    for (const auto& state : optimizer_->state()) {
      Staging staging(context_.stream(), state.tensor);
      std::memcpy(staging.data(), saved.at(state.name).data(), saved.at(state.name).size());
      staging.send();
    }
    optimizer_->masters_changed(context_);
    optimizer_->set_updates(from.optimizer_->updates());
    optimizer_->set_last_norm(from.optimizer_->last_norm());
  }
  const ops::Context& context() const { return context_; }

 private:
  Tensor norm() { return model_.decoder().parameters().find("model.norm.weight")->value; }
  std::vector<std::byte> break_norm() {
    const HostView view(context_.stream(), norm());
    std::vector<std::byte> before(view.bytes().begin(), view.bytes().end());
    put_norm(std::vector<std::byte>(before.size(), std::byte{0xff}));
    return before;
  }
  void put_norm(const std::vector<std::byte>& bytes) {
    Staging staging(context_.stream(), norm());
    std::memcpy(staging.data(), bytes.data(), bytes.size());
    staging.send();
  }

  Offloaded setting_;
  ops::Context context_;
  model::CausalLM model_;
  std::optional<train::Optimizer> optimizer_;
};

TEST_P(Offload, IsBitForBitTheSameAndContinuesEitherWay) {
  using Where = InTraining::Where;
  InTraining here(GetParam(), Where::kNone), there(GetParam(), Where::kHost);
  const auto pinned = there.context().stream().host_ledger().current(device::Purpose::kOptimizer);
  EXPECT_GT(pinned, 0);
  EXPECT_LT(there.context().ledger().current(device::Purpose::kOptimizer),
            here.context().ledger().current(device::Purpose::kOptimizer));
  EXPECT_EQ(here.context().stream().host_ledger().current_total(), 0);
  here.steps(0, 4);
  there.steps(0, 4);
  const Bytes saved = here.bytes();
  EXPECT_TRUE(there.bytes() == saved);
  InTraining to_there(GetParam(), Where::kHost), to_here(GetParam(), Where::kNone);
  to_there.take_over(saved, here);
  to_here.take_over(there.bytes(), there);
  for (InTraining* run : {&here, &to_there, &to_here}) run->steps(4, 6);
  const Bytes end = here.bytes();
  EXPECT_FALSE(end == saved);
  EXPECT_TRUE(to_there.bytes() == end);
  EXPECT_TRUE(to_here.bytes() == end);
}

using Options = train::OptimizerOptions;
INSTANTIATE_TEST_SUITE_P(
    Settings, Offload,
    testing::Values(Offloaded{.name = "masters"},
                    Offloaded{.name = "f32", .dtype = DType::kF32, .clip = 1e-2},
                    Offloaded{.name = "accumulated", .clip = 1e-2, .micro_batches = 3},
                    Offloaded{.name = "as_ready", .as_ready = true, .clip = 1e-2},
                    Offloaded{.name = "eight_bit", .optimizer = {.state = Options::State::k8Bit}},
                    Offloaded{.name = "without_masters",
                              .optimizer = {.state = Options::State::k8Bit, .master = Options::Master::kBF16},
                              .as_ready = true},
                    Offloaded{.name = "sgd_momentum",
                              .optimizer = {.type = Options::Type::kSgd, .momentum = 0.9},
                              .clip = 1e-2}),
    [](const auto& setting) { return std::string(setting.param.name); });

TEST(OffloadOnTheCpu, ChangesNothing) {
  if (device::default_device() != device::Device{}) GTEST_SKIP() << "a card's memory is not the host's";
  Training training{.dtype = DType::kBF16};
  const Outcome without = train(training);
  training.optimizer.offload = train::OptimizerOptions::Offload::kHost;
  const Outcome with = train(training);
  expect_equal(with, without);
  EXPECT_EQ(with.optimizer_bytes, without.optimizer_bytes);
}

TEST(EightBit, MomentsTakeAQuarterAndLearnAsWell) {
  Training training{.steps = 30};
  training.step.learning_rate = 3e-3;
  const Outcome whole = train(training);
  training.optimizer.state = train::OptimizerOptions::State::k8Bit;
  const Outcome coded = train(training);
  EXPECT_LT(coded.optimizer_bytes, whole.optimizer_bytes);
  double moved = 0, apart = 0;
  const Outcome start = train({.steps = 0});
  for (const auto& [name, values] : whole.weights)
    for (std::size_t i = 0; i < values.size(); ++i) {
      moved += std::pow(values[i] - start.weights.at(name)[i], 2);
      apart += std::pow(values[i] - coded.weights.at(name)[i], 2);
    }
  EXPECT_GT(apart, 0);
  EXPECT_LT(std::sqrt(apart / moved), 0.25) << "how far eight bits lead astray, of the way gone";
}

TEST(WithoutMasters, SmallUpdatesAddUp) {
  // Of a weight w a step of 1e-4 w is a fortieth of what bf16 can tell apart.
  Training training{.dtype = DType::kBF16, .steps = 60};
  training.step.learning_rate = 2e-6;
  const Outcome masters = train(training), start = train({.dtype = DType::kBF16, .steps = 0});
  training.optimizer.master = train::OptimizerOptions::Master::kBF16;
  const Outcome none = train(training);
  EXPECT_LT(none.optimizer_bytes, masters.optimizer_bytes);
  // Along the way that masters went, one without them must go the same distance on average.
  Training exact = training;
  exact.dtype = DType::kF32;
  exact.optimizer.master = train::OptimizerOptions::Master::kF32;
  const Outcome way = train(exact), origin = train({.steps = 0});
  double along = 0, length = 0;
  for (const auto& [name, values] : way.weights)
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double step = values[i] - origin.weights.at(name)[i];
      along += step * (none.weights.at(name)[i] - start.weights.at(name)[i]);
      length += step * step;
    }
  EXPECT_NEAR(along / length, 1, 0.25);
}

TEST(WithoutMasters, AreTheSameInEveryRun) {
  Training training{.dtype = DType::kBF16};
  training.optimizer.master = train::OptimizerOptions::Master::kBF16;
  training.optimizer.state = train::OptimizerOptions::State::k8Bit;
  const Outcome once = train(training);
  expect_equal(train(training), once);
  training.optimizer.seed = 1;
  EXPECT_NE(train(training).weights, once.weights);
}

}  // namespace
}  // namespace hone::test
