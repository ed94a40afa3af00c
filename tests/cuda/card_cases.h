// Cases for the kernels of cards alone: sizes at the thresholds of their tiles.
#pragma once

#include "tests/kernels/cases.h"

namespace hone::test {

std::vector<Case> product_cases();
std::vector<Case> vector_cases();
std::vector<Case> attention_tile_cases();
std::vector<Case> expert_tile_cases();

/// These, which find the most in the least time, and then every slot's.
inline std::vector<Case> card_cases() {
  std::vector<Case> cases;
  for (auto& more :
       {product_cases(), vector_cases(), attention_tile_cases(), expert_tile_cases(), all_cases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

}  // namespace hone::test
