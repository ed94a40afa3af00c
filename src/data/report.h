// What reading a dataset found, beside its numbers: fields that the chat template drops, columns that are not
// read, turns that learn no end. The start card, `hone check` and the library print it from here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "data/records.h"

namespace hone::data {

/// How loud a finding is. Notes are shown by `hone check` alone, notices by the start card too; what is
/// dropped is a warning that `data.on_dropped` can make an error.
enum class Severity { kNote, kNotice, kWarning, kDropped };

/// What can be found; report.cpp says in which words.
enum class FindingKind {
  kNoTarget,         // a row without a token to learn from
  kEmptyPrompt,      // a completion that is learnt whole
  kStraddlingToken,  // a completion whose first token holds the prompt's end
  kTwoBos,           // a row that begins with two BOS tokens
  kMaskColumn,       // labels from a column of zeros and ones
  kWeights,          // a row of which tokens count more or less than 1 in the loss
  kPrepacked,        // a row cut into the documents it was packed from
  kIgnoredColumn,    // a column that means something to other tools
  kUnknownColumn,    // any other column that is not read
  kForeignRole,      // a message of a role that means the assistant or the user elsewhere
  kUnknownRole,      // a message of a role of its own
  kIgnoredMark,      // a key of a message that says elsewhere how much of it is learnt
  kNullArgument,     // a null left out of a tool call's arguments
  kNullInTools,      // a null left out of a tool's schema
  kJoinedParts,      // forms that the template cannot take otherwise: chat_rendering.h
  kParsedArguments,
  kPrintedArguments,
  kDeveloperAsSystem,
  kEmptyContent,
  kDroppedSystem,  // what the template writes nowhere
  kDroppedContent,
  kDroppedPart,
  kDroppedReasoning,
  kDroppedCall,
  kDroppedArguments,
  kDroppedTool,
  kDroppedDocument,
  kSilentTurn,      // a turn of which that leaves nothing but its end
  kDroppedHistory,  // what the template writes in last turns only
  kUnreadKey,       // any other key of a message that leaves no trace
  kTurns,           // the learnt turns of a chat; not printed by itself
  kNoStop,          // a learnt turn without a token that ends it
  kOtherStop,       // a learnt turn that ends in a token which ends no generation
  kEmptyTurn,       // an assistant turn that says nothing
};

/// The least and the largest of some weights in the loss, those of 0 left out.
struct WeightRange {
  double least = std::numeric_limits<double>::infinity();
  double largest = -std::numeric_limits<double>::infinity();

  void add(double weight) {
    if (weight == 0) return;
    least = std::min(least, weight);
    largest = std::max(largest, weight);
  }
  void add(const WeightRange& other) {
    least = std::min(least, other.least);
    largest = std::max(largest, other.largest);
  }
  /// Is none other than 1?
  bool is_plain() const { return least >= 1 && largest <= 1; }
};

/// One thing found in a row.
struct Finding {
  FindingKind kind;
  std::string what;        // which of its kind: the column, the role, the reason
  std::string place = "";  // in the row, as in messages[1].tool_calls; "": the row
  std::int64_t count = 1;
  WeightRange weights = {};  // kWeights
};

/// All findings of a dataset, those of one kind and `what` together, in the order of their first row.
class Report {
 public:
  struct Entry {
    FindingKind kind;
    std::string what;
    std::int64_t count = 0;  // messages, tool calls, … ; rows where the kind is about rows
    std::int64_t rows = 0;   // that had any
    RowSource first;
    std::string place;    // in the first row
    WeightRange weights;  // of all rows
  };

  void add(const std::vector<Finding>& findings, const RowSource& source);
  /// The same from another report whose rows come after this one's.
  void add(const Report& later);
  void add(const Entry& later);

  const std::vector<Entry>& entries() const { return entries_; }
  /// Learnt turns of all rows: the count of kTurns.
  std::int64_t turns() const;
  /// Forgets what is of that severity.
  void leave_out(Severity severity);
  /// The first entry of that severity, or null.
  const Entry* first(Severity severity) const;

 private:
  Entry& entry(FindingKind kind, const std::string& what, const RowSource& source, const std::string& place);
  std::vector<Entry> entries_;
};

Severity severity_of(FindingKind kind);
/// The kind as a word, for JSON: "no_target".
std::string_view name_of(FindingKind kind);
/// One line: how many, what it means, where it is first. "2 rows left out, with no token to learn from: every
/// label is -100; first rows.jsonl:2". `turns`: Report::turns, which some are counted against.
std::string describe(const Report::Entry& entry, std::int64_t turns);
/// describe() of all entries at least that loud, the loudest first; a warning begins with "warning: ".
std::vector<std::string> describe(const Report& report, Severity least);
/// [{"kind", "severity", "what", "count", "rows", "file", "line", "place", "message"}, …]
nlohmann::ordered_json to_json(const Report& report);

}  // namespace hone::data
