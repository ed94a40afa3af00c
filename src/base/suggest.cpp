#include "base/suggest.h"

#include <algorithm>
#include <vector>

namespace hone {

namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest_name(std::string_view name, std::span<const std::string> known) {
  if (name.size() > 256) return "";
  std::string best;
  std::size_t best_distance = std::min<std::size_t>(4, std::max<std::size_t>(1, name.size() / 2)) + 1;
  for (const auto& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string suggestion(std::string_view name, std::span<const std::string> known) {
  if (const auto near = nearest_name(name, known); !near.empty()) return "; did you mean '" + near + "'?";
  std::string list;
  for (const auto& k : known) {
    if (list.size() + k.size() > 240) {
      list += ", …";
      break;
    }
    list += (list.empty() ? "" : ", ") + k;
  }
  return list.empty() ? "" : "; known: " + list;
}

}  // namespace hone
