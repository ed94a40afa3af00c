// Every golden checkpoint against Transformers: logits, loss, every gradient, weights after three optimizer
// steps, bf16 logits, greedy tokens, and the byte-identical way back. What is in the files:
// tests/data/golden/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "hub/safetensors.h"
#include "json/node.h"
#include "model/causal_lm.h"
#include "model/generate.h"
#include "tensor/transfer.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace hone {
namespace {

const std::filesystem::path kGoldens = std::filesystem::path(HONE_TEST_DATA) / "golden";

// DESIGN section 5: norms of differences over norms.
constexpr double kLogitsTolerance = 1e-5;
constexpr double kGradientTolerance = 1e-4;

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& c : JsonNode::read(kGoldens / "manifest.json").at("cases").elements())
    names.push_back(c.at("name").as_string());
  return names;
}

std::vector<double> to_doubles(const hub::SafetensorsFile& file, const hub::StoredTensor& tensor) {
  const DType dtype = tensor.spec.type->dtype.value();
  const auto bytes = file.bytes(tensor);
  const auto n = static_cast<std::size_t>(tensor.spec.shape.numel());
  std::vector<double> values(n);
  if (dtype == DType::kI32) {
    std::vector<std::int32_t> ints(n);
    std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<std::byte*>(ints.data()));
    std::copy(ints.begin(), ints.end(), values.begin());
  } else {
    convert(dtype, std::vector<std::byte>(bytes.begin(), bytes.end()).data(), DType::kF64, values.data(), n);
  }
  return values;
}

double relative_distance(const std::vector<double>& got, const std::vector<double>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

/// The tensor that a piece is of: of a quantised one what Transformers dequantizes it to, which the figures
/// are of.
const std::string& key_of(const hub::WeightPiece& piece) {
  return piece.quantized ? piece.quantized->plain.name : piece.hub.name;
}

/// A parameter's values in the order of that tensor.
std::vector<double> as_stored(const hub::WeightPiece& piece, const std::vector<double>& values) {
  const hub::WeightMap& map = piece.quantized ? piece.quantized->plain_map : piece.map;
  std::vector<double> stored(static_cast<std::size_t>(map.stored_elements()));
  hub::MapWalk(map).for_each_run(0, map.stored_elements(), [&](const hub::MapWalk::Run& run) {
    for (std::int64_t i = 0; i < run.count; ++i)
      stored[static_cast<std::size_t>(run.stored + i)] =
          values[static_cast<std::size_t>(run.memory + (run.offsets != nullptr ? run.offsets[i] : i))];
  });
  return stored;
}

class ModelGolden : public testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path directory() const { return kGoldens / GetParam(); }
  const hub::SafetensorsFile& file() {
    if (!file_) file_ = hub::SafetensorsFile::open(directory() / "golden.safetensors");
    return *file_;
  }
  bool has(const std::string& key) { return file().find(key) != nullptr; }
  std::vector<double> golden(const std::string& key) { return to_doubles(file(), *file().find(key)); }
  std::vector<std::int32_t> ints(const std::string& key) {
    const auto values = golden(key);
    return {values.begin(), values.end()};
  }
  model::TokenBatch all_rows() {
    model::TokenBatch batch;
    for (int i = 0; has("ids." + std::to_string(i)); ++i)
      batch.add(ints("ids." + std::to_string(i)), ints("labels." + std::to_string(i)));
    return batch;
  }
  model::CausalLM load(DType dtype) {
    return model::CausalLM::from_pretrained(context_, directory(),
                                            {.dtype = dtype, .quantized = model::QuantizedStorage::kKeep});
  }
  std::vector<double> floats(const Tensor& t) const {
    std::vector<double> values(static_cast<std::size_t>(t.numel()));
    convert(t.dtype(), HostView(context_.stream(), t).data(), DType::kF64, values.data(), values.size());
    return values;
  }
  static double aux_coefficient(const model::CausalLM& model) {
    return model.spec().output_router_logits ? model.spec().aux_coefficient : 0.0;
  }
  std::vector<double> row_logits(model::CausalLM& model, const std::vector<std::int32_t>& ids) {
    model::TokenBatch row;
    row.add(ids);
    return floats(model.decoder().logits(context_, model.decoder().forward(context_, row).residual));
  }

  ops::Context context_;
  std::shared_ptr<const hub::SafetensorsFile> file_;
};

TEST_P(ModelGolden, LogitsMatch) {
  auto model = load(DType::kF32);
  for (int i = 0; has("ids." + std::to_string(i)); ++i) {
    const auto got = row_logits(model, ints("ids." + std::to_string(i)));
    EXPECT_LT(relative_distance(got, golden("logits." + std::to_string(i))), kLogitsTolerance) << "row " << i;
  }
}

TEST_P(ModelGolden, LossAndEveryGradientMatch) {
  auto model = load(DType::kF32);
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, DType::kF32);
  const auto batch = all_rows();
  ops::Tape tape;
  {
    const ops::TapeScope recording(context_, &tape);
    const auto loss = model.decoder().loss(
        context_, batch,
        {.lm_scale = 1.0 / static_cast<double>(batch.supervised()), .aux_scale = aux_coefficient(model)});
    EXPECT_LT(relative_distance(floats(loss.total), golden("loss")), kLogitsTolerance);
    EXPECT_LT(relative_distance(floats(loss.lm), golden("lm_loss")), kLogitsTolerance);
    if (has("aux_loss")) {
      auto aux = floats(loss.aux);
      aux[0] /= aux_coefficient(model);
      EXPECT_LT(relative_distance(aux, golden("aux_loss")), kLogitsTolerance);
    }
    tape.backward(context_, loss.total);
  }
  std::size_t compared = 0;
  for (const auto& planned : model.plan().parameters()) {
    if (parameters.find(planned.name)->spec.is_buffer) continue;
    const auto grad = floats(parameters.find(planned.name)->grad_slot->grad());
    for (const auto& piece : planned.pieces) {
      ASSERT_TRUE(has("grad." + key_of(piece))) << piece.hub.name;
      EXPECT_LT(relative_distance(as_stored(piece, grad), golden("grad." + key_of(piece))),
                kGradientTolerance)
          << piece.hub.name;
      ++compared;
    }
  }
  const auto gradients =
      std::count_if(file().tensors().begin(), file().tensors().end(),
                    [](const hub::StoredTensor& t) { return t.spec.name.starts_with("grad."); });
  EXPECT_EQ(static_cast<std::ptrdiff_t>(compared), gradients);
}

TEST_P(ModelGolden, ThreeAdamWStepsMatch) {
  const auto adamw = JsonNode::read(kGoldens / "manifest.json").at("adamw");
  auto model = load(DType::kF32);
  model.decoder().parameters().set_trainable({}, DType::kF32);
  train::Optimizer optimizer(context_, model,
                             {.beta1 = adamw.at("beta1").as_number(),
                              .beta2 = adamw.at("beta2").as_number(),
                              .eps = adamw.at("eps").as_number(),
                              .weight_decay = adamw.at("weight_decay").as_number()});
  std::map<std::string, std::vector<double>> before;
  for (const auto& p : model.decoder().parameters().all()) before[p.spec.name] = floats(p.value);
  const std::vector<model::TokenBatch> batches{all_rows()};
  for (std::size_t step = 0; step < 3; ++step) {
    const auto result = train::train_step(context_, model.decoder(), optimizer, batches,
                                          {.learning_rate = adamw.at("lr").as_number(),
                                           .clip = adamw.at("clip").as_number(),
                                           .aux_coefficient = aux_coefficient(model)});
    EXPECT_NEAR(result.loss / golden("adam.loss")[step], 1, kGradientTolerance) << "step " << step;
    EXPECT_NEAR(result.grad_norm / golden("adam.grad_norm")[step], 1, kGradientTolerance) << "step " << step;
  }
  for (const auto& planned : model.plan().parameters()) {
    if (model.decoder().parameters().find(planned.name)->spec.is_buffer) {
      EXPECT_EQ(floats(model.decoder().parameters().value(planned.name)), before[planned.name]);
      continue;
    }
    const auto all_now = floats(model.decoder().parameters().value(planned.name));
    for (const auto& piece : planned.pieces) {
      const auto now = as_stored(piece, all_now);
      const auto start = as_stored(piece, before[planned.name]);
      const std::string key = "adam." + key_of(piece);
      const auto expected = golden(key + ".sample");
      const auto stats = golden(key + ".stats");
      std::vector<double> sample;
      double moved = 0;
      for (std::size_t j = 0; j < expected.size(); ++j) {
        sample.push_back(now[(j * 2654435761ULL) % now.size()]);
      }
      for (std::size_t i = 0; i < now.size(); ++i) moved += (now[i] - start[i]) * (now[i] - start[i]);
      EXPECT_LT(relative_distance(sample, expected), kGradientTolerance) << key;
      // AdamW's first steps are near lr * sign(gradient): where a gradient is almost zero a rounding decides
      // the sign.
      EXPECT_NEAR(std::sqrt(moved), stats[2], 0.02 * stats[2] + 1e-9) << key;
    }
  }
}

TEST_P(ModelGolden, Bf16LogitsAreAsNearTheTruthAsTransformers) {
  if (!has("bf16.ids")) return;
  auto truth_model = load(DType::kF32);
  auto model = load(DType::kBF16);
  const auto ids = ints("bf16.ids");
  constexpr std::size_t kRow = 64;
  const auto vocab = static_cast<std::size_t>(model.spec().vocab);
  std::vector<double> distances;
  for (std::size_t begin = 0; begin < ids.size(); begin += kRow) {
    const std::vector<std::int32_t> row(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                        ids.begin() + static_cast<std::ptrdiff_t>(begin + kRow));
    const auto truth = row_logits(truth_model, row);
    const auto got = row_logits(model, row);
    for (std::size_t t = 0; t < kRow; ++t) {
      const auto from = static_cast<std::ptrdiff_t>(t * vocab);
      const auto to = from + static_cast<std::ptrdiff_t>(vocab);
      distances.push_back(relative_distance({got.begin() + from, got.begin() + to},
                                            {truth.begin() + from, truth.begin() + to}));
    }
  }
  ASSERT_GE(distances.size(), 1000U);
  std::nth_element(distances.begin(), distances.begin() + static_cast<std::ptrdiff_t>(distances.size() / 2),
                   distances.end());
  EXPECT_LE(distances[distances.size() / 2], 1.1 * golden("bf16.median")[0]);
}

TEST_P(ModelGolden, GreedyTokensMatchWithACache) {
  if (!has("generate.prompt")) return;
  auto model = load(DType::kF32);
  const auto expected = ints("generate.ids");
  const auto got = model::generate(context_, model.decoder(), {ints("generate.prompt")},
                                   {.max_new_tokens = static_cast<std::int64_t>(expected.size())});
  EXPECT_EQ(got.at(0), expected);
}

TEST_P(ModelGolden, SavingWritesBackEveryFileByteForByte) {
  auto model = load(DType::kF32);
  model.decoder().parameters().set_trainable({}, DType::kF32);  // so that values, not file bytes, are written
  const auto target = std::filesystem::path(testing::TempDir()) / ("hone-golden-" + GetParam());
  std::filesystem::remove_all(target);
  model.save_pretrained(context_, target);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory())) {
    if (!entry.is_regular_file() || entry.path().filename() == "golden.safetensors") continue;
    const auto relative = std::filesystem::relative(entry.path(), directory());
    ASSERT_TRUE(std::filesystem::exists(target / relative)) << relative;
    EXPECT_TRUE(read_file(entry.path()) == read_file(target / relative)) << relative;
    ++files;
  }
  EXPECT_GE(files, 3U);
  std::filesystem::remove_all(target);
}

INSTANTIATE_TEST_SUITE_P(Transformers, ModelGolden, testing::ValuesIn(case_names()), [](const auto& named) {
  std::string name = named.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace hone
