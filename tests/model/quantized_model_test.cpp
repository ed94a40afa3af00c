// A model whose checkpoint is quantised: dequantized by default, or kept in its format, from loading to
// saving.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/small_floats.h"
#include "hub/checkpoint_writer.h"
#include "model/causal_lm.h"
#include "tests/temporary_directory.h"

namespace hone::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::int64_t kBlock = 16;

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::map<std::string, std::string> files_of(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), directory).string()] = text_of(entry.path());
  return files;
}

/// A golden checkpoint with its projections in FP8, blocks of 16 x 16, cut at the edges.
class QuantizedModel : public testing::Test {
 protected:
  QuantizedModel() { quantize("llama-default", root_ / "fp8"); }

  void quantize(const std::string& golden, const fs::path& to) {
    const fs::path from = fs::path(HONE_TEST_DATA) / "golden" / golden;
    const auto checkpoint = hub::Checkpoint::open(from);
    std::vector<hub::NewTensor> tensors;
    std::map<std::string, std::vector<std::byte>> bytes;
    for (const auto& tensor : checkpoint.tensors()) {
      const auto raw = checkpoint.bytes(tensor);
      std::vector<float> values(static_cast<std::size_t>(tensor.shape().numel()));
      const std::vector<std::byte> aligned(raw.begin(), raw.end());
      convert(*tensor.type().dtype, aligned.data(), DType::kF32, values.data(), values.size());
      if (tensor.name().find("_proj.") == std::string::npos) {
        tensors.push_back({{tensor.name(), hub::find_stored_type("BF16"), tensor.shape()}});
        auto& stored = bytes[tensor.name()];
        stored.resize(values.size() * 2);
        convert(DType::kF32, values.data(), DType::kBF16, stored.data(), values.size());
        decoded_[tensor.name()] = values;
        convert(DType::kBF16, stored.data(), DType::kF32, decoded_[tensor.name()].data(), values.size());
        continue;
      }
      const std::int64_t rows = tensor.shape()[0], cols = tensor.shape()[1];
      const Shape grid{(rows + kBlock - 1) / kBlock, (cols + kBlock - 1) / kBlock};
      std::vector<float> scales(static_cast<std::size_t>(grid.numel()), 0.0F);
      const auto scale = [&](std::int64_t i) -> float& {
        return scales[static_cast<std::size_t>(i / cols / kBlock * grid[1] + i % cols / kBlock)];
      };
      const auto n = static_cast<std::int64_t>(values.size());
      for (std::int64_t i = 0; i < n; ++i)
        scale(i) = std::max(scale(i), std::abs(values[static_cast<std::size_t>(i)]) / Float8E4M3::kMax);
      auto& elements = bytes[tensor.name()];
      auto& decoded = decoded_[tensor.name()];
      for (std::int64_t i = 0; i < n; ++i) {
        const Float8E4M3 e(values[static_cast<std::size_t>(i)] / scale(i));
        elements.push_back(static_cast<std::byte>(e.bits));
        decoded.push_back(static_cast<float>(e) * scale(i));
      }
      tensors.push_back({{tensor.name(), hub::find_stored_type("F8_E4M3"), tensor.shape()}});
      tensors.push_back({{tensor.name() + "_scale_inv", hub::find_stored_type("F32"), grid}});
      auto& stored = bytes[tensor.name() + "_scale_inv"];
      stored.resize(scales.size() * 4);
      std::memcpy(stored.data(), scales.data(), stored.size());
    }
    auto writer = hub::CheckpointWriter::fresh(tensors, to);
    for (const auto& tensor : tensors) writer.write(tensor.spec.name, bytes.at(tensor.spec.name));
    auto config = nlohmann::json::parse(text_of(from / "config.json"));
    config["dtype"] = "bfloat16";
    config["quantization_config"] = {{"quant_method", "fp8"},
                                     {"fmt", "e4m3"},
                                     {"activation_scheme", "dynamic"},
                                     {"weight_block_size", {kBlock, kBlock}}};
    writer.add_file("config.json", config.dump(2) + "\n");
    writer.publish();
  }

  CausalLM load(const fs::path& directory, QuantizedStorage quantized, DType dtype = DType::kBF16) {
    return CausalLM::from_pretrained(context_, directory, {.dtype = dtype, .quantized = quantized});
  }
  static std::vector<float> values(const Parameter& p) {
    std::vector<float> v(static_cast<std::size_t>(p.value.numel()));
    convert(p.value.dtype(), p.value.data(), DType::kF32, v.data(), v.size());
    return v;
  }
  nlohmann::json config(const char* name) const {
    return nlohmann::json::parse(text_of(root_ / name / "config.json"));
  }

  hone::test::TemporaryDirectory root_;
  std::map<std::string, std::vector<float>> decoded_;  // by key
  ops::Context context_{{}, 1};
};

TEST_F(QuantizedModel, ComputesInTheValuesThatAreStored) {
  const auto model = load(root_ / "fp8", QuantizedStorage::kKeep, DType::kF32);
  for (const auto& p : model.decoder().parameters().all()) EXPECT_EQ(values(p), decoded_.at(p.spec.name));
  EXPECT_EQ(CausalLM::open(context_, root_ / "fp8").decoder().dtype(), DType::kBF16);
}

TEST_F(QuantizedModel, IsSavedInBf16WithoutAWordOfItsFormat) {
  const auto model = load(root_ / "fp8", QuantizedStorage::kDequantize);
  model.save_pretrained(context_, root_ / "out");
  EXPECT_FALSE(config("out").contains("quantization_config"));
  EXPECT_EQ(config("out").at("dtype"), "bfloat16");
  const auto saved = hub::Checkpoint::open(root_ / "out");
  for (const auto& tensor : saved.tensors()) {
    EXPECT_EQ(tensor.type().name, "BF16") << tensor.name();
    EXPECT_EQ(tensor.name().find("_scale_inv"), std::string::npos);
  }
  const auto again = load(root_ / "out", QuantizedStorage::kDequantize);
  for (const auto& p : again.decoder().parameters().all())
    EXPECT_EQ(values(p), values(*model.decoder().parameters().find(p.spec.name)));
}

TEST_F(QuantizedModel, IsSavedByteForByteWhereNothingWasTrained) {
  load(root_ / "fp8", QuantizedStorage::kKeep).save_pretrained(context_, root_ / "out");
  EXPECT_EQ(files_of(root_ / "out"), files_of(root_ / "fp8"));
}

TEST_F(QuantizedModel, KeepsItsFormatWhenItIsTrained) {
  auto model = load(root_ / "fp8", QuantizedStorage::kKeep);
  model.decoder().parameters().set_trainable({"layers.0", "embed"}, DType::kF32);
  std::map<std::string, std::vector<float>> masters;
  const auto report =
      model.save_pretrained(context_, root_ / "out", [&](const Parameter& p) -> std::optional<hub::Source> {
        if (!p.trainable) return std::nullopt;
        auto& master = masters[p.spec.name];
        master = decoded_.at(p.spec.name);
        for (std::size_t i = 0; i < master.size(); ++i)
          master[i] +=
              0.01F * std::sin(static_cast<float>(i));  // all of them, some beyond their block's largest
        return hub::Source{master.data(), DType::kF32};
      });
  EXPECT_EQ(report.coding.tensors, 7) << "projections of layer 1";
  EXPECT_GT(report.coding.worst_error, 0.005);
  EXPECT_LT(report.coding.worst_error, 0.04);
  EXPECT_THAT(report.coding.worst, HasSubstr("layers.1"));
  EXPECT_EQ(text_of(root_ / "out" / "config.json"), text_of(root_ / "fp8" / "config.json"));
  const auto again = load(root_ / "out", QuantizedStorage::kKeep, DType::kF32);
  for (const auto& p : again.decoder().parameters().all()) {
    const auto got = values(p);
    const auto master = masters.find(p.spec.name);
    if (master == masters.end()) {
      EXPECT_EQ(got, decoded_.at(p.spec.name)) << p.spec.name;
      continue;
    }
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      error += std::pow(static_cast<double>(got[i]) - static_cast<double>(master->second[i]), 2);
      norm += std::pow(static_cast<double>(master->second[i]), 2);
    }
    EXPECT_LE(std::sqrt(error / norm), report.coding.worst_error + 0.004) << p.spec.name;  // bf16 ones: 2^-9
  }
}

TEST_F(QuantizedModel, ForecastsWhatCodingWillAdd) {
  const auto model = load(root_ / "fp8", QuantizedStorage::kKeep);
  for (std::size_t i = 0; i < model.plan().parameters().size(); ++i) {
    const bool is_quantized = model.plan().parameters()[i].name.find("_proj.") != std::string::npos;
    const double error = model.plan().expected_coding_error(i).relative();
    EXPECT_EQ(error > 0, is_quantized) << model.plan().parameters()[i].name;
    EXPECT_LT(error, 0.04);
  }
}

TEST_F(QuantizedModel, StoredAsAnotherTypeIsQuantisedNoMore) {
  auto model = load(root_ / "fp8", QuantizedStorage::kKeep);
  model.store_as(DType::kF32);
  model.save_pretrained(context_, root_ / "out");
  EXPECT_FALSE(config("out").contains("quantization_config"));
  EXPECT_EQ(config("out").at("dtype"), "float32");
  const auto again = load(root_ / "out", QuantizedStorage::kDequantize, DType::kF32);
  for (const auto& p : again.decoder().parameters().all()) EXPECT_EQ(values(p), decoded_.at(p.spec.name));
}

TEST_F(QuantizedModel, RefusesOtherMethodsInOneLine) {
  const auto refusal = [&](const nlohmann::json& quantization) {
    auto changed = config("fp8");
    changed["quantization_config"] = quantization;
    std::ofstream(root_ / "fp8" / "config.json") << changed.dump();
    try {
      (void)CausalLM::open(context_, root_ / "fp8");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUser);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(
      refusal({{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}),
      HasSubstr("quantization_config: the weights are quantised (bitsandbytes), which hone does not read"));
  EXPECT_THAT(refusal({{"quant_method", "fp8"}, {"activation_scheme", "static"}}),
              HasSubstr("(fp8 with activation_scheme static)"));
  EXPECT_THAT(refusal({{"quant_method", "fp8"}, {"weight_block_size", {128}}}),
              HasSubstr("weight_block_size"));
  EXPECT_THAT(refusal({{"quant_method", "fp8"}, {"weight_block_size", {8, 8}}}),
              HasSubstr("_scale_inv has shape"));
  EXPECT_EQ(refusal({{"quant_method", "fp8"}, {"weight_block_size", {kBlock, kBlock}}}), "");
}

}  // namespace
}  // namespace hone::model
