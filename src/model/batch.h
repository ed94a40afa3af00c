// What a model is given: documents, one after another, without padding.
#pragma once

#include <cstdint>
#include <vector>

namespace hone::model {

/// A label that is not learnt from, as in Transformers.
inline constexpr std::int32_t kIgnoredLabel = -100;

/// Documents laid end to end. They never see each other, and every one starts at position 0: so rows of a
/// batch and documents of a pack are the same thing here, and no padding exists.
struct TokenBatch {
  std::vector<std::int32_t> ids;  // all documents
  std::vector<std::int32_t>
      labels;  // aligned with ids (the model shifts them), kIgnoredLabel for unsupervised; may be empty
  std::vector<std::int32_t> lengths;  // of each document; their sum is ids.size()

  std::int64_t tokens() const { return static_cast<std::int64_t>(ids.size()); }
  /// Appends one document. labels may be empty if the batch has none.
  void add(const std::vector<std::int32_t>& document_ids,
           const std::vector<std::int32_t>& document_labels = {});
  /// Labels that are learnt from: not ignored, and not the first of their document (nothing predicts that
  /// one).
  std::int64_t supervised() const;
};

}  // namespace hone::model
