// The loss of rows whose tokens have weights, and its gradient, against Transformers' in float64
// (tools/goldens/make_weighted_golden.py), as one micro-batch and as one a row.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "hub/safetensors.h"
#include "model/causal_lm.h"
#include "tensor/transfer.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace hone {
namespace {

class WeightedGolden : public testing::TestWithParam<const char*> {
 protected:
  static std::vector<double> values(const hub::SafetensorsFile& file, const std::string& key) {
    const hub::StoredTensor& tensor = *file.find(key);
    const auto bytes = file.bytes(tensor);
    std::vector<double> result(static_cast<std::size_t>(tensor.spec.shape.numel()));
    if (tensor.spec.type->dtype == DType::kI32) {
      std::vector<std::int32_t> integers(result.size());
      std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<std::byte*>(integers.data()));
      return {integers.begin(), integers.end()};
    }
    convert(tensor.spec.type->dtype.value(), bytes.data(), DType::kF64, result.data(), result.size());
    return result;
  }
  std::vector<double> figure(const std::string& key) const {
    return values(*figures_, std::string(GetParam()) + "." + key);
  }
  /// The rows, each a batch.
  std::vector<model::TokenBatch> rows() const {
    const auto file = hub::SafetensorsFile::open(directory() / "golden.safetensors");
    std::vector<model::TokenBatch> batches;
    for (int i = 0; file->find("ids." + std::to_string(i)) != nullptr; ++i) {
      const auto ids = values(*file, "ids." + std::to_string(i));
      const auto labels = values(*file, "labels." + std::to_string(i));
      const auto weights = figure("weights." + std::to_string(i));
      batches.emplace_back().add({ids.begin(), ids.end()}, {labels.begin(), labels.end()},
                                 {weights.begin(), weights.end()});
    }
    return batches;
  }
  std::filesystem::path directory() const { return kData / "golden" / GetParam(); }

  void check(const std::vector<model::TokenBatch>& batches, bool with_auxiliary) {
    ops::Context context;
    auto model = model::CausalLM::from_pretrained(context, directory(), {.dtype = DType::kF32});
    auto& parameters = model.decoder().parameters();
    parameters.set_trainable({}, DType::kF32);
    train::Optimizer optimizer(context, model, {});
    const auto result =
        train::train_step(context, model.decoder(), optimizer, batches,
                          {.learning_rate = 0,
                           .clip = 0,
                           .aux_coefficient = with_auxiliary ? model.spec().aux_coefficient : 0.0});
    EXPECT_NEAR(result.loss / figure("loss")[0], 1, 1e-5);
    for (const auto& p : parameters.all()) {
      const Tensor grad = p.grad_slot->grad();
      const auto n = static_cast<std::size_t>(grad.numel());
      const HostCopy copy(context.stream(), grad);
      const auto got = copy.values<float>();
      double sum = 0;
      for (const float g : got) sum += static_cast<double>(g) * static_cast<double>(g);
      const double norm = figure("norm." + p.spec.name)[0];
      EXPECT_NEAR(std::sqrt(sum), norm, 1e-5 * norm) << p.spec.name;
      const auto sample = figure("sample." + p.spec.name);
      double difference = 0, size = 0;
      for (std::size_t j = 0; j < sample.size(); ++j) {
        const auto at = static_cast<std::size_t>(j * 2654435761ULL % n);
        difference += std::pow(static_cast<double>(got[at]) - sample[j], 2);
        size += std::pow(sample[j], 2);
      }
      // Of some tensors the sample happens to hold hardly more than zeros.
      EXPECT_LT(std::sqrt(difference), 1e-4 * std::sqrt(size) + 1e-7 * norm) << p.spec.name;
    }
  }

  inline static const std::filesystem::path kData = HONE_TEST_DATA;
  std::shared_ptr<const hub::SafetensorsFile> figures_ =
      hub::SafetensorsFile::open(kData / "weighted/golden.safetensors");
};

TEST_P(WeightedGolden, LossAndEveryGradientMatch) {
  model::TokenBatch together;
  for (const auto& row : rows()) together.add(row.ids, row.labels, row.weights);
  const bool auxiliary = std::string(GetParam()).ends_with("aux");
  check({together}, auxiliary);
  // The auxiliary loss alone depends on how rows fall into micro-batches, as in Transformers.
  if (!auxiliary) check(rows(), false);
}

INSTANTIATE_TEST_SUITE_P(Cases, WeightedGolden, testing::Values("llama-default", "qwen3_moe-aux"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace hone
