// Loading and saving through a plan: dtypes, tied heads, untouched bytes, and the round trip of whole
// directories.
#include <cmath>
#include <limits>

#include "hub/config.h"
#include "hub/weight_rules.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::file_of;
using test::files_below;
using test::is_internal_error;
using test::TemporaryDirectory;
using test::write_text;

/// One stored tensor by its bytes.
struct Raw {
  std::string name;
  std::string type;
  Shape shape;
  std::string bytes;
};

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// A file whose data begins `shift` bytes off alignment: the header is padded by hand.
std::string raw_file(const std::vector<Raw>& tensors, std::size_t shift = 0) {
  std::string header = "{";
  std::string data;
  for (const auto& t : tensors) {
    std::string dims;
    for (const auto dim : t.shape.dims()) dims += fmt::format("{}{}", dims.empty() ? "" : ",", dim);
    header +=
        fmt::format("{}\"{}\":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                    data.empty() ? "" : ",", t.name, t.type, dims, data.size(), data.size() + t.bytes.size());
    data += t.bytes;
  }
  header += "}";
  while (header.size() % 8 != shift) header += ' ';
  return file_of(header, data);
}

Checkpoint open(const fs::path& directory, const std::vector<Raw>& tensors, std::size_t shift = 0) {
  write_text(directory / "model.safetensors", raw_file(tensors, shift));
  return Checkpoint::open(directory);
}

WantedParameter wanted(const std::string& name, Shape shape) {
  return {name, std::move(shape)};
}

TEST(WeightPlan, ConvertsEveryWeightTypeEvenUnaligned) {
  const std::vector<float> values{0.0F, -0.0F, 1.5F, -2.25F, 1024.0F, 0x1p-14F, 0.099975586F};
  const Shape shape{static_cast<std::int64_t>(values.size())};
  std::vector<Raw> tensors;
  for (const char* type : {"F32", "BF16", "F16", "F64"}) {
    const DType dtype = *find_stored_type(type)->dtype;
    std::string bytes(values.size() * size_of(dtype), '\0');
    convert(DType::kF32, values.data(), dtype, bytes.data(), values.size());
    tensors.push_back({type, type, shape, bytes});
  }
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const TemporaryDirectory directory;
    const auto checkpoint = open(directory / "m", tensors, shift);
    std::vector<WantedParameter> parameters;
    for (const auto& tensor : tensors) parameters.push_back(wanted(tensor.name, shape));
    const auto plan = WeightRules().plan(checkpoint, parameters);
    for (std::size_t p = 0; p < tensors.size(); ++p) {
      std::vector<float> loaded(values.size());
      plan.load_parameter(team(), p, {loaded.data(), DType::kF32});
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (tensors[p].type == "BF16") {
          EXPECT_EQ(loaded[i], static_cast<float>(BFloat16(values[i])));
        } else {
          EXPECT_EQ(loaded[i], values[i]) << tensors[p].type << " shift " << shift;
        }
      }
    }
  }
}

TEST(WeightPlan, ConvertsTensorsLargerThanAChunk) {
  const TemporaryDirectory directory;
  std::vector<BFloat16> stored;
  for (int i = 0; i < 200'001; ++i) stored.emplace_back(static_cast<float>(i % 251));
  const Shape shape{200'001};
  const auto checkpoint = open(directory / "s", {{"w", "BF16", shape, bytes_of(stored)}}, 1);
  const auto plan = WeightRules().plan(checkpoint, {wanted("w", shape)});
  std::vector<float> values(stored.size());
  plan.load_parameter(team(), 0, {values.data(), DType::kF32});
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<float>(i % 251));
  auto writer = plan.writer(directory / "m");
  plan.save(team(), writer, [&](std::size_t) { return Source{values.data(), DType::kF32}; });
  writer.publish();
  EXPECT_EQ(files_below(directory / "m"), files_below(directory / "s"));
}

TEST(WeightPlan, LoadsInFileOrderAndReportsEachParameterOnce) {
  const TemporaryDirectory directory;
  const auto checkpoint = open(directory / "m", {{"z", "F32", {1}, bytes_of<float>({1})},
                                                 {"e.0", "F32", {1, 1}, bytes_of<float>({2})},
                                                 {"a", "F32", {1}, bytes_of<float>({3})},
                                                 {"e.1", "F32", {1, 1}, bytes_of<float>({4})}});
  WeightRules rules;
  rules.expert_stack("experts", {"e.{e}"}, "experts");
  const auto plan =
      rules.plan(checkpoint, {wanted("a", {1}), wanted("experts", {2, 1, 1}), wanted("z", {1})});
  std::vector<std::string> events;
  std::vector<std::vector<float>> values{{0}, {0, 0}, {0}};
  plan.load(
      team(),
      [&](std::size_t p) {
        events.push_back("open " + plan.parameters()[p].name);
        return p == 2 ? Destination{} : Destination{values[p].data(), DType::kF32};
      },
      [&](std::size_t p) { events.push_back("done " + plan.parameters()[p].name); });
  // They all lie in one window.
  EXPECT_EQ(events, (std::vector<std::string>{"open z", "open experts", "open a", "done z", "done a",
                                              "done experts"}));
  EXPECT_EQ(values, (std::vector<std::vector<float>>{{3}, {2, 4}, {0}}));
}

TEST(WeightPlan, NamesATensorThatHoldsNoNumber) {
  for (const char* type : {"F32", "BF16", "F16", "F64"})
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()})
      for (const std::size_t at : {std::size_t{0}, std::size_t{300'000}, std::size_t{600'000}}) {
        const TemporaryDirectory directory;
        std::vector<float> values(600'001, 65504.0F);  // the largest of F16
        values[at] = bad;
        const DType dtype = *find_stored_type(type)->dtype;
        std::string bytes(values.size() * size_of(dtype), '\0');
        convert(DType::kF32, values.data(), dtype, bytes.data(), values.size());
        const Shape shape{600'001};
        const auto checkpoint =
            open(directory / "m", {{"w", type, shape, bytes}, {"v", "F32", {1}, bytes_of<float>({1})}}, 1);
        std::vector<BFloat16> loaded(values.size());
        const auto plan = WeightRules().plan(checkpoint, {wanted("w", shape)});
        EXPECT_CONTAINS(
            error_of([&] {
              plan.load(team(), [&](std::size_t) { return Destination{loaded.data(), DType::kBF16}; });
            }),
            fmt::format("model.safetensors: w holds {} (element {} of ", bad, at));
        // Of no parameter: said, and written back as it is.
        const auto other = WeightRules().plan(checkpoint, {wanted("v", {1})});
        testing::internal::CaptureStderr();
        float one = 0;
        other.load(team(), [&](std::size_t) { return Destination{&one, DType::kF32}; });
        EXPECT_NE(testing::internal::GetCapturedStderr().find("w holds "), std::string::npos);
        EXPECT_EQ(one, 1);
      }
}

TEST(WeightPlan, FillsWeightAndMasterInOnePassForAnyThreadCount) {
  const TemporaryDirectory directory;
  std::vector<float> stored(3'000'001);
  for (std::size_t i = 0; i < stored.size(); ++i) stored[i] = static_cast<float>(i) * 1.0009765F - 1e6F;
  const Shape shape{3'000'001};
  const auto checkpoint = open(
      directory / "m", {{"a", "F32", {1}, bytes_of<float>({7})}, {"w", "F32", shape, bytes_of(stored)}}, 3);
  const auto plan = WeightRules().plan(checkpoint, {wanted("a", {1}), wanted("w", shape)});
  std::vector<BFloat16> weight(stored.size());
  std::vector<float> master(stored.size());
  float a = 0;
  plan.load(team(), [&](std::size_t p) {
    return p == 0 ? Destination{&a, DType::kF32} : Destination{weight.data(), DType::kBF16, master.data()};
  });
  EXPECT_EQ(a, 7);
  EXPECT_EQ(master, stored);
  for (std::size_t i = 0; i < stored.size(); ++i) ASSERT_EQ(weight[i].bits, BFloat16(stored[i]).bits) << i;
}

TEST(WeightPlan, CopiesNoBytesThatChangedSinceTheyWereRead) {
  const TemporaryDirectory directory;
  std::vector<float> frozen(1'000'000, 1);
  const Shape shape{1'000'000};
  const auto checkpoint = open(
      directory / "m", {{"w", "F32", shape, bytes_of(frozen)}, {"mtp", "F32", {1}, bytes_of<float>({7})}});
  const auto plan = WeightRules().plan(checkpoint, {wanted("w", shape)});
  std::vector<float> loaded(frozen.size());
  plan.load(team(), [&](std::size_t) { return Destination{loaded.data(), DType::kF32}; });
  const auto save = [&] {
    auto writer = plan.writer(directory / "out");
    plan.save(team(), writer, [](std::size_t) { return std::nullopt; });
    writer.publish();
  };
  const fs::path file = directory / "m/model.safetensors";
  const std::string before = test::read_text(file);
  for (const std::size_t at : {before.size() - 1, before.size() / 2}) {  // of "mtp", of "w"
    std::string changed = before;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    write_text(file, changed);
    EXPECT_CONTAINS(error_of(save), "model.safetensors: its bytes are not those that were read");
    EXPECT_FALSE(fs::exists(directory / "out"));
  }
  fs::resize_file(file, 5000);
  EXPECT_CONTAINS(error_of(save), "model.safetensors: was cut short");
  write_text(file, before);
  fs::rename(directory / "m", directory / "moved");
  save();
  EXPECT_EQ(files_below(directory / "out"), files_below(directory / "moved"));
}

struct Tied {
  std::vector<float> head;
  std::string head_type = "F32";
};

std::vector<Raw> tied_checkpoint(const Tied& tied) {
  std::vector<Raw> tensors{{"model.embed_tokens.weight", "F32", {2, 1}, bytes_of<float>({1, 2})}};
  if (tied.head.empty()) return tensors;
  const DType dtype = *find_stored_type(tied.head_type)->dtype;
  std::string bytes(tied.head.size() * size_of(dtype), '\0');
  convert(DType::kF32, tied.head.data(), dtype, bytes.data(), tied.head.size());
  tensors.push_back(
      {"lm_head.weight", tied.head_type, {static_cast<std::int64_t>(tied.head.size()), 1}, bytes});
  return tensors;
}

TEST(TieState, TellsAbsentEqualAndDifferent) {
  const auto state = [](const Tied& tied) {
    const TemporaryDirectory directory;
    return tie_state(open(directory / "m", tied_checkpoint(tied)), "lm_head.weight",
                     "model.embed_tokens.weight");
  };
  EXPECT_EQ(state({{}}), TieState::kAbsent);
  EXPECT_EQ(state({{1, 2}}), TieState::kEqual);
  EXPECT_EQ(state({{1, 2}, "BF16"}), TieState::kEqual);
  EXPECT_EQ(state({{1, 3}}), TieState::kDifferent);
  EXPECT_EQ(state({{1, 3}, "F16"}), TieState::kDifferent);
  EXPECT_EQ(state({{1, 2, 3}}), TieState::kDifferent);
}

WeightRules tied_rules() {
  WeightRules rules;
  rules.tie("lm_head.weight", "model.embed_tokens.weight");
  return rules;
}

const std::vector<WantedParameter> kEmbedding{{"model.embed_tokens.weight", {2, 1}}};

TEST(WeightPlan, WritesAStoredTiedHeadWithTheEmbedding) {
  const TemporaryDirectory directory;
  const auto plan = tied_rules().plan(open(directory / "s", tied_checkpoint({{1, 2}, "BF16"})), kEmbedding);
  ASSERT_EQ(plan.tied_copies().size(), 1U);
  EXPECT_TRUE(plan.passed_through().empty());
  const std::vector<float> trained{3, 4};
  auto writer = plan.writer(directory / "m");
  plan.save(team(), writer, [&](std::size_t) { return Source{trained.data(), DType::kF32}; });
  writer.publish();
  const auto saved = Checkpoint::open(directory / "m");
  EXPECT_EQ(saved.find("lm_head.weight")->type().name, "BF16");
  EXPECT_EQ(tie_state(saved, "lm_head.weight", "model.embed_tokens.weight"), TieState::kEqual);
  auto again = plan.writer(directory / "n");  // nothing changed: the same bytes
  plan.save(team(), again, [](std::size_t) { return std::nullopt; });
  again.publish();
  EXPECT_EQ(files_below(directory / "n"), files_below(directory / "s"));
}

TEST(WeightPlan, TakesTheEmbeddingFromALoneHead) {
  const TemporaryDirectory directory;
  const auto checkpoint = open(directory / "m", {{"lm_head.weight", "F32", {2, 1}, bytes_of<float>({5, 6})}});
  const auto plan = tied_rules().plan(checkpoint, kEmbedding);
  std::vector<float> values(2);
  plan.load_parameter(team(), 0, {values.data(), DType::kF32});
  EXPECT_EQ(values, (std::vector<float>{5, 6}));
  EXPECT_TRUE(plan.tied_copies().empty());
  EXPECT_EQ(plan.parameters()[0].pieces[0].hub.name, "lm_head.weight");
}

TEST(WeightPlan, RefusesATieThatIsNone) {
  const TemporaryDirectory directory;
  const auto checkpoint = open(directory / "m", tied_checkpoint({{7, 8}}));
  EXPECT_TRUE(is_internal_error([&] { (void)tied_rules().plan(checkpoint, kEmbedding); }));
  const auto absent = open(directory / "n", tied_checkpoint({{}}));
  EXPECT_CONTAINS(
      error_of([&] {
        (void)WeightRules().plan(absent, {kEmbedding[0], {"lm_head.weight", {2, 1}}});
      }),
      "lm_head.weight is missing, expected shape (2, 1); a model without one has tie_word_embeddings");
}

TEST(WeightPlan, KeepsFrozenAndUnknownTensorsByteForByte) {
  const TemporaryDirectory directory;
  const std::string odd_nan =
      bytes_of<std::uint32_t>({0x7f800001U, 0xffc12345U});  // would not survive a conversion
  const std::vector<Raw> tensors{{"a.weight", "F32", {2}, odd_nan},
                                 {"b.weight", "F64", {1}, bytes_of<double>({0.1})},
                                 {"mtp.0.weight", "F8_E4M3", {3}, "xyz"},
                                 {"c.weight", "BF16", {1}, bytes_of<BFloat16>({BFloat16(1.0F)})},
                                 {"rotary_emb.inv_freq", "F32", {1}, bytes_of<float>({9})}};
  const auto plan =
      WeightRules().plan(open(directory / "s", tensors, 3),
                         {wanted("a.weight", {2}), wanted("b.weight", {1}), wanted("c.weight", {1})});
  const float trained = 2.0F;
  auto writer = plan.writer(directory / "m");
  const auto report = plan.save(team(), writer, [&](std::size_t p) -> std::optional<Source> {
    return p == 2 ? std::optional(Source{&trained, DType::kF32}) : std::nullopt;
  });
  writer.publish();
  EXPECT_TRUE(report.overflowed.empty());
  auto expected = tensors;
  expected[3].bytes = bytes_of<BFloat16>({BFloat16(2.0F)});
  EXPECT_EQ(files_below(directory / "m").at("model.safetensors"), raw_file(expected, 3));
}

TEST(WeightPlan, ReportsWhatHalfPrecisionCannotHold) {
  const TemporaryDirectory directory;
  const auto checkpoint = open(
      directory / "s", {{"a", "F16", {3}, std::string(6, '\0')}, {"b", "F16", {3}, std::string(6, '\0')}});
  const auto plan = WeightRules().plan(checkpoint, {wanted("a", {3}), wanted("b", {3})});
  const std::vector<float> fits{65504.0F, 65519.0F, std::numeric_limits<float>::infinity()};
  const std::vector<float> overflows{0.0F, -70000.0F, 1.0F};
  auto writer = plan.writer(directory / "m");
  const auto report = plan.save(team(), writer, [&](std::size_t p) {
    return Source{(p == 0 ? fits : overflows).data(), DType::kF32};
  });
  EXPECT_EQ(report.overflowed, std::vector<std::string>{"b: -70000"});
}

TEST(WeightPlan, RehearsesWithTheBytesItWillWrite) {
  const TemporaryDirectory directory;
  const auto checkpoint = open(directory / "s", tied_checkpoint({{1, 2}}));
  const auto plan = tied_rules().plan(checkpoint, kEmbedding);
  EXPECT_EQ(plan.total_bytes(), 16U);
  EXPECT_TRUE(is_internal_error([&] {
    const auto fresh = WeightRules().fresh_plan(kEmbedding, DType::kF32);
    auto writer = fresh.writer(directory / "f");
    fresh.save(team(), writer, [](std::size_t) { return std::nullopt; });
  }));
  EXPECT_EQ(test::names_in(directory.path()), std::vector<std::string>{"s"});
}

/// Every golden checkpoint, loaded in f32 under rules that know all its tensors by their own names, and
/// saved.
TEST(WeightPlan, RoundTripsEveryGoldenCheckpoint) {
  int seen = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(HONE_TEST_DATA) / "golden")) {
    if (!entry.is_directory()) continue;
    const TemporaryDirectory directory;
    const auto checkpoint = Checkpoint::open(entry.path());
    std::vector<WantedParameter> parameters;
    WeightRules rules;
    for (const auto& tensor : checkpoint.tensors()) {
      const std::string& name = tensor.name();
      if (name.ends_with("_scale_inv") || name.ends_with("_scales")) continue;  // read with what they scale
      if (!name.ends_with("_blocks")) {
        parameters.push_back(wanted(name, tensor.shape()));
        continue;
      }
      const auto& dims = tensor.shape().dims();  // (experts, rows, blocks, 16): 32 values a block
      const std::string key = name.substr(0, name.size() - std::string("_blocks").size());
      rules.stored(key, {{{.key = key}}, {{.key = key, .mxfp4 = true}}});
      parameters.push_back(wanted(key, {dims[0], dims[1], 32 * dims[2]}));
    }
    if (const auto quantised = ModelConfig::read(entry.path()).quantization();
        quantised && quantised->block_rows > 0)
      rules.fp8_block(quantised->block_rows, quantised->block_cols);
    const auto plan = rules.plan(checkpoint, parameters);
    std::vector<std::vector<float>> values;
    for (const auto& parameter : parameters)
      values.emplace_back(static_cast<std::size_t>(parameter.shape.numel()));
    plan.load(team(), [&](std::size_t p) { return Destination{values[p].data(), DType::kF32}; });
    auto writer = plan.writer(directory / "m");
    plan.save(team(), writer, [&](std::size_t p) { return Source{values[p].data(), DType::kF32}; });
    writer.add_files(OtherFiles::list(entry.path()));
    writer.publish();
    auto expected = files_below(entry.path());
    expected.erase("golden.safetensors");
    EXPECT_EQ(files_below(directory / "m"), expected) << entry.path();
    ++seen;
  }
  EXPECT_GE(seen, 8);
}

}  // namespace
}  // namespace hone::hub
