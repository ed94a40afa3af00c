// Quantised checkpoints through a plan: read by formula, whole and in regions; written back untouched, coded
// again, or dequantized; and what is refused.
#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "hub/weight_rules.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::files_below;
using test::read_text;
using test::TemporaryDirectory;
using test::write_text;

constexpr std::int64_t kFew = 3, kWide = 64, kInner = 5;  // experts, hidden, ffn of a tiny gpt_oss

/// A checkpoint of tensors by name, type, shape and bytes, in shards of at most `shard` bytes.
class Builder {
 public:
  Builder& add(const std::string& name, const char* type, const Shape& shape, std::vector<std::byte> bytes) {
    tensors_.push_back({{name, find_stored_type(type), shape}});
    EXPECT_EQ(bytes.size(), tensors_.back().spec.size_bytes()) << name;
    bytes_[name] = std::move(bytes);
    return *this;
  }
  /// Random bytes; of E4M3 none that is NaN, of U8 scales (`exponents`) all around 2^-7.
  Builder& random(const std::string& name, const char* type, const Shape& shape, bool exponents = false) {
    const CounterRng rng(7, RngPurpose::kInit, bytes_.size());
    const TensorSpec spec{name, find_stored_type(type), shape};
    std::vector<std::byte> bytes;
    if (is_weight_type(*spec.type)) {
      std::vector<float> values;
      for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(shape.numel()); ++i)
        values.push_back(0.01F + static_cast<float>(rng.uniform(i)) / 16);
      bytes.resize(spec.size_bytes());
      convert(DType::kF32, values.data(), *spec.type->dtype, bytes.data(), values.size());
    } else {
      for (std::uint64_t i = 0; i < spec.size_bytes(); ++i) {
        auto bits = static_cast<unsigned>(rng.below(i, 256));
        if (exponents) bits = 118 + bits % 6;
        if ((bits & 0x7fU) == 0x7fU) bits ^= 1U;
        bytes.push_back(static_cast<std::byte>(bits));
      }
    }
    return add(name, type, shape, std::move(bytes));
  }
  std::vector<std::byte>& bytes(const std::string& name) { return bytes_.at(name); }
  Checkpoint write(const fs::path& directory, std::uint64_t shard = kDefaultMaxShardBytes) const {
    auto writer = CheckpointWriter::fresh(tensors_, directory, IfExists::kRefuse, shard);
    for (const auto& tensor : tensors_) writer.write(tensor.spec.name, bytes_.at(tensor.spec.name));
    writer.publish();
    return Checkpoint::open(directory);
  }
  float f32(const std::string& name, std::int64_t i) const {
    float value = 0;
    std::memcpy(&value, bytes_.at(name).data() + i * 4, 4);
    return value;
  }
  /// Element i of an MXFP4 tensor KEY, counted over its decoded values.
  float mxfp4(const std::string& key, std::int64_t i) const {
    Float4E2M1 e;
    const auto both = static_cast<unsigned>(bytes_.at(key + "_blocks")[static_cast<std::size_t>(i / 2)]);
    e.bits = static_cast<std::uint8_t>(i % 2 == 0 ? both & 0xfU : both >> 4);
    const auto scale = static_cast<int>(bytes_.at(key + "_scales")[static_cast<std::size_t>(i / 32)]);
    return std::ldexp(static_cast<float>(e), scale - 127);
  }
  /// Element (r, c) of an FP8 matrix of `cols` with F32 scales in rows of `scale_cols`.
  float fp8(const std::string& key, std::int64_t r, std::int64_t c, std::int64_t cols,
            std::int64_t scale_cols) const {
    Float8E4M3 e;
    e.bits = static_cast<std::uint8_t>(bytes_.at(key)[static_cast<std::size_t>(r * cols + c)]);
    return static_cast<float>(e) * f32(key + "_scale_inv", r / 128 * scale_cols + c / 128);
  }

 private:
  std::vector<NewTensor> tensors_;
  std::map<std::string, std::vector<std::byte>> bytes_;
};

/// gpt_oss as it is on the hub: rows of gate and up alternate.
Builder gpt_oss() {
  Builder b;
  b.random("e.gate_up_blocks", "U8", {kFew, 2 * kInner, kWide / 32, 16})
      .random("e.gate_up_scales", "U8", {kFew, 2 * kInner, kWide / 32}, true)
      .random("e.down_blocks", "U8", {kFew, kInner, kWide / 32, 16})
      .random("e.down_scales", "U8", {kFew, kInner, kWide / 32}, true)
      .random("norm", "BF16", {7})
      .random("mtp.weight", "F8_E4M3", {3, 3})
      .random("mtp.weight_scale_inv", "F32", {1, 1});
  return b;
}
WeightRules gpt_oss_rules() {
  WeightRules rules;
  const std::vector<StoredDim> mx{{.dim = 0}, {.dim = 1, .interleaved = 2}, {.dim = 2}};
  const std::vector<StoredDim> plain{{.dim = 0}, {.dim = 2}, {.dim = 1, .interleaved = 2}};
  rules.stored("e.gate_up",
               {{{.key = "e.gate_up", .dims = plain}}, {{.key = "e.gate_up", .dims = mx, .mxfp4 = true}}});
  rules.stored("e.down", {{{.key = "e.down", .dims = {{.dim = 0}, {.dim = 2}, {.dim = 1}}}},
                          {{.key = "e.down", .dims = {}, .mxfp4 = true}}});
  return rules;
}
std::vector<WantedParameter> gpt_oss_wanted() {
  return {{"e.gate_up", {kFew, 2 * kInner, kWide}}, {"e.down", {kFew, kInner, kWide}}, {"norm", {7}}};
}
/// Of the parameter e.gate_up.
std::vector<float> gate_up_values(const Builder& b) {
  std::vector<float> values;
  for (std::int64_t e = 0; e < kFew; ++e)
    for (std::int64_t r = 0; r < 2 * kInner; ++r)
      for (std::int64_t c = 0; c < kWide; ++c) {
        const std::int64_t row = r % kInner * 2 + r / kInner;
        values.push_back(b.mxfp4("e.gate_up", (e * 2 * kInner + row) * kWide + c));
      }
  return values;
}

/// DeepSeek's: blocks of 128 x 128, cut at the edges; experts apart.
constexpr std::int64_t kRows = 130, kCols = 259;
Builder deepseek() {
  Builder b;
  const Shape grid{2, 3};
  for (const char* name : {"x.0.gate", "x.0.up", "x.1.gate", "x.1.up", "proj"})
    b.random(name, "F8_E4M3", {kRows, kCols}).random(std::string(name) + "_scale_inv", "F32", grid);
  b.random("norm", "BF16", {7}).random("head", "BF16", {5, 3});
  return b;
}
WeightRules deepseek_rules() {
  WeightRules rules;
  rules.expert_stack("x", {"x.{e}.gate", "x.{e}.up"}, "x_fused").fp8_block(128, 128);
  return rules;
}
std::vector<WantedParameter> deepseek_wanted() {
  return {{"x", {2, 2 * kRows, kCols}}, {"proj", {kRows, kCols}}, {"norm", {7}}, {"head", {5, 3}}};
}
std::vector<float> matrix_values(const Builder& b, const std::string& key) {
  std::vector<float> values;
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t c = 0; c < kCols; ++c) values.push_back(b.fp8(key, r, c, kCols, 3));
  return values;
}
std::vector<float> x_values(const Builder& b) {
  std::vector<float> values;
  for (const char* key : {"x.0.gate", "x.0.up", "x.1.gate", "x.1.up"})
    for (const float v : matrix_values(b, key)) values.push_back(v);
  return values;
}

std::vector<std::vector<float>> load_all(const WeightPlan& plan) {
  std::vector<std::vector<float>> values;
  for (const auto& p : plan.parameters())
    values.emplace_back(static_cast<std::size_t>(p.shape.numel()), -1.0F);
  plan.load(team(), [&](std::size_t p) { return Destination{values[p].data(), DType::kF32}; });
  return values;
}

/// Saves all parameters of `values` that are not empty; the others are untouched.
SaveReport save(const WeightPlan& plan, const fs::path& directory,
                const std::vector<std::vector<float>>& values) {
  auto writer = plan.writer(directory);
  auto report = plan.save(team(), writer, [&](std::size_t p) -> std::optional<Source> {
    if (values[p].empty()) return std::nullopt;
    return Source{values[p].data(), DType::kF32};
  });
  writer.publish();
  return report;
}

std::vector<float> to_bf16(std::vector<float> values) {
  for (auto& v : values) v = static_cast<float>(BFloat16(v));
  return values;
}

TEST(Quantized, ReadsMxfp4AndFp8ByFormula) {
  const TemporaryDirectory directory;
  const Builder oss = gpt_oss(), deep = deepseek();
  const auto oss_values = load_all(gpt_oss_rules().plan(oss.write(directory / "o"), gpt_oss_wanted()));
  EXPECT_EQ(oss_values[0], gate_up_values(oss));
  for (std::int64_t i = 0; i < kFew * kInner * kWide; ++i)
    ASSERT_EQ(oss_values[1][static_cast<std::size_t>(i)], oss.mxfp4("e.down", i));
  const auto deep_values = load_all(deepseek_rules().plan(deep.write(directory / "d"), deepseek_wanted()));
  EXPECT_EQ(deep_values[0], x_values(deep));
  EXPECT_EQ(deep_values[1], matrix_values(deep, "proj"));
}

TEST(Quantized, ReadsOnlyARegion) {
  const TemporaryDirectory directory;
  const Builder b = deepseek();
  const auto plan = deepseek_rules().plan(b.write(directory / "d"), deepseek_wanted());
  const auto whole = x_values(b);
  const Region region{{1, 100, 3}, {1, 101, 250}};
  std::vector<float> part(101 * 250);
  plan.load_parameter(team(), 0, {.data = part.data(), .dtype = DType::kF32, .region = region});
  for (std::int64_t r = 0; r < 101; ++r)
    for (std::int64_t c = 0; c < 250; ++c)
      ASSERT_EQ(part[static_cast<std::size_t>(r * 250 + c)],
                whole[static_cast<std::size_t>((2 * kRows + 100 + r) * kCols + 3 + c)]);
}

TEST(Quantized, KeepsEveryByteWhereNoValueChanged) {
  const TemporaryDirectory directory;
  int i = 0;
  for (const std::uint64_t shard : {kDefaultMaxShardBytes, std::uint64_t{20'000}}) {
    for (const bool oss : {true, false}) {
      const std::string from = fmt::format("from{}", i), to = fmt::format("to{}-", i++);
      const auto checkpoint = (oss ? gpt_oss() : deepseek()).write(directory / from, shard);
      auto plan = oss ? gpt_oss_rules().plan(checkpoint, gpt_oss_wanted())
                      : deepseek_rules().plan(checkpoint, deepseek_wanted());
      auto values = load_all(plan);
      EXPECT_TRUE(plan.has_quantized() && plan.saves_quantized());
      const auto report = save(plan, directory / (to + "trained"), values);  // all trained, by nothing
      EXPECT_EQ(files_below(directory / (to + "trained")), files_below(directory / from));
      EXPECT_EQ(report.coding.tensors, oss ? 2 : 5);
      EXPECT_EQ(report.coding.worst_error, 0);
      for (auto& v : values) v.clear();
      EXPECT_EQ(save(plan, directory / (to + "frozen"), values).coding.tensors, 0);
      EXPECT_EQ(files_below(directory / (to + "frozen")), files_below(directory / from));
    }
  }
}

TEST(Quantized, CodesTrainedValuesAgain) {
  const TemporaryDirectory directory;
  const Builder b = gpt_oss();
  const auto plan = gpt_oss_rules().plan(b.write(directory / "from"), gpt_oss_wanted());
  auto values = load_all(plan);
  values[0][3] *= 1.3F;  // expert 0, gate row 0: stored row 0, block 0
  const auto report = save(plan, directory / "to", values);
  EXPECT_EQ(report.coding.worst, "e.gate_up_blocks");
  EXPECT_GT(report.coding.worst_error, 0);
  EXPECT_LT(report.coding.worst_error, 0.05);  // one value of 1,920
  const auto again = load_all(gpt_oss_rules().plan(Checkpoint::open(directory / "to"), gpt_oss_wanted()));
  EXPECT_EQ(again[1], values[1]);
  for (std::size_t i = 32; i < values[0].size(); ++i) ASSERT_EQ(again[0][i], values[0][i]) << i;
}

TEST(Quantized, SavesRegionsOfWholeBlocks) {
  const TemporaryDirectory directory;
  const Builder b = deepseek();
  const auto plan = deepseek_rules().plan(b.write(directory / "from"), deepseek_wanted());
  const auto values = load_all(plan);
  auto writer = plan.writer(directory / "to");
  std::vector<float> top(values[1].begin(), values[1].begin() + 128 * kCols);
  std::vector<float> rest(values[1].begin() + 128 * kCols, values[1].end());
  plan.save(team(), writer, [&](std::size_t p) -> std::optional<Source> {
    if (p != 1) return std::nullopt;
    return Source{top.data(), DType::kF32, {{0, 0}, {128, kCols}}};
  });
  plan.save_parameter(team(), writer, 1, {rest.data(), DType::kF32, {{128, 0}, {kRows - 128, kCols}}});
  writer.publish();
  EXPECT_EQ(files_below(directory / "to"), files_below(directory / "from"));
  auto cut = plan.writer(directory / "cut");
  EXPECT_TRUE(test::is_internal_error([&] {
    plan.save_parameter(team(), cut, 1, {top.data(), DType::kF32, {{1, 0}, {127, kCols}}});
  }));
}

TEST(Quantized, DequantizesIntoThePlainLayout) {
  const TemporaryDirectory directory;
  int i = 0;
  for (const std::uint64_t shard : {kDefaultMaxShardBytes, std::uint64_t{1'500}}) {
    const Builder b = gpt_oss();
    const std::string from = fmt::format("from{}", i), to = fmt::format("to{}", i++);
    auto plan = gpt_oss_rules().plan(b.write(directory / from, shard), gpt_oss_wanted());
    plan.dequantize(DType::kBF16);
    EXPECT_FALSE(plan.saves_quantized());
    auto values = load_all(plan);
    values[1].clear();                 // untouched
    for (auto& v : values[0]) v += 1;  // trained
    save(plan, directory / to, values);
    const auto saved = Checkpoint::open(directory / to);
    EXPECT_EQ(saved.total_bytes(), plan.total_bytes());
    ASSERT_NE(saved.find("e.gate_up"), nullptr);
    EXPECT_EQ(saved.find("e.gate_up")->type().name, "BF16");
    EXPECT_EQ(saved.find("e.gate_up")->shape(), (Shape{kFew, kWide, 2 * kInner}));
    EXPECT_EQ(saved.find("e.gate_up_blocks"), nullptr);
    EXPECT_EQ(saved.find("e.gate_up_scales"), nullptr);
    if (saved.index_text()) {
      EXPECT_EQ(saved.index_text()->find("_blocks"), std::string::npos);
      EXPECT_CONTAINS(*saved.index_text(), fmt::format("\"total_size\": {}", saved.total_bytes()));
    }
    const auto& tensor = *saved.find("mtp.weight");  // of no parameter: its bytes
    const auto bytes = saved.bytes(tensor);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), Builder(b).bytes("mtp.weight").begin()));
    const auto again = load_all(gpt_oss_rules().plan(saved, gpt_oss_wanted()));
    EXPECT_EQ(again[0], to_bf16(values[0]));
    for (std::int64_t e = 0; e < kFew * kInner * kWide; ++e)
      ASSERT_EQ(again[1][static_cast<std::size_t>(e)], static_cast<float>(BFloat16(b.mxfp4("e.down", e))));
  }
}

TEST(Quantized, StoresAsAnotherType) {
  const TemporaryDirectory directory;
  const Builder b = deepseek();
  auto plan = deepseek_rules().plan(b.write(directory / "from"), deepseek_wanted());
  plan.store_as(DType::kF32);
  auto values = load_all(plan);
  const auto all = values;
  values[0].clear();
  values[3].clear();
  save(plan, directory / "to", values);
  const auto saved = Checkpoint::open(directory / "to");
  for (const auto& tensor : saved.tensors()) EXPECT_EQ(tensor.type().name, "F32") << tensor.name();
  EXPECT_EQ(load_all(deepseek_rules().plan(saved, deepseek_wanted())), all);
}

TEST(Quantized, FindsTheBlocksOfItsScales) {
  struct Case {
    Shape weight, scales;
    const char* type;
    std::int64_t rows, cols;
  };
  const TemporaryDirectory directory;
  int i = 0;
  for (const auto& c : {Case{{130, 259}, {2, 3}, "F32", 128, 128}, Case{{6, 9}, {1}, "F32", 6, 9},
                        Case{{6, 9}, {}, "BF16", 6, 9}, Case{{6, 9}, {2, 3}, "F32", 3, 3},
                        Case{{6, 64}, {6, 2}, "U8", 1, 32}, Case{{2, 130, 5}, {2, 2, 1}, "F32", 128, 128}}) {
    Builder b;
    b.random("w", "F8_E4M3", c.weight).random("w_scale_inv", c.type, c.scales, true);
    const auto plan = WeightRules().plan(b.write(directory / fmt::format("{}", i++)), {{"w", c.weight}});
    const auto& format = plan.parameters()[0].pieces[0].quantized->read.format;
    EXPECT_EQ(format.block_rows, c.rows) << c.weight.str() << c.scales.str();
    EXPECT_EQ(format.block_cols, c.cols) << c.weight.str() << c.scales.str();
  }
}

TEST(Quantized, RefusesWhatItCannotRead) {
  const TemporaryDirectory directory;
  int i = 0;
  const auto refusal = [&](const Builder& b, const WeightRules& rules, const WantedParameter& wanted) {
    const auto checkpoint = b.write(directory / fmt::format("{}", i++));
    return error_of([&] { (void)load_all(rules.plan(checkpoint, {wanted})); });
  };
  Builder alone;
  alone.random("w", "F8_E4M3", {4, 4});
  EXPECT_CONTAINS(refusal(alone, {}, {"w", {4, 4}}), "its scales, w_scale_inv, are missing");
  Builder grid;
  grid.random("w", "F8_E4M3", {130, 4}).random("w_scale_inv", "F32", {3, 1});
  EXPECT_CONTAINS(refusal(grid, {}, {"w", {130, 4}}), "w_scale_inv has shape (3, 1), expected (2, 1)");
  WeightRules other;
  other.fp8_block(64, 128);
  EXPECT_NO_THROW(other.plan(grid.write(directory / "64"), {{"w", {130, 4}}})) << "of 64 rows they are three";
  other.fp8_block(32, 128);
  EXPECT_CONTAINS(refusal(grid, other, {"w", {130, 4}}),
                  "expected (5, 1) for w (130, 4) in blocks of 32 x 128");
  Builder integers;
  integers.random("w", "F8_E4M3", {4, 4}).add("w_scale_inv", "I32", {1, 1}, std::vector<std::byte>(4));
  EXPECT_CONTAINS(refusal(integers, {}, {"w", {4, 4}}), "has dtype I32; scales are");
  Builder five;
  five.random("w", "F8_E5M2", {4, 4});
  EXPECT_CONTAINS(refusal(five, {}, {"w", {4, 4}}), "w has dtype F8_E5M2; weights are read from");
  WeightRules mx;
  mx.stored("w", {{{.key = "w"}}, {{.key = "w", .mxfp4 = true}}});
  Builder blocks;
  blocks.random("w_blocks", "U8", {4, 2, 16});
  EXPECT_CONTAINS(refusal(blocks, mx, {"w", {4, 64}}), "its scales, w_scales, are missing");
  blocks.random("w_scales", "U8", {4, 1}, true);
  EXPECT_CONTAINS(refusal(blocks, mx, {"w", {4, 64}}), "w_scales has shape (4, 1), expected (4, 2)");
  Builder both;
  both.random("w", "BF16", {4, 64})
      .random("w_blocks", "U8", {4, 2, 16})
      .random("w_scales", "U8", {4, 2}, true);
  EXPECT_CONTAINS(refusal(both, mx, {"w", {4, 64}}), "both hold parameter w");
}

TEST(Quantized, RefusesScalesOfNoNumber) {
  const TemporaryDirectory directory;
  Builder b = gpt_oss();
  b.bytes("e.down_scales")[1] = static_cast<std::byte>(255);
  const auto plan = gpt_oss_rules().plan(b.write(directory / "m"), gpt_oss_wanted());
  const auto error = error_of([&] { (void)load_all(plan); });
  EXPECT_CONTAINS(error, "e.down_blocks holds nan (element 32 of");
}

TEST(Quantized, WritesNoScalesThatChangedSinceTheyWereRead) {
  const TemporaryDirectory directory;
  const Builder b = deepseek();
  const auto checkpoint = b.write(directory / "m");
  const auto plan = deepseek_rules().plan(checkpoint, deepseek_wanted());
  auto values = load_all(plan);
  const auto& scales = *checkpoint.find("proj_scale_inv");
  const fs::path file = checkpoint.file_of(scales);
  std::string text = read_text(file);
  const std::string old(reinterpret_cast<const char*>(checkpoint.bytes(scales).data()), 4);
  const auto at = text.find(old);
  ASSERT_NE(at, std::string::npos);
  std::fstream change(file, std::ios::in | std::ios::out | std::ios::binary);
  change.seekp(static_cast<std::streamoff>(at));
  change.write("\0\0\0\0", 4);
  change.close();
  EXPECT_CONTAINS(error_of([&] { save(plan, directory / "to", values); }), "its bytes are not those");
}

}  // namespace
}  // namespace hone::hub
