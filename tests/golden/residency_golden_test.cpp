// Every golden checkpoint with weights that are not there: each of a layer's is brought for one operation and
// is gone after it, forward and backward. The same bits, in the memory of two layers.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "json/node.h"
#include "model/causal_lm.h"
#include "tensor/transfer.h"

namespace hone {
namespace {

/// Keeps a value on the side; what it lends is overwritten and freed after use.
class Leaving final : public ops::Residency {
 public:
  Leaving(ops::Context& context, const Tensor& value) : shape_(value.shape()), dtype_(value.dtype()) {
    const HostView view(context.stream(), value);
    kept_.assign(view.bytes().begin(), view.bytes().end());
  }
  Tensor acquire(ops::Context& context) override {
    if (uses_++ == 0) {
      lent_ = context.empty(shape_, dtype_, device::Purpose::kWeights);
      upload_bytes(context.stream(), kept_, lent_);
    }
    return lent_;
  }
  void release(ops::Context& context) override {
    ASSERT_GT(uses_, 0);
    if (--uses_ > 0) return;
    context.stream().fill(lent_.data(), 0xff, kept_.size());  // NaN for whoever still reads it
    EXPECT_TRUE(lent_.owns_buffer_alone()) << "an operation kept the value";
    lent_ = Tensor();
    ++times_;
  }
  int times() const { return times_; }
  bool is_there() const { return uses_ > 0; }

 private:
  Shape shape_;
  DType dtype_;
  std::vector<std::byte> kept_;
  Tensor lent_;
  int uses_ = 0, times_ = 0;
};

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  const auto manifest = std::filesystem::path(HONE_TEST_DATA) / "golden/manifest.json";
  for (const auto& c : JsonNode::read(manifest).at("cases").elements())
    names.push_back(c.at("name").as_string());
  return names;
}

class LeavingWeights : public testing::TestWithParam<std::string> {
 protected:
  struct Figures {
    std::vector<float> logits, nll;
    std::map<std::string, std::vector<float>> gradients;
    bool operator==(const Figures&) const = default;
  };
  std::vector<float> floats(const Tensor& t) const {
    std::vector<float> values(static_cast<std::size_t>(t.numel()));
    convert(t.dtype(), HostView(context_.stream(), t).data(), DType::kF32, values.data(), values.size());
    return values;
  }
  Figures figures(model::CausalLM& model, bool recompute) {
    auto& decoder = model.decoder();
    model::TokenBatch batch;
    batch.add({5, 9, 3, 17, 4, 11, 6, 8}, {5, 9, -100, 17, 4, 11, 6, 8});
    batch.add({7, 3, 12}, {7, 3, 12});
    Figures result;
    result.logits = floats(decoder.logits(context_, decoder.forward(context_, batch).residual));
    ops::Tape tape;
    const ops::TapeScope recording(context_, &tape);
    const auto loss =
        decoder.loss(context_, batch, {.lm_scale = 0.1, .aux_scale = 0.01, .recompute = recompute});
    result.nll = floats(loss.nll);
    tape.backward(context_, loss.total);
    for (const auto& p : decoder.parameters().all()) {
      if (!p.grad_slot) continue;  // a buffer
      if (p.grad_slot->grad().defined()) result.gradients[p.spec.name] = floats(p.grad_slot->grad());
      p.grad_slot->reset();
    }
    return result;
  }

  ops::Context context_{device::default_device(), 1};
};

TEST_P(LeavingWeights, GiveTheSameBitsInTheMemoryOfTwoLayers) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    auto model = model::CausalLM::from_pretrained(
        context_, std::filesystem::path(HONE_TEST_DATA) / "golden" / GetParam(), {.dtype = dtype});
    auto& parameters = model.decoder().parameters();
    parameters.set_trainable({}, dtype);
    const Figures there = figures(model, false);
    std::vector<std::shared_ptr<Leaving>> leaving;
    std::int64_t largest = 0, elsewhere = 0;
    std::map<int, std::int64_t> layers;
    for (auto& p : parameters.all()) {
      const auto bytes = static_cast<std::int64_t>(p.value.size_bytes());
      if (p.spec.layer < 0) {
        elsewhere += bytes;
        continue;
      }
      largest = std::max(largest, layers[p.spec.layer] += bytes);
      leaving.push_back(std::make_shared<Leaving>(context_, p.value));
      p.residency = leaving.back();
      p.value = Tensor();
    }
    ASSERT_EQ(context_.ledger().current(device::Purpose::kWeights), elsewhere) << "the layers are gone";
    for (const bool recompute : {false, true}) {
      context_.ledger().reset_peak();
      EXPECT_TRUE(figures(model, recompute) == there) << "recompute " << recompute;
      EXPECT_LE(context_.ledger().peak(device::Purpose::kWeights), elsewhere + 2 * largest);
      EXPECT_EQ(context_.ledger().current(device::Purpose::kWeights), elsewhere);
    }
    for (const auto& weight : leaving) {
      EXPECT_GE(weight->times(), 4) << "a use forward in each of four passes at least";
      EXPECT_FALSE(weight->is_there());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, LeavingWeights, testing::ValuesIn(golden_names()), [](const auto& named) {
  std::string name = named.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace hone
