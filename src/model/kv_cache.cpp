#include "model/kv_cache.h"

#include "ops/launch.h"
#include "ops/matrix.h"

namespace hone::model {

KvCache::KvCache(ops::Context& context, const DecoderSpec& spec, DType dtype,
                 std::vector<std::int32_t> capacities)
    : capacities_(std::move(capacities)), lengths_(capacities_.size(), 0) {
  std::int32_t rows = 0;
  for (const auto capacity : capacities_) {
    begins_.push_back(rows);
    rows += capacity;
  }
  for (const auto& layer : spec.layers) {
    for (const auto& branch : layer.branches) {
      const auto* attention = std::get_if<AttentionSpec>(&branch.mixer);
      if (attention == nullptr) continue;
      const Shape shape{rows, attention->kv_heads * attention->head_dim};
      keys_.push_back(context.empty(shape, dtype, device::Purpose::kCache));
      values_.push_back(context.empty(shape, dtype, device::Purpose::kCache));
    }
  }
}

void KvCache::begin(ops::Context& context, const std::vector<std::int32_t>& live,
                    const std::vector<std::int32_t>& new_tokens) {
  live_ = live;
  new_tokens_ = new_tokens;
  std::vector<std::int32_t> offsets{0};
  std::vector<std::int32_t> begins;
  std::vector<std::int32_t> held;
  for (std::size_t i = 0; i < live.size(); ++i) {
    const auto s = static_cast<std::size_t>(live[i]);
    HONE_CHECK(lengths_.at(s) + new_tokens[i] <= capacities_[s],
               "sequence {} of the cache grows to {} of {} tokens", s, lengths_[s] + new_tokens[i],
               capacities_[s]);
    offsets.push_back(offsets.back() + new_tokens[i]);
    begins.push_back(begins_[s]);
    held.push_back(lengths_[s] + new_tokens[i]);
  }
  const auto n = static_cast<std::int64_t>(live.size());
  const auto make = [&](const std::vector<std::int32_t>& values, std::int64_t size) {
    return Tensor::from<std::int32_t>(context.allocator(), values, Shape{size}, device::Purpose::kData);
  };
  layout_ = {make(offsets, n + 1), make(begins, n), make(held, n)};
}

KvCache::Held KvCache::append(ops::Context& context, std::int64_t attention_layer, const Tensor& k,
                              const Tensor& v) {
  const auto layer = static_cast<std::size_t>(attention_layer);
  std::int64_t at = 0;
  for (std::size_t i = 0; i < live_.size(); ++i) {
    const auto s = static_cast<std::size_t>(live_[i]);
    const std::int64_t row = begins_[s] + lengths_[s];
    const std::int64_t n = new_tokens_[i];
    const auto copy = [&](const Tensor& from, const Tensor& to) {
      ops::launch(context, "model.kv_cache", context.kernels().copy,
                  {.x = ops::as_matrix(from.rows(at, at + n)), .y = ops::as_matrix(to.rows(row, row + n))});
    };
    copy(k, keys_.at(layer));
    copy(v, values_.at(layer));
    at += n;
  }
  return {keys_[layer], values_[layer], layout_};
}

void KvCache::commit() {
  for (std::size_t i = 0; i < live_.size(); ++i)
    lengths_[static_cast<std::size_t>(live_[i])] += new_tokens_[i];
}

}  // namespace hone::model
