#include "model/generate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "tensor/transfer.h"

namespace hone::model {

namespace {

/// Sequences that run side by side: enough to fill the matrix kernels, few enough that their caches stay
/// small.
constexpr std::size_t kGroup = 64;
/// Tokens that a sequence may hold where the model itself sets no end (a rope that grows): all of a
/// group are counted in 32 bits.
constexpr std::int64_t kMostRows =
    std::numeric_limits<std::int32_t>::max() / static_cast<std::int64_t>(kGroup);

struct Candidate {
  std::int32_t id;
  double weight;
};

/// Temperature, top_k, top_p: what may be drawn, likeliest first, with unnormalised probabilities.
std::vector<Candidate> candidates(std::span<const float> logits, const GenerationOptions& options) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const std::size_t kept =
      options.top_k > 0 ? std::min(order.size(), static_cast<std::size_t>(options.top_k)) : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), likelier);
  order.resize(kept);
  const double largest = logits[static_cast<std::size_t>(order.front())];
  std::vector<Candidate> result;
  double sum = 0;
  for (const std::int32_t id : order) {
    const double weight = std::exp((logits[static_cast<std::size_t>(id)] - largest) / options.temperature);
    result.push_back({id, weight});
    sum += weight;
  }
  double before = 0;
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (i > 0 && before >= options.top_p * sum) {
      result.resize(i);
      break;
    }
    before += result[i].weight;
  }
  return result;
}

/// One group of prompts, side by side.
class Group {
 public:
  Group(ops::Context& context, Decoder& decoder, const std::vector<std::vector<std::int32_t>>& prompts,
        std::size_t first, const GenerationOptions& options, const OnToken& on_token)
      : context_(context),
        decoder_(decoder),
        prompts_(prompts),
        first_(first),
        options_(options),
        on_token_(on_token),
        results_(std::min(kGroup, prompts.size() - first)),
        state_(decoder.begin_generation(context, capacities())) {
    for (std::size_t i = 0; i < results_.size(); ++i) {
      next_.add(prompts[first + i]);
      live_.push_back(static_cast<std::int32_t>(i));
    }
  }

  std::vector<std::vector<std::int32_t>> run() {
    for (std::int64_t step = 0; step < options_.max_new_tokens && !live_.empty(); ++step) advance(step);
    return std::move(results_);
  }

 private:
  std::vector<std::int32_t> capacities() const {
    std::vector<std::int32_t> result;
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const auto prompt = static_cast<std::int64_t>(prompts_[first_ + i].size());
      const std::int64_t context = std::min(decoder_.spec().context_length(), kMostRows);
      result.push_back(
          static_cast<std::int32_t>(std::min(options_.max_new_tokens, context - prompt) + prompt));
    }
    return result;
  }

  void advance(std::int64_t step) {
    const auto states = decoder_.forward(context_, next_, false, &state_, live_);
    std::vector<std::int32_t> last;
    for (const auto length : next_.lengths) last.push_back((last.empty() ? -1 : last.back()) + length);
    const auto n = static_cast<std::int64_t>(last.size());
    const HostCopy logits(context_.stream(),
                          decoder_.logits(context_, states.residual, context_.upload(last)));
    const auto vocab = static_cast<std::size_t>(decoder_.spec().vocab);

    TokenBatch following;
    std::vector<std::int32_t> still_live;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto s = static_cast<std::size_t>(live_[static_cast<std::size_t>(i)]);
      const std::int32_t id =
          choose_token(logits.values<float>().subspan(static_cast<std::size_t>(i) * vocab, vocab), options_,
                       first_ + s, static_cast<std::uint64_t>(step));
      results_[s].push_back(id);
      const bool wanted = !on_token_ || on_token_(first_ + s, id);
      const bool stopped =
          std::find(options_.stop_ids.begin(), options_.stop_ids.end(), id) != options_.stop_ids.end();
      if (stopped || !wanted || state_.lengths()[s] >= state_.capacities()[s]) continue;
      following.add(next_tokens(s, id));
      still_live.push_back(static_cast<std::int32_t>(s));
    }
    next_ = std::move(following);
    live_ = std::move(still_live);
  }

  /// What the next pass takes of a sequence: its last token, or all of them where what is held of the others
  /// has lost its meaning.
  std::vector<std::int32_t> next_tokens(std::size_t s, std::int32_t last) {
    const auto& spec = decoder_.spec();
    if (!spec.restarts_at_longrope || state_.lengths()[s] != spec.ropes.front().original_max_positions)
      return {last};
    state_.forget(static_cast<std::int32_t>(s));
    std::vector<std::int32_t> all = prompts_[first_ + s];
    all.insert(all.end(), results_[s].begin(), results_[s].end());
    return all;
  }

  ops::Context& context_;
  Decoder& decoder_;
  const std::vector<std::vector<std::int32_t>>& prompts_;
  std::size_t first_;
  const GenerationOptions& options_;
  const OnToken& on_token_;
  std::vector<std::vector<std::int32_t>> results_;
  GenerationState state_;
  TokenBatch next_;
  std::vector<std::int32_t> live_;
};

}  // namespace

std::int32_t choose_token(std::span<const float> logits, const GenerationOptions& options,
                          std::uint64_t sequence, std::uint64_t step) {
  HONE_CHECK(!logits.empty(), "no logits");
  if (options.temperature <= 0)
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const auto drawable = candidates(logits, options);
  double sum = 0;
  for (const auto& c : drawable) sum += c.weight;
  double at = CounterRng(options.seed, RngPurpose::kSampling, sequence).uniform(step) * sum;
  for (const auto& c : drawable) {
    at -= c.weight;
    if (at < 0) return c.id;
  }
  return drawable.back().id;
}

std::vector<std::vector<std::int32_t>> generate(ops::Context& context, Decoder& decoder,
                                                const std::vector<std::vector<std::int32_t>>& prompts,
                                                const GenerationOptions& options, const OnToken& on_token) {
  const ops::TapeScope no_gradients(context, nullptr);
  if (options.max_new_tokens < 0) fail("max_new_tokens is {}, expected 0 or more", options.max_new_tokens);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) fail("prompt {} has no tokens", i);
    check_context(decoder.spec(), static_cast<std::int64_t>(prompts[i].size()) + 1,
                  fmt::format("prompt {}: {} tokens and one to answer with", i, prompts[i].size()));
  }
  std::vector<std::vector<std::int32_t>> results;
  for (std::size_t first = 0; first < prompts.size(); first += kGroup) {
    auto group = Group(context, decoder, prompts, first, options, on_token).run();
    std::move(group.begin(), group.end(), std::back_inserter(results));
  }
  return results;
}

}  // namespace hone::model
