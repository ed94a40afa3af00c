#include "model/batch.h"

#include <cmath>

#include "base/error.h"

namespace hone::model {

void TokenBatch::add(const std::vector<std::int32_t>& document_ids,
                     const std::vector<std::int32_t>& document_labels,
                     const std::vector<float>& document_weights) {
  HONE_CHECK(document_labels.empty() || document_labels.size() == document_ids.size(), "{} labels for {} ids",
             document_labels.size(), document_ids.size());
  HONE_CHECK(document_weights.empty() || document_weights.size() == document_labels.size(),
             "{} weights for {} labels", document_weights.size(), document_labels.size());
  if (!document_weights.empty()) weights.resize(labels.size(), 1.0F);
  ids.insert(ids.end(), document_ids.begin(), document_ids.end());
  labels.insert(labels.end(), document_labels.begin(), document_labels.end());
  lengths.push_back(static_cast<std::int32_t>(document_ids.size()));
  for (std::size_t i = 0; i < document_weights.size(); ++i) {
    const float weight = document_weights[i];
    HONE_CHECK(weight >= 0 && std::isfinite(weight), "a weight of {}", weight);
    if (weight == 0) labels[labels.size() - document_weights.size() + i] = kIgnoredLabel;
  }
  weights.insert(weights.end(), document_weights.begin(), document_weights.end());
  if (!weights.empty()) weights.resize(labels.size(), 1.0F);
  HONE_CHECK(labels.empty() || labels.size() == ids.size(),
             "a batch in which only some documents have labels");
}

std::int64_t TokenBatch::supervised() const {
  std::int64_t n = 0;
  for_each_supervised([&](std::size_t) { ++n; });
  return n;
}

double TokenBatch::loss_weight() const {
  if (weights.empty()) return static_cast<double>(supervised());
  double sum = 0;
  for_each_supervised([&](std::size_t i) { sum += static_cast<double>(weights[i]); });
  return sum;
}

}  // namespace hone::model
