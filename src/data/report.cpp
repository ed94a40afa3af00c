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
    Words{FindingKind::kPrepacked, Severity::kNotice, "prepacked", "row",
          "cut by '{what}' into the documents they were packed from; none sees another"},
    Words{FindingKind::kIgnoredColumn, Severity::kWarning, "ignored_column", "row",
          "with '{what}', which other tools read as a mask, a weight or a boundary and hone does not"},
    Words{FindingKind::kUnknownColumn, Severity::kNote, "unknown_column", "row",
          "with '{what}', which is not read"},
};

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
  entries_.push_back({.kind = kind, .what = name, .first = source, .place = place});
  return entries_.back();
}

void Report::add(const std::vector<Finding>& findings, const RowSource& source) {
  std::vector<const Entry*> seen;
  entries_.reserve(entries_.size() + findings.size());  // `seen` points into it
  for (const Finding& finding : findings) {
    Entry& e = entry(finding.kind, finding.what, source, finding.place);
    e.count += finding.count;
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
}

const Report::Entry* Report::first(Severity severity) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& e) { return severity_of(e.kind) == severity; });
  return found == entries_.end() ? nullptr : &*found;
}

std::string describe(const Report::Entry& entry) {
  const Words& words = words_of(entry.kind);
  return fmt::format("{} {}{} {}; first {}{}{}", entry.count, words.noun, entry.count == 1 ? "" : "s",
                     fmt::format(fmt::runtime(words.text), fmt::arg("what", entry.what)), entry.first.where(),
                     entry.place.empty() ? "" : ": ", entry.place);
}

std::vector<std::string> describe(const Report& report, Severity least) {
  std::vector<std::string> lines;
  for (const auto severity : {Severity::kDropped, Severity::kWarning, Severity::kNotice, Severity::kNote}) {
    if (severity < least) break;
    for (const auto& entry : report.entries())
      if (severity_of(entry.kind) == severity)
        lines.push_back((severity >= Severity::kWarning ? "warning: " : "") + describe(entry));
  }
  return lines;
}

nlohmann::ordered_json to_json(const Report& report) {
  constexpr std::array<std::string_view, 4> kSeverities{"note", "notice", "warning", "dropped"};
  auto list = nlohmann::ordered_json::array();
  for (const auto& entry : report.entries())
    list.push_back({{"kind", name_of(entry.kind)},
                    {"severity", kSeverities.at(static_cast<std::size_t>(severity_of(entry.kind)))},
                    {"what", entry.what},
                    {"count", entry.count},
                    {"rows", entry.rows},
                    {"file", entry.first.file},
                    {"line", entry.first.line},
                    {"place", entry.place},
                    {"message", describe(entry)}});
  return list;
}

}  // namespace hone::data
