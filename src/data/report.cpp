#include "data/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace hone::data {

namespace {

/// Entries of one kind that are told apart; a file of rows with ever new keys must not fill the memory.
constexpr std::ptrdiff_t kMostOfAKind = 64;

/// A kind in words: "3 NOUNs TEXT", where {what} is the finding's own.
struct Words {
  FindingKind kind;
  Severity severity;
  std::string_view name, noun, text;
};

constexpr std::array kWords{
    Words{FindingKind::kNoTarget, Severity::kWarning, "no_target", "row",
          "left out, with no token to learn from: {what}"},
    Words{FindingKind::kEmptyPrompt, Severity::kNotice, "empty_prompt", "row",
          "with an empty prompt: the completion is learnt whole"},
    Words{FindingKind::kStraddlingToken, Severity::kNote, "straddling_token", "completion",
          "whose first token also holds the prompt's end; that token is learnt"},
    Words{FindingKind::kTwoBos, Severity::kWarning, "two_bos", "row",
          "that begin with two BOS tokens ({what} twice); leave out the one in the text"},
    Words{FindingKind::kMaskColumn, Severity::kNote, "mask_column", "row",
          "whose labels follow the column '{what}'"},
    Words{FindingKind::kWeights, Severity::kNotice, "weights", "row",
          "whose tokens count {range} in the loss, by '{what}'"},
    Words{FindingKind::kPrepacked, Severity::kNotice, "prepacked", "row",
          "cut by '{what}' into the documents they were packed from; none sees another"},
    Words{FindingKind::kIgnoredColumn, Severity::kWarning, "ignored_column", "row",
          "with '{what}', which other tools read as a mask, a weight or a boundary and hone does not"},
    Words{FindingKind::kUnknownColumn, Severity::kNote, "unknown_column", "row",
          "with '{what}', which is not read"},
    Words{FindingKind::kForeignRole, Severity::kNotice, "foreign_role", "message", "of role {what}"},
    Words{FindingKind::kUnknownRole, Severity::kWarning, "unknown_role", "message",
          "of role '{what}', which is none of system, developer, user, assistant, tool: not learnt from"},
    Words{FindingKind::kIgnoredMark, Severity::kWarning, "ignored_mark", "message",
          "with {what}, which hone does not read"},
    Words{FindingKind::kNullArgument, Severity::kNotice, "null_argument", "null argument",
          "left out of tool calls: the tool's schema does not have it, or not as null"},
    Words{FindingKind::kNullInTools, Severity::kNotice, "null_in_tools", "null",
          "left out of the schemas of tools"},
    Words{FindingKind::kJoinedParts, Severity::kNotice, "joined_parts", "message",
          "whose parts of text were joined: the chat template takes a string"},
    Words{
        FindingKind::kParsedArguments, Severity::kNotice, "parsed_arguments", "tool call",
        "whose arguments, a string of JSON, were given to the chat template as an object: it would quote or "
        "refuse the string"},
    Words{FindingKind::kPrintedArguments, Severity::kNotice, "printed_arguments", "tool call",
          "whose arguments were given to the chat template as a string of JSON: it cannot take an object"},
    Words{FindingKind::kDeveloperAsSystem, Severity::kNotice, "developer_as_system", "message",
          "of role 'developer' given to the chat template as 'system': it does not know the role"},
    Words{FindingKind::kEmptyContent, Severity::kNote, "empty_content", "message",
          "without content, given to the chat template as an empty string"},
    Words{FindingKind::kDroppedSystem, Severity::kDropped, "dropped_system", "message",
          "that the chat template writes nowhere (role {what})"},
    Words{FindingKind::kDroppedContent, Severity::kDropped, "dropped_content", "message",
          "that the chat template writes nowhere (role {what})"},
    Words{FindingKind::kDroppedPart, Severity::kDropped, "dropped_part", "content part",
          "that the chat template writes nowhere (role {what})"},
    Words{FindingKind::kDroppedReasoning, Severity::kDropped, "dropped_reasoning", "turn",
          "whose reasoning the chat template writes nowhere (reasoning_content, thinking)"},
    Words{FindingKind::kDroppedCall, Severity::kDropped, "dropped_call", "tool call",
          "that the chat template writes nowhere (tool_calls)"},
    Words{FindingKind::kDroppedArguments, Severity::kDropped, "dropped_arguments", "tool call",
          "of whose {what} the chat template leaves something out"},
    Words{FindingKind::kDroppedTool, Severity::kDropped, "dropped_tool", "tool",
          "that the chat template writes nowhere (tools)"},
    Words{FindingKind::kDroppedDocument, Severity::kDropped, "dropped_document", "document",
          "that the chat template writes nowhere (documents)"},
    Words{FindingKind::kSilentTurn, Severity::kDropped, "silent_turn", "turn",
          "left to teach an immediate stop and nothing else: the chat template writes no tool call"},
    Words{FindingKind::kDroppedHistory, Severity::kNotice, "dropped_history", "earlier turn",
          "whose {what} the chat template leaves out by design: they are written in a chat's last turn"},
    Words{FindingKind::kUnreadKey, Severity::kNote, "unread_key", "message",
          "with a key '{what}' that the chat template does not write"},
    Words{
        FindingKind::kNoStop, Severity::kWarning, "no_stop", "learnt turn",
        "of {turns} without a stop token (eos) at the end, so that a model that learns them runs on: {what}"},
    Words{
        FindingKind::kOtherStop, Severity::kWarning, "other_stop", "learnt turn",
        "of {turns} that '{what}' ends, which is no stop token (eos) of this model, so that it runs on: add "
        "it to eos_token_id in generation_config.json"},
    Words{FindingKind::kTurns, Severity::kNote, "turns", "learnt turn", "in all"},
    Words{FindingKind::kEmptyTurn, Severity::kNotice, "empty_turn", "assistant turn",
          "without a word: an immediate stop is learnt"},
};

std::string range_text(const WeightRange& range) {
  return range.least == range.largest ? fmt::format("{}", range.least)
                                      : fmt::format("{} to {}", range.least, range.largest);
}

const Words& words_of(FindingKind kind) {
  const auto* const found =
      std::find_if(kWords.begin(), kWords.end(), [&](const Words& words) { return words.kind == kind; });
  HONE_CHECK(found != kWords.end(), "a finding of kind {} without words", static_cast<int>(kind));
  return *found;
}

}  // namespace

Severity severity_of(FindingKind kind) {
  return words_of(kind).severity;
}

std::string_view name_of(FindingKind kind) {
  return words_of(kind).name;
}

Report::Entry& Report::entry(FindingKind kind, const std::string& what, const RowSource& source,
                             const std::string& place) {
  const auto find = [&](const std::string& named) {
    return std::find_if(entries_.begin(), entries_.end(),
                        [&](const Entry& e) { return e.kind == kind && e.what == named; });
  };
  auto found = find(what);
  if (found != entries_.end()) return *found;
  const auto of_kind =
      std::count_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.kind == kind; });
  const std::string name = of_kind < kMostOfAKind ? what : "others";
  if (of_kind >= kMostOfAKind) found = find(name);
  if (found != entries_.end()) return *found;
  entries_.push_back({.kind = kind, .what = name, .first = source, .place = place, .weights = {}});
  return entries_.back();
}

void Report::add(const std::vector<Finding>& findings, const RowSource& source) {
  std::vector<const Entry*> seen;
  entries_.reserve(entries_.size() + findings.size());  // `seen` points into it
  for (const Finding& finding : findings) {
    Entry& e = entry(finding.kind, finding.what, source, finding.place);
    e.count += finding.count;
    e.weights.add(finding.weights);
    if (std::find(seen.begin(), seen.end(), &e) != seen.end()) continue;
    ++e.rows;
    seen.push_back(&e);
  }
}

void Report::add(const Report& later) {
  for (const Entry& other : later.entries_) add(other);
}

void Report::add(const Entry& later) {
  Entry& e = entry(later.kind, later.what, later.first, later.place);
  e.count += later.count;
  e.rows += later.rows;
  e.weights.add(later.weights);
}

std::int64_t Report::turns() const {
  std::int64_t count = 0;
  for (const Entry& entry : entries_) count += entry.kind == FindingKind::kTurns ? entry.count : 0;
  return count;
}

void Report::leave_out(Severity severity) {
  std::erase_if(entries_, [&](const Entry& entry) { return severity_of(entry.kind) == severity; });
}

const Report::Entry* Report::first(Severity severity) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& e) { return severity_of(e.kind) == severity; });
  return found == entries_.end() ? nullptr : &*found;
}

std::string describe(const Report::Entry& entry, std::int64_t turns) {
  const Words& words = words_of(entry.kind);
  return fmt::format("{} {}{} {}; first {}{}{}", entry.count, words.noun, entry.count == 1 ? "" : "s",
                     fmt::format(fmt::runtime(words.text), fmt::arg("what", entry.what),
                                 fmt::arg("turns", turns), fmt::arg("range", range_text(entry.weights))),
                     entry.first.where(), entry.place.empty() ? "" : ": ", entry.place);
}

std::vector<std::string> describe(const Report& report, Severity least) {
  std::vector<std::string> lines;
  for (const auto severity : {Severity::kDropped, Severity::kWarning, Severity::kNotice, Severity::kNote}) {
    if (severity < least) break;
    for (const auto& entry : report.entries())
      if (severity_of(entry.kind) == severity && entry.kind != FindingKind::kTurns)
        lines.push_back((severity >= Severity::kWarning ? "warning: " : "") +
                        describe(entry, report.turns()));
  }
  return lines;
}

nlohmann::ordered_json to_json(const Report& report) {
  constexpr std::array<std::string_view, 4> kSeverities{"note", "notice", "warning", "dropped"};
  auto list = nlohmann::ordered_json::array();
  for (const auto& entry : report.entries()) {
    list.push_back({{"kind", name_of(entry.kind)},
                    {"severity", kSeverities.at(static_cast<std::size_t>(severity_of(entry.kind)))},
                    {"what", entry.what},
                    {"count", entry.count},
                    {"rows", entry.rows},
                    {"file", entry.first.file},
                    {"line", entry.first.line},
                    {"place", entry.place},
                    {"message", describe(entry, report.turns())}});
    if (entry.kind == FindingKind::kWeights)
      list.back().update({{"least", entry.weights.least}, {"largest", entry.weights.largest}});
  }
  return list;
}

}  // namespace hone::data
