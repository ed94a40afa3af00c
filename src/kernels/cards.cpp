#include "kernels/cards.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"

namespace hone::kernels {

namespace {

// Peaks: NVIDIA's data sheets and architecture papers (Ampere GA100, Ada, Hopper, Blackwell), where sheets
// give figures with sparsity half of those. Multiprocessors and GiB: what the driver reports. A
// multiprocessor's operations in a clock are the peak over multiprocessors and boost clock.
// mma.sync: all of Ampere, Ada and the GeForce Blackwells; on Hopper 0.62 of the peak (measured in
// arXiv:2402.13499); on B200 not published: Ampere's 2048 in a clock assumed.
constexpr std::array kCards{
    Card{"H200", 9, 0, 132, 139.8, 1979, 989.4, 66.9, 4800, 4096, 2540, "H200 data sheet (SXM)"},
    Card{"H100", 9, 0, 132, 79.1, 1979, 989.4, 66.9, 3350, 4096, 2540, "H100 data sheet (SXM5, HBM3)"},
    Card{"H100-PCIe", 9, 0, 114, 79.1, 1513, 756, 51.2, 2039, 4096, 2540, "H100 data sheet (PCIe)"},
    Card{"A100", 8, 0, 108, 79.3, 0, 312, 19.5, 2039, 2048, 2048, "A100 data sheet (SXM4, 80 GB)"},
    Card{"A100-40GB", 8, 0, 108, 39.4, 0, 312, 19.5, 1555, 2048, 2048, "A100 data sheet (SXM4, 40 GB)"},
    Card{"B200", 10, 0, 148, 178.4, 0, 2250, 75, 7700, 8192, 2048, "DGX B200 data sheet, an eighth of it"},
    Card{"L40S", 8, 9, 142, 44.4, 0, 362, 91.6, 864, 1024, 1024, "L40S data sheet"},
    Card{"RTX-4090", 8, 9, 128, 23.5, 0, 165.2, 82.6, 1008, 512, 512, "Ada architecture paper, appendix A"},
    Card{"RTX-5090", 12, 0, 170, 31.4, 0, 209.5, 104.8, 1792, 512, 512,
         "RTX Blackwell architecture paper, appendix A"},
};

/// Letters and digits alone, small ones.
std::string bare(std::string_view name) {
  std::string result;
  for (const char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

}  // namespace

std::span<const Card> known_cards() {
  return kCards;
}

const Card& find_card(std::string_view name) {
  std::vector<std::string> names;
  for (const Card& card : kCards) {
    if (bare(card.name) == bare(name)) return card;
    names.emplace_back(card.name);
  }
  const std::string nearest = nearest_name(name, names);
  fail("unknown card '{}'{}; known: {}", name,
       nearest.empty() ? nearest : fmt::format("; did you mean '{}'?", nearest), fmt::join(names, ", "));
}

const Card& nearest_card(std::string_view drivers_name, int major, int minor) {
  const std::string name = bare(drivers_name);
  const Card* best = nullptr;
  const auto better = [&](const Card& card) {  // the longest name: an H100 PCIe is no H100 SXM
    if (name.find(bare(card.name)) == std::string::npos) return false;
    return best == nullptr || card.name.size() > best->name.size();
  };
  for (const Card& card : kCards)
    if (better(card)) best = &card;
  if (best != nullptr)
    return best->name == "A100" && name.find("40gb") != std::string::npos ? find_card("A100-40GB") : *best;
  for (const Card& card : kCards)
    if (card.major == major && (best == nullptr || (card.minor == minor && best->minor != minor)))
      best = &card;
  return best != nullptr ? *best : kCards.front();
}

Ceilings ceilings_of(const Card& card) {
  return {.f32_gflops = card.f32_tflops * 1e3,
          .bf16_gflops = card.bf16_tflops * 1e3,
          .e4m3_gflops = card.e4m3_tflops * 1e3,
          .gb_s = card.gb_s};
}

}  // namespace hone::kernels
