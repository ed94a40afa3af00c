#include "model/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hone::model {

std::int64_t DecoderSpec::num_moe_layers() const {
  return std::count_if(layers.begin(), layers.end(), [](const LayerSpec& layer) {
    return std::any_of(layer.branches.begin(), layer.branches.end(),
                       [](const BranchSpec& b) { return std::holds_alternative<MoeSpec>(b.mixer); });
  });
}

const MoeSpec* DecoderSpec::first_moe() const {
  for (const auto& layer : layers)
    for (const auto& branch : layer.branches)
      if (const auto* moe = std::get_if<MoeSpec>(&branch.mixer)) return moe;
  return nullptr;
}

namespace {

constexpr std::int64_t kAnyLength = std::int64_t{1} << 31;

struct ContextLength {
  std::int64_t tokens;
  std::string reason;  // what of config.json says so
};

ContextLength context_of(const DecoderSpec& spec) {
  const RopeSpec& rope = spec.ropes.front();
  if (rope.type == "dynamic") return {kAnyLength, "rope_type dynamic"};
  const ContextLength trained{spec.max_positions, "max_position_embeddings"};
  const bool by_original = rope.type == "yarn" || rope.type == "longrope" ||
                           (rope.type == "llama3" && spec.max_positions <= rope.original_max_positions);
  if (!by_original && (rope.type != "linear" || spec.max_positions_are_stretched)) return trained;
  const std::int64_t from = by_original ? rope.original_max_positions : spec.max_positions;
  const double reach = std::min(static_cast<double>(from) * rope.factor, static_cast<double>(kAnyLength));
  const auto stretched = static_cast<std::int64_t>(std::llround(reach));
  if (stretched <= trained.tokens) return trained;
  return {stretched, fmt::format("{} {} x factor {} of rope_type {}",
                                 by_original ? "original_max_position_embeddings" : "max_position_embeddings",
                                 from, rope.factor, rope.type)};
}

}  // namespace

std::int64_t DecoderSpec::context_length() const {
  return context_of(*this).tokens;
}

void check_context(const DecoderSpec& spec, std::int64_t tokens, std::string_view subject) {
  const ContextLength context = context_of(spec);
  if (tokens <= context.tokens) return;
  fail("{}, longer than the model's context of {} tokens ({}); {}", subject, context.tokens, context.reason,
       spec.ropes.front().type == "default"
           ? "config.json's rope_parameters can stretch it (rope_type yarn with a factor)"
           : "a larger factor in config.json's rope_parameters stretches it further");
}

}  // namespace hone::model
