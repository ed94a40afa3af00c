#include "model/generation_state.h"

#include "base/error.h"
#include "ops/launch.h"

namespace hone::model {

GenerationState::GenerationState(ops::Context& context, const std::vector<const Mixer*>& mixers, DType dtype,
                                 std::vector<std::int32_t> capacities)
    : capacities_(std::move(capacities)), lengths_(capacities_.size(), 0) {
  std::int32_t rows = 0;
  for (const auto capacity : capacities_) {
    begins_.push_back(rows);
    rows += capacity;
  }
  for (const Mixer* mixer : mixers)
    if (auto state = mixer->make_state(context, dtype, rows)) states_.emplace(mixer, std::move(state));
}

MixerState& GenerationState::of(const Mixer& mixer) const {
  const auto found = states_.find(&mixer);
  HONE_CHECK(found != states_.end(), "a mixer that remembers nothing, or one of another model");
  return *found->second;
}

void GenerationState::begin(ops::Context& context, const std::vector<std::int32_t>& live,
                            const std::vector<std::int32_t>& new_tokens) {
  live_ = live;
  new_tokens_ = new_tokens;
  std::vector<std::int32_t> begins;
  std::vector<std::int32_t> held;
  for (std::size_t i = 0; i < live.size(); ++i) {
    const auto s = static_cast<std::size_t>(live[i]);
    HONE_CHECK(lengths_.at(s) + new_tokens[i] <= capacities_[s], "sequence {} grows to {} of {} tokens", s,
               lengths_[s] + new_tokens[i], capacities_[s]);
    begins.push_back(begins_[s]);
    held.push_back(lengths_[s] + new_tokens[i]);
  }
  layout_ = ops::SequenceLayout::make(context, new_tokens, begins, std::move(held));
}

void GenerationState::append(ops::Context& context, const Tensor& x, const Tensor& held) const {
  std::int64_t at = 0;
  for (std::size_t i = 0; i < live_.size(); ++i) {
    const auto s = static_cast<std::size_t>(live_[i]);
    const std::int64_t row = begins_[s] + lengths_[s];
    const std::int64_t n = new_tokens_[i];
    ops::copy(context, "model.generation_state", x.rows(at, at + n), held.rows(row, row + n));
    at += n;
  }
}

void GenerationState::commit() {
  for (std::size_t i = 0; i < live_.size(); ++i)
    lengths_[static_cast<std::size_t>(live_[i])] += new_tokens_[i];
}

}  // namespace hone::model
