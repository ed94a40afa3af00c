// What a model is given: documents, one after another, without padding.
#pragma once

#include <cstdint>
#include <vector>

#include "base/label.h"

namespace hone::model {

/// Documents laid end to end. They never see each other, and every one starts at position 0: so rows of a
/// batch and documents of a pack are the same thing here, and no padding exists.
struct TokenBatch {
  std::vector<std::int32_t> ids;  // all documents
  std::vector<std::int32_t>
      labels;  // aligned with ids (the model shifts them), kIgnoredLabel for unsupervised; may be empty
  std::vector<std::int32_t> lengths;  // of each document; their sum is ids.size()
  std::vector<float> weights;         // aligned with labels: what each counts in the loss; empty: all 1

  std::int64_t tokens() const { return static_cast<std::int64_t>(ids.size()); }
  /// Appends one document. labels may be empty if the batch has none, weights (finite, 0 or more) where all
  /// are 1. A label of weight 0 is ignored.
  void add(const std::vector<std::int32_t>& document_ids,
           const std::vector<std::int32_t>& document_labels = {},
           const std::vector<float>& document_weights = {});
  /// Calls use(i) for every label i that is learnt from, in order: not ignored, and not the first of its
  /// document (nothing predicts that one).
  template <typename Use>
  void for_each_supervised(const Use& use) const {
    std::size_t at = 0;
    for (const auto length : lengths) {
      for (std::size_t i = 1; i < static_cast<std::size_t>(length) && !labels.empty(); ++i)
        if (labels[at + i] != kIgnoredLabel) use(at + i);
      at += static_cast<std::size_t>(length);
    }
  }
  /// How many labels are learnt from.
  std::int64_t supervised() const;
  /// The sum of their weights: supervised() where there are none.
  double loss_weight() const;
};

}  // namespace hone::model
