// One row of a JSONL file as token ids and labels. What `hone tokenize` and `hone check` show is what
// training sees.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/label.h"
#include "data/column_names.h"
#include "data/report.h"

namespace hone::text {
class PretrainedTokenizer;
}

namespace hone::data {

/// What a row is, by its keys. Keys that no kind has (id, source, …) are named in the findings, nulls
/// ignored.
///   kChat        {"messages": […]} as in the OpenAI format, or {"conversations": [{"from", "value"}, …]} as
///                in ShareGPT; both with "tools", "documents" and "chat_template_kwargs" where the template
///                takes them, and "system", a first message where the messages begin with no other
///   kCompletion  {"prompt", "completion"}: two strings, or two lists of messages; {"instruction", "input"?,
///                "output"} with alpaca's prompt around them
///   kText        {"text"}
///   kTokens      {"input_ids", "labels"?}, with masks and boundaries of documents as columns.h says;
///                a "text" beside them is ignored
enum class RowKind { kChat, kCompletion, kText, kTokens };

struct TokenizeOptions {
  /// Text, and prompt with completion, get what the tokenizer's post-processor adds (<s>, …).
  bool special_tokens = true;
  /// Text ends with one EOS token. (Completions always do.)
  bool eos = true;
  /// Chats end with the template's generation prompt.
  bool generation_prompt = false;
  /// Fill TokenizedRow::text of kTokens rows too, with the ids decoded, special tokens kept.
  bool decode = false;
  /// A misspelt assistant, and a chat of which every token would be learnt, is an error.
  bool for_training = false;
  /// Ids and labels must lie below it; 0: not checked.
  std::int64_t vocab = 0;
  /// What `strftime_now` of a chat template reads, in every row; empty: the local time when the RowTokenizer
  /// is made.
  std::optional<std::tm> now = std::nullopt;
  /// What rows call their keys.
  ColumnNames columns = {};
};

/// A row, tokenised. labels are aligned with ids (the shift is the model's): the id itself where it is learnt
/// from, kIgnoredLabel where not.
struct TokenizedRow {
  RowKind kind = RowKind::kText;
  std::string text;  // the rendered chat, prompt and completion, or the text
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
  /// What each counts in the loss (weights.h), aligned with ids, 0 where not learnt from; empty: all 1.
  std::vector<float> weights;
  /// The lengths of the documents that the row was packed from, which do not see one another; empty: one.
  std::vector<std::int64_t> documents;
  /// What there is to say about the row; kNoTarget is not among them.
  std::vector<Finding> findings;
  /// Why no token of the row is learnt from; "" where one is.
  std::string no_target;
  /// A hash of what the row says: its messages and tools, its texts, or its ids and labels; not of other
  /// keys, nor of what template and tokenizer make of it.
  std::uint64_t content = 0;

  /// Labels that are learnt from. The first token of a document is not: nothing predicts it.
  std::int64_t supervised() const;
};

/// Tokenises rows. May be used by many threads at once; the tokenizer must outlive it.
///
/// Which tokens are learnt from:
///   - kChat: every assistant turn, from after its header through its end-of-turn token (supervision.h says
///     how both are found), or exactly the template's {% generation %} blocks where it has them. A message
///     with "train": false or "weight": 0 is left out, one with another "weight" or "loss_weight" counts so
///     much in the loss. Lists of messages as prompt and completion are one
///     chat whose assistant turns are learnt from in the completion only.
///   - kCompletion of strings: the completion and the EOS behind it. Prompt and completion are tokenised as
///     one text, as TRL does and as the model will see it.
///   - kText: everything. kTokens: the labels given, or everything.
/// A row of any kind may have a weight of its own, and every token of a kTokens row (columns.h).
/// A token that crosses the edge of learnt text is learnt from, as Transformers does with {% generation %}.
class RowTokenizer {
 public:
  /// `tokenizer` may be null: only kTokens rows are then accepted.
  RowTokenizer(const text::PretrainedTokenizer* tokenizer, TokenizeOptions options);

  /// `json` is one row. Throws Error(kUser) that begins with `where` ("FILE:LINE") for anything wrong with
  /// the row: not JSON, of no kind or of several, missing or mistyped fields, refused by the template, ids
  /// out of range.
  TokenizedRow tokenize(std::string_view json, const std::string& where) const;

 private:
  const text::PretrainedTokenizer* tokenizer_;
  TokenizeOptions options_;
};

}  // namespace hone::data
