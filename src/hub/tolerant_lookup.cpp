#include "hub/tolerant_lookup.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/message.h"
#include "hub/checkpoint.h"

namespace hone::hub {

namespace {

constexpr std::string_view kModel = "model.";

/// The name without the parts that wrapper classes name themselves by.
std::string without_wrappers(std::string_view name) {
  constexpr std::array<std::string_view, 5> kWrappers{"_orig_mod", "module", "_fsdp_wrapped_module",
                                                      "_checkpoint_wrapped_module", "_forward_module"};
  std::string plain;
  for (std::size_t at = 0; at <= name.size();) {
    const auto dot = std::min(name.find('.', at), name.size());
    const auto part = name.substr(at, dot - at);
    if (dot == name.size() || std::find(kWrappers.begin(), kWrappers.end(), part) == kWrappers.end()) {
      plain += part;
      if (dot < name.size()) plain += '.';
    }
    at = dot + 1;
  }
  return plain;
}

}  // namespace

std::string plain_name(std::string_view name) {
  std::string plain = without_wrappers(name);
  const auto strip = [&](std::string_view lead, std::string_view instead) {
    if (!plain.starts_with(lead)) return false;
    plain.replace(0, lead.size(), instead);
    return true;
  };
  while (strip("base_model.model.", "") || strip("language_model.", "") ||
         strip("model.language_model.", kModel)) {
  }
  return plain;
}

const CheckpointTensor* find_tolerant(const Checkpoint& checkpoint, std::string_view key) {
  const CheckpointTensor* found = nullptr;
  const auto consider = [&](const CheckpointTensor* other) {
    if (other == nullptr) return;
    if (found != nullptr)
      fail("{}: {} and {} are both stored; they are two names of one tensor",
           checkpoint.file_of(*other).string(), shown(other->name()), shown(found->name()));
    found = other;
  };
  const auto consider_all = [&](std::string_view name) {
    consider(checkpoint.find(name));
    for (const auto* wrapped : checkpoint.find_wrapped(name)) consider(wrapped);
  };
  consider_all(key);
  if (key.starts_with(kModel)) consider_all(key.substr(kModel.size()));
  consider_all(std::string(kModel) + std::string(key));
  return found;
}

}  // namespace hone::hub
