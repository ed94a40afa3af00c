#include "model/batch.h"

#include "base/error.h"

namespace hone::model {

void TokenBatch::add(const std::vector<std::int32_t>& document_ids,
                     const std::vector<std::int32_t>& document_labels) {
  HONE_CHECK(document_labels.empty() || document_labels.size() == document_ids.size(), "{} labels for {} ids",
             document_labels.size(), document_ids.size());
  ids.insert(ids.end(), document_ids.begin(), document_ids.end());
  labels.insert(labels.end(), document_labels.begin(), document_labels.end());
  lengths.push_back(static_cast<std::int32_t>(document_ids.size()));
  HONE_CHECK(labels.empty() || labels.size() == ids.size(),
             "a batch in which only some documents have labels");
}

std::int64_t TokenBatch::supervised() const {
  std::int64_t n = 0;
  std::size_t at = 0;
  for (const auto length : lengths) {
    for (std::size_t i = 1; i < static_cast<std::size_t>(length) && !labels.empty(); ++i)
      n += labels[at + i] != kIgnoredLabel ? 1 : 0;
    at += static_cast<std::size_t>(length);
  }
  return n;
}

}  // namespace hone::model
