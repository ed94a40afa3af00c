// Weight rules: which tensors make up which parameter, in every layout, and what is refused.
#include "hub/weight_rules.h"

#include <cmath>
#include <limits>

#include "json/node.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::files_below;
using test::is_internal_error;
using test::read_text;
using test::TemporaryDirectory;
using test::write_text;

constexpr std::int64_t kExperts = 2;
constexpr std::int64_t kFfn = 3;
constexpr std::int64_t kHidden = 2;

WeightRules qwen_rules() {
  const std::string at = "model.layers.{l}.mlp.experts.";
  WeightRules rules;
  rules.expert_stack(at + "gate_up_proj", {at + "{e}.gate_proj.weight", at + "{e}.up_proj.weight"},
                     at + "gate_up_proj");
  rules.expert_stack(at + "down_proj", {at + "{e}.down_proj.weight"}, at + "down_proj");
  return rules;
}

WeightRules mixtral_rules() {
  const std::string hub_at = "model.layers.{l}.block_sparse_moe.";
  const std::string at = "model.layers.{l}.mlp.";
  WeightRules rules;
  rules.rename(at + "gate.weight", {hub_at + "gate.weight", at + "gate.weight"});
  rules.expert_stack(at + "experts.gate_up_proj",
                     {hub_at + "experts.{e}.w1.weight", hub_at + "experts.{e}.w3.weight"},
                     at + "experts.gate_up_proj");
  rules.expert_stack(at + "experts.down_proj", {hub_at + "experts.{e}.w2.weight"}, at + "experts.down_proj");
  return rules;
}

std::vector<WantedParameter> moe_wanted() {
  return {{"model.embed_tokens.weight", {4, kHidden}},
          {"model.layers.0.self_attn.o_proj.weight", {kHidden, kHidden}},
          {"model.layers.0.mlp.gate.weight", {kExperts, kHidden}},
          {"model.layers.0.mlp.experts.gate_up_proj", {kExperts, 2 * kFfn, kHidden}},
          {"model.layers.0.mlp.experts.down_proj", {kExperts, kHidden, kFfn}},
          {"model.norm.weight", {kHidden}}};
}

/// Writes a checkpoint of given tensors; element i of tensor t is 100 t + i, so every element is told apart.
class CheckpointMaker {
 public:
  CheckpointMaker& add(const std::string& name, Shape shape, std::string_view type = "F32") {
    tensors_.push_back({{name, find_stored_type(type), std::move(shape)}, 0});
    return *this;
  }
  CheckpointMaker& remove(const std::string& name) {
    std::erase_if(tensors_, [&](const NewTensor& tensor) { return tensor.spec.name == name; });
    return *this;
  }
  /// Every key renamed by `change`.
  template <typename F>
  CheckpointMaker& rename(F&& change) {
    for (auto& tensor : tensors_) tensor.spec.name = change(tensor.spec.name);
    return *this;
  }
  Checkpoint write(const fs::path& directory, std::uint64_t max_shard_bytes = kDefaultMaxShardBytes) const {
    auto writer = CheckpointWriter::fresh(tensors_, directory, IfExists::kRefuse, max_shard_bytes);
    for (std::size_t t = 0; t < tensors_.size(); ++t) {
      const auto& spec = tensors_[t].spec;
      std::vector<float> values(static_cast<std::size_t>(spec.shape.numel()));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(t, i);
      std::vector<std::byte> bytes(spec.size_bytes());
      if (is_weight_type(*spec.type))
        convert(DType::kF32, values.data(), *spec.type->dtype, bytes.data(), values.size());
      writer.write(spec.name, bytes);
    }
    writer.publish();
    return Checkpoint::open(directory);
  }
  static float value(std::size_t tensor, std::size_t i) { return static_cast<float>(100 * tensor + i); }

 private:
  std::vector<NewTensor> tensors_;
};

CheckpointMaker per_expert_checkpoint() {
  CheckpointMaker maker;
  maker.add("model.embed_tokens.weight", {4, kHidden})
      .add("model.layers.0.self_attn.o_proj.weight", {kHidden, kHidden})
      .add("model.layers.0.mlp.gate.weight", {kExperts, kHidden});
  for (int e = 0; e < kExperts; ++e) {
    const std::string at = fmt::format("model.layers.0.mlp.experts.{}.", e);
    maker
        .add(at + "up_proj.weight", {kFfn, kHidden})  // not in the order of the pieces
        .add(at + "gate_proj.weight", {kFfn, kHidden})
        .add(at + "down_proj.weight", {kHidden, kFfn});
  }
  return maker.add("model.norm.weight", {kHidden});
}

CheckpointMaker fused_checkpoint() {
  CheckpointMaker maker;
  for (const auto& wanted : moe_wanted()) maker.add(wanted.name, wanted.shape);
  return maker;
}

std::vector<float> load(const WeightPlan& plan, std::string_view name) {
  const std::size_t p = plan.index_of(name);
  std::vector<float> values(static_cast<std::size_t>(plan.parameters()[p].shape.numel()), -1.0F);
  plan.load_parameter(team(), p, {values.data(), DType::kF32});
  return values;
}

TEST(WeightRules, StacksExpertsWithGateRowsBeforeUpRows) {
  const TemporaryDirectory directory;
  const auto plan = qwen_rules().plan(per_expert_checkpoint().write(directory / "m"), moe_wanted());
  std::vector<float> expected;
  for (const std::size_t tensor : {4, 3, 7, 6})  // gate 0, up 0, gate 1, up 1
    for (std::size_t i = 0; i < kFfn * kHidden; ++i) expected.push_back(CheckpointMaker::value(tensor, i));
  EXPECT_EQ(load(plan, "model.layers.0.mlp.experts.gate_up_proj"), expected);
  expected.clear();
  for (const std::size_t tensor : {5, 8})
    for (std::size_t i = 0; i < kFfn * kHidden; ++i) expected.push_back(CheckpointMaker::value(tensor, i));
  EXPECT_EQ(load(plan, "model.layers.0.mlp.experts.down_proj"), expected);
  EXPECT_TRUE(plan.passed_through().empty());
  const auto& parameter = plan.parameters()[plan.index_of("model.layers.0.mlp.experts.gate_up_proj")];
  ASSERT_EQ(parameter.pieces.size(), 4U);
  EXPECT_EQ(parameter.pieces[3].hub.name, "model.layers.0.mlp.experts.1.up_proj.weight");
}

TEST(WeightRules, TakesTheFusedLayoutPerParameter) {
  const TemporaryDirectory directory;
  auto maker = fused_checkpoint();
  const auto plan = qwen_rules().plan(maker.write(directory / "m"), moe_wanted());
  EXPECT_EQ(plan.parameters()[3].pieces.size(), 1U);
  EXPECT_EQ(load(plan, "model.layers.0.mlp.experts.gate_up_proj")[7], CheckpointMaker::value(3, 7));
  maker.remove("model.layers.0.mlp.experts.down_proj")
      .add("model.layers.0.mlp.experts.0.down_proj.weight", {kHidden, kFfn})
      .add("model.layers.0.mlp.experts.1.down_proj.weight", {kHidden, kFfn});
  EXPECT_NO_THROW(qwen_rules().plan(maker.write(directory / "mixed"), moe_wanted()));
}

TEST(WeightRules, ReadsMixtralsNames) {
  const auto to_mixtral = [](std::string key) {
    const std::vector<std::pair<std::string, std::string>> words{
        {".mlp.", ".block_sparse_moe."}, {"gate_proj", "w1"}, {"up_proj", "w3"}, {"down_proj", "w2"}};
    for (const auto& [from, to] : words)
      if (const auto at = key.find(from); at != std::string::npos) key.replace(at, from.size(), to);
    return key;
  };
  const TemporaryDirectory directory;
  const auto hub =
      mixtral_rules().plan(per_expert_checkpoint().rename(to_mixtral).write(directory / "hub"), moe_wanted());
  const auto qwen = qwen_rules().plan(per_expert_checkpoint().write(directory / "qwen"), moe_wanted());
  const auto fused = mixtral_rules().plan(fused_checkpoint().write(directory / "fused"), moe_wanted());
  for (const auto& wanted : moe_wanted())
    EXPECT_EQ(load(hub, wanted.name), load(qwen, wanted.name)) << wanted.name;
  EXPECT_EQ(fused.parameters()[2].pieces[0].hub.name, "model.layers.0.mlp.gate.weight");
}

TEST(WeightRules, ToleratesThePrefixOfTheBaseModel) {
  const TemporaryDirectory directory;
  const auto stripped = per_expert_checkpoint().rename([](const std::string& key) { return key.substr(6); });
  const auto doubled = per_expert_checkpoint().rename([](const std::string& key) { return "model." + key; });
  const auto plan = qwen_rules().plan(stripped.write(directory / "a"), moe_wanted());
  EXPECT_EQ(plan.parameters()[0].pieces[0].hub.name, "embed_tokens.weight");
  EXPECT_NO_THROW(qwen_rules().plan(doubled.write(directory / "b"), moe_wanted()));
  auto both = per_expert_checkpoint();
  both.add("norm.weight", {kHidden});
  EXPECT_CONTAINS(error_of([&] { qwen_rules().plan(both.write(directory / "c"), moe_wanted()); }),
                  "norm.weight and model.norm.weight are both stored");
  auto extra = stripped;
  extra.add("layers.0.self_attn.o_proj.bias", {kHidden});
  EXPECT_CONTAINS(error_of([&] { qwen_rules().plan(extra.write(directory / "d"), moe_wanted()); }),
                  "layers.0.self_attn.o_proj.bias (2) belongs to layers.0.self_attn.o_proj");
}

TEST(WeightRules, ReadsNamesThroughWrappersAndWritesThemBack) {
  const std::vector<std::function<std::string(std::string)>> wrappings{
      [](const std::string& key) { return "_orig_mod." + key; },
      [](const std::string& key) { return "module." + key; },
      [](const std::string& key) { return "base_model.model." + key; },
      [](const std::string& key) { return "language_model." + key; },
      [](const std::string& key) { return "model.language_model." + key.substr(6); },
      [](const std::string& key) { return "module._orig_mod.base_model.model.model." + key; },
      [](const std::string& key) { return "_orig_mod.module." + key.substr(6); },
      [](const std::string& key) { return "model._orig_mod." + key.substr(6); },
      [](const std::string& key) {
        return "_fsdp_wrapped_module." + key.substr(0, key.rfind('.')) + "._checkpoint_wrapped_module" +
               key.substr(key.rfind('.'));
      }};
  for (const auto& wrapping : wrappings) {
    const TemporaryDirectory directory;
    const auto wrapped = per_expert_checkpoint().rename(wrapping);
    const auto checkpoint = wrapped.write(directory / "m");
    const std::string name = wrapping("model.embed_tokens.weight");
    testing::internal::CaptureStderr();
    const auto plan = qwen_rules().plan(checkpoint, moe_wanted());
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find(name + ", read as "), std::string::npos) << said;
    EXPECT_EQ(plan.parameters()[0].pieces[0].hub.name, name);
    EXPECT_TRUE(plan.passed_through().empty()) << name;
    const auto as_plain = qwen_rules().plan(per_expert_checkpoint().write(directory / "plain"), moe_wanted());
    for (std::size_t p = 0; p < plan.parameters().size(); ++p)
      EXPECT_EQ(load(plan, plan.parameters()[p].name), load(as_plain, plan.parameters()[p].name));
    plan.load(team(), [](std::size_t) { return Destination{}; });
    auto writer = plan.writer(directory / "out");
    plan.save(team(), writer, [](std::size_t) { return std::nullopt; });
    writer.publish();
    EXPECT_EQ(test::files_below(directory / "out"), test::files_below(directory / "m")) << name;
    // An expert that config.json does not count is noticed behind the wrapper, too.
    auto extra = wrapped;
    extra.add(wrapping("model.layers.0.self_attn.o_proj.bias"), {kHidden});
    EXPECT_CONTAINS(error_of([&] { qwen_rules().plan(extra.write(directory / "extra"), moe_wanted()); }),
                    "bias (2) belongs to ");
  }
}

TEST(WeightRules, NamesAPrefixItDoesNotKnowAndAnAdapterThatWasNotMerged) {
  const TemporaryDirectory directory;
  const auto prefixed =
      per_expert_checkpoint().rename([](const std::string& key) { return "student." + key; });
  EXPECT_CONTAINS(error_of([&] { qwen_rules().plan(prefixed.write(directory / "a"), moe_wanted()); }),
                  "are all names behind a prefix 'student.'?");
  auto adapted =
      per_expert_checkpoint().rename([](const std::string& key) { return "base_model.model." + key; });
  adapted.add("base_model.model.model.layers.0.self_attn.o_proj.lora_A.default.weight", {kHidden});
  EXPECT_CONTAINS(error_of([&] { qwen_rules().plan(adapted.write(directory / "b"), moe_wanted()); }),
                  "belongs to an adapter that was not merged");
}

struct Refusal {
  const char* why;
  std::function<void(CheckpointMaker&)> change;
  std::string message;
};

TEST(WeightRules, RefusesWhatDoesNotFitAndNamesKeyFileAndShape) {
  const std::string experts = "model.layers.0.mlp.experts.";
  const std::vector<Refusal> refusals{
      {"missing", [](auto& m) { m.remove("model.norm.weight"); },
       "model.safetensors: model.norm.weight is missing, expected shape (2)"},
      {"two missing", [](auto& m) { m.remove("model.norm.weight").remove("model.embed_tokens.weight"); },
       "model.embed_tokens.weight is missing, expected shape (4, 2) (1 more parameters are missing)"},
      {"one expert's part missing", [&](auto& m) { m.remove(experts + "1.up_proj.weight"); },
       "experts.1.up_proj.weight is missing, expected shape (3, 2); 3 of the 4 tensors of "
       "model.layers.0.mlp.experts.gate_up"},
      {"all experts missing",
       [&](auto& m) {
         for (int e = 0; e < kExperts; ++e) m.remove(fmt::format("{}{}.down_proj.weight", experts, e));
       },
       "experts.0.down_proj.weight is missing, expected shape (2, 3)"},
      {"both layouts",
       [&](auto& m) {
         m.add(experts + "gate_up_proj", {kExperts, 2 * kFfn, kHidden});
       },
       "both hold parameter model.layers.0.mlp.experts.gate_up_proj; a checkpoint has it in one layout only"},
      {"shape", [](auto& m) { m.remove("model.norm.weight").add("model.norm.weight", {3}); },
       "model.safetensors: model.norm.weight has shape (3), expected (2) by config.json"},
      {"rank",
       [](auto& m) {
         m.remove("model.norm.weight").add("model.norm.weight", {2, 1});
       },
       "has shape (2, 1), expected (2)"},
      {"expert shape",
       [&](auto& m) {
         m.remove(experts + "1.up_proj.weight").add(experts + "1.up_proj.weight", {2, 3});
       },
       "experts.1.up_proj.weight has shape (2, 3), expected (3, 2)"},
      {"an FP8 weight",
       [](auto& m) { m.remove("model.norm.weight").add("model.norm.weight", {2}, "F8_E4M3"); },
       "model.norm.weight has dtype F8_E4M3, and its scales, model.norm.weight_scale_inv, are missing"},
      {"a bias", [](auto& m) { m.add("model.layers.0.self_attn.o_proj.bias", {2}); },
       "model.layers.0.self_attn.o_proj.bias (2) belongs to model.layers.0.self_attn.o_proj, which the model "
       "computes without"},
      {"a norm", [](auto& m) { m.add("model.layers.0.self_attn.q_norm.weight", {2}); },
       "model.layers.0.self_attn.q_norm.weight (2) belongs to model.layers.0, which the model computes "
       "without it"},
      {"an expert too many",
       [&](auto& m) {
         m.add(experts + "2.up_proj.weight", {3, 2});
       },
       "experts.2.up_proj.weight (3, 2) belongs to model.layers.0, which the model computes without it; "
       "config.json does "
       "not describe these weights (it gives 2 experts)"},
      {"a bias of the last norm", [](auto& m) { m.add("model.norm.bias", {2}); },
       "model.norm.bias (2) belongs to model.norm"},
  };
  for (const auto& refusal : refusals) {
    const TemporaryDirectory directory;
    auto maker = per_expert_checkpoint();
    refusal.change(maker);
    const auto checkpoint = maker.write(directory / "m");
    const std::string what = error_of([&] { qwen_rules().plan(checkpoint, moe_wanted()); });
    EXPECT_CONTAINS(what, refusal.message) << refusal.why;
    EXPECT_CONTAINS(what, (directory / "m/model.safetensors").string()) << refusal.why;
  }
}

TEST(WeightRules, NamesTheIndexOfAShardedCheckpoint) {
  const TemporaryDirectory directory;
  auto maker = per_expert_checkpoint();
  const auto checkpoint = maker.remove("model.norm.weight").write(directory / "m", 40);
  ASSERT_GT(checkpoint.shards().size(), 2U);
  EXPECT_CONTAINS(error_of([&] { qwen_rules().plan(checkpoint, moe_wanted()); }),
                  "model.safetensors.index.json: model.norm.weight is missing");
}

TEST(WeightRules, NamesAMissingTensorInTheLayoutOfTheRest) {
  const TemporaryDirectory directory;
  auto maker = fused_checkpoint();
  const auto checkpoint = maker.remove("model.layers.0.mlp.experts.down_proj").write(directory / "m");
  EXPECT_CONTAINS(error_of([&] { qwen_rules().plan(checkpoint, moe_wanted()); }),
                  "model.layers.0.mlp.experts.down_proj is missing, expected shape (2, 2, 3)");
}

TEST(WeightRules, PassesUnknownTensorsThrough) {
  const TemporaryDirectory directory;
  auto maker = per_expert_checkpoint();
  maker.add("model.layers.0.self_attn.rotary_emb.inv_freq", {1})
      .add("model.layers.0.self_attn.rotary_emb.cos_cached", {1})
      .add("model.layers.1.mtp.weight", {2}, "F8_E4M3")
      .add("mtp.proj.weight", {3}, "U16")
      .add("value_head", {1})
      .add("x.hushed", {1});
  auto rules = qwen_rules();
  rules.pass_silently(".hushed");
  const auto plan = rules.plan(maker.write(directory / "m"), moe_wanted());
  std::vector<std::string> named;
  for (const auto* tensor : plan.passed_through()) named.push_back(tensor->name());
  EXPECT_EQ(named, (std::vector<std::string>{"value_head", "mtp.proj.weight", "model.layers.1.mtp.weight"}));
  ASSERT_EQ(plan.silently_passed_through().size(), 3U);
}

TEST(WeightRules, RefusesRulesThatCannotBe) {
  WeightRules rules;
  EXPECT_TRUE(is_internal_error([&] { rules.expert_stack("a", {"b"}, "c"); }));
  EXPECT_TRUE(is_internal_error([&] { rules.expert_stack("a", {}, "c"); }));
  EXPECT_TRUE(is_internal_error([&] { rules.rename("a", {}); }));
  EXPECT_TRUE(is_internal_error([&] { (void)rules.fresh_plan({{"a", {1}}, {"a", {1}}}, DType::kF32); }));
  rules.expert_stack("a", {"b{e}", "c{e}"}, "d");
  EXPECT_TRUE(is_internal_error([&] { (void)rules.fresh_plan({{"a", {2, 3, 1}}}, DType::kF32); }));
  EXPECT_TRUE(is_internal_error([&] { (void)WeightPlan().index_of("a"); }));
}

// ---- a fresh model, sharded as Transformers shards it

TEST(FreshPlan, ShardsAndNamesAsSavePretrained) {
  const fs::path data = fs::path(HONE_TEST_DATA) / "hub/sharded";
  int seen = 0;
  for (const auto& entry : fs::directory_iterator(data)) {
    const auto golden = JsonNode::read(entry.path() / "golden.json");
    std::vector<WantedParameter> wanted;
    for (const auto& name : golden.at("parameters").keys()) {
      std::vector<std::int64_t> dims;
      for (const auto& dim : golden.at("parameters").at(name).elements()) dims.push_back(dim.as_integer());
      wanted.push_back({name, Shape(dims)});
    }
    const std::string model = entry.path().filename().string();
    const auto rules = model.starts_with("mixtral") ? mixtral_rules()
                       : model.starts_with("llama") ? WeightRules()
                                                    : qwen_rules();
    const TemporaryDirectory directory;
    const auto plan = rules.fresh_plan(wanted, DType::kF32);
    auto writer = plan.writer(directory / "m", IfExists::kRefuse,
                              static_cast<std::uint64_t>(golden.at("max_shard_bytes").as_integer()));
    const std::vector<float> zeros(10000);
    plan.save(team(), writer, [&](std::size_t) { return Source{zeros.data(), DType::kF32}; });
    writer.publish();
    EXPECT_EQ(read_text(directory / "m/model.safetensors.index.json"),
              read_text(entry.path() / "model.safetensors.index.json"))
        << model;
    const auto checkpoint = Checkpoint::open(directory / "m");
    ASSERT_EQ(checkpoint.shards().size(), golden.at("headers").size()) << model;
    for (const auto& shard : checkpoint.shards())
      EXPECT_EQ(shard->header(), golden.at("headers").at(shard->path().filename().string()).as_string())
          << model;
    EXPECT_EQ(plan.total_bytes(), checkpoint.total_bytes());
    ++seen;
  }
  EXPECT_EQ(seen, 5);
}

}  // namespace
}  // namespace hone::hub
