// The pre-tokenizers that tokenizer.json may name. Each works on one piece and hands its parts on at once, so
// a long text is never held as a list of pieces.
#include "text/pre_tokenizers.h"

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/byte_level.h"
#include "text/normalizers.h"

namespace hone::text::tok {

namespace {

using unicode::NormalizedCode;

/// What becomes of the matches of a pattern.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

const std::array<std::string, 5>& behavior_names() {
  static const std::array<std::string, 5> kNames = {"Removed", "Isolated", "MergedWithPrevious",
                                                    "MergedWithNext", "Contiguous"};
  return kNames;
}

/// Takes the matches and the gaps of a piece in order, and emits parts as a behavior wants them.
class Cutter {
 public:
  Cutter(const Piece& piece, Behavior behavior, PieceSink sink)
      : piece_(piece), behavior_(behavior), sink_(sink) {}

  void add(std::size_t begin, std::size_t end, bool is_match) {
    switch (behavior_) {
      case Behavior::kRemoved:
        if (!is_match) emit(begin, end);
        return;
      case Behavior::kIsolated:
        emit(begin, end);
        return;
      case Behavior::kContiguous:
        join_or_hold(begin, end, is_match == held_is_match_);
        break;
      case Behavior::kMergedWithPrevious:
        join_or_hold(begin, end, is_match && !held_is_match_);
        break;
      case Behavior::kMergedWithNext:
        join_or_hold(begin, end, !is_match && held_is_match_);
        break;
    }
    held_is_match_ = is_match;
  }
  void finish() {
    if (holds_) emit(begin_, end_);
  }

 private:
  void emit(std::size_t begin, std::size_t end) const {
    if (begin != end) sink_(slice(piece_, begin, end));
  }
  void join_or_hold(std::size_t begin, std::size_t end, bool join) {
    if (join && holds_) {
      end_ = end;
      return;
    }
    finish();
    begin_ = begin;
    end_ = end;
    holds_ = true;
  }

  const Piece& piece_;
  Behavior behavior_;
  PieceSink sink_;
  bool holds_ = false;
  bool held_is_match_ = false;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

void split_by_pattern(const Piece& piece, const Pattern& pattern, Behavior behavior, bool invert,
                      Workspace& workspace, PieceSink sink) {
  Cutter cutter(piece, behavior, sink);
  std::size_t last = 0;
  const auto found = [&](std::size_t begin, std::size_t end) {
    if (last != begin) cutter.add(last, begin, invert);
    cutter.add(begin, end, !invert);
    last = end;
  };
  pattern.for_each_match(piece.text, workspace.regex(), found);
  if (last != piece.text.size()) cutter.add(last, piece.text.size(), invert);
  cutter.finish();
}

/// Every character that `is_match` holds for is a match of its own.
template <typename Predicate>
void split_by_class(const Piece& piece, Predicate is_match, Behavior behavior, PieceSink sink) {
  Cutter cutter(piece, behavior, sink);
  std::size_t last = 0;
  for (std::size_t at = 0; at < piece.text.size();) {
    const std::size_t begin = at;
    if (!is_match(unicode::decode(piece.text, at))) continue;
    if (last != begin) cutter.add(last, begin, false);
    cutter.add(begin, at, true);
    last = at;
  }
  if (last != piece.text.size()) cutter.add(last, piece.text.size(), false);
  cutter.finish();
}

class SplitPreTokenizer : public PreTokenizer {
 public:
  SplitPreTokenizer(Pattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void split(const Piece& piece, Workspace& workspace, PieceSink sink) const override {
    split_by_pattern(piece, pattern_, behavior_, invert_, workspace, sink);
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

class ByteLevelPreTokenizer : public PreTokenizer {
 public:
  ByteLevelPreTokenizer(bool add_prefix_space, bool use_regex, bool leave_bytes)
      : add_prefix_space_(add_prefix_space), leave_bytes_(leave_bytes) {
    if (use_regex) pattern_ = Pattern::regex(kGpt2Pattern, "ByteLevel");
  }
  void split(const Piece& piece, Workspace& workspace, PieceSink sink) const override {
    const Workspace::Scope scope(workspace);
    const bool prefix = add_prefix_space_ && !piece.text.starts_with(' ');
    const Piece whole = prefix ? prepended(piece, " ", workspace) : piece;
    const auto emit = [&](const Piece& part) {
      if (leave_bytes_) {
        Piece marked = part;
        marked.byte_level = true;
        sink(marked);
      } else {
        const Workspace::Scope part_scope(workspace);
        sink(spelt(part, workspace));
      }
    };
    if (pattern_) {
      split_by_pattern(whole, *pattern_, Behavior::kIsolated, false, workspace, emit);
    } else {
      emit(whole);
    }
  }

 private:
  static Piece spelt(const Piece& piece, Workspace& workspace) {
    std::vector<NormalizedCode> codes;
    codes.reserve(piece.text.size());
    for (const char byte : piece.text) {
      codes.push_back(
          {byte_to_code(static_cast<unsigned char>(byte)), unicode::is_boundary_byte(byte) ? 0 : 1});
    }
    return transformed(piece, codes, 0, workspace);
  }

  bool add_prefix_space_;
  bool leave_bytes_;
  std::optional<Pattern> pattern_;
};

class MetaspacePreTokenizer : public PreTokenizer {
 public:
  enum class Prepend { kFirst, kNever, kAlways };
  MetaspacePreTokenizer(char32_t replacement, Prepend prepend, bool split)
      : code_(replacement), prepend_(prepend), split_(split) {
    unicode::append(text_, replacement);
  }
  void split(const Piece& piece, Workspace& workspace, PieceSink sink) const override {
    const Workspace::Scope scope(workspace);
    std::vector<std::pair<std::size_t, std::size_t>> spaces;
    for (std::size_t at = piece.text.find(' '); at != std::string_view::npos;
         at = piece.text.find(' ', at + 1)) {
      spaces.emplace_back(at, at + 1);
    }
    Piece whole = replaced(piece, spaces, text_, workspace);
    const bool wanted =
        prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && piece.covered.begin == 0);
    if (wanted && !whole.text.starts_with(text_)) whole = prepended(whole, text_, workspace);
    if (!split_) return sink(whole);
    split_by_class(
        whole, [&](char32_t code) { return code == code_; }, Behavior::kMergedWithNext, sink);
  }

 private:
  char32_t code_;
  std::string text_;
  Prepend prepend_;
  bool split_;
};

class DigitsPreTokenizer : public PreTokenizer {
 public:
  explicit DigitsPreTokenizer(bool individual) : individual_(individual) {}
  void split(const Piece& piece, Workspace&, PieceSink sink) const override {
    split_by_class(piece, unicode::is_numeric, individual_ ? Behavior::kIsolated : Behavior::kContiguous,
                   sink);
  }

 private:
  bool individual_;
};

class PunctuationPreTokenizer : public PreTokenizer {
 public:
  explicit PunctuationPreTokenizer(Behavior behavior) : behavior_(behavior) {}
  void split(const Piece& piece, Workspace&, PieceSink sink) const override {
    split_by_class(piece, unicode::is_punctuation, behavior_, sink);
  }

 private:
  Behavior behavior_;
};

/// `\w+|[^\w\s]+`: runs of word characters and runs of the rest, white space removed.
class WhitespacePreTokenizer : public PreTokenizer {
 public:
  void split(const Piece& piece, Workspace&, PieceSink sink) const override {
    enum class Kind { kSpace, kWord, kOther };
    const auto kind_of = [](char32_t code) {
      if (unicode::is_word(code)) return Kind::kWord;
      return unicode::is_white_space(code) ? Kind::kSpace : Kind::kOther;
    };
    std::size_t begin = 0;
    Kind kind = Kind::kSpace;
    const auto finish_run = [&](std::size_t end) {
      if (kind != Kind::kSpace && begin != end) sink(slice(piece, begin, end));
      begin = end;
    };
    for (std::size_t at = 0; at < piece.text.size();) {
      const std::size_t start = at;
      const Kind next = kind_of(unicode::decode(piece.text, at));
      if (next != kind) finish_run(start);
      kind = next;
    }
    finish_run(piece.text.size());
  }
};

class WhitespaceSplitPreTokenizer : public PreTokenizer {
 public:
  void split(const Piece& piece, Workspace&, PieceSink sink) const override {
    split_by_class(piece, unicode::is_white_space, Behavior::kRemoved, sink);
  }
};

class CharDelimiterPreTokenizer : public PreTokenizer {
 public:
  explicit CharDelimiterPreTokenizer(char32_t delimiter) : delimiter_(delimiter) {}
  void split(const Piece& piece, Workspace&, PieceSink sink) const override {
    split_by_class(
        piece, [&](char32_t code) { return code == delimiter_; }, Behavior::kRemoved, sink);
  }

 private:
  char32_t delimiter_;
};

class FixedLengthPreTokenizer : public PreTokenizer {
 public:
  explicit FixedLengthPreTokenizer(std::uint64_t length) : length_(length) {}
  void split(const Piece& piece, Workspace&, PieceSink sink) const override {
    std::size_t begin = 0;
    std::uint64_t count = 0;
    for (std::size_t at = 0; at < piece.text.size();) {
      unicode::decode(piece.text, at);
      if (++count < length_ && at < piece.text.size()) continue;
      sink(slice(piece, begin, at));
      begin = at;
      count = 0;
    }
  }

 private:
  std::uint64_t length_;
};

class SequencePreTokenizer : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> parts)
      : parts_(std::move(parts)) {}
  void split(const Piece& piece, Workspace& workspace, PieceSink sink) const override {
    run(0, piece, workspace, sink);
  }

 private:
  void run(std::size_t index, const Piece& piece, Workspace& workspace, PieceSink sink) const {
    if (index == parts_.size()) return sink(piece);
    const auto next = [&](const Piece& part) { run(index + 1, part, workspace, sink); };
    parts_[index]->split(piece, workspace, next);
  }

  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

std::unique_ptr<PreTokenizer> make_metaspace(const JsonNode& node) {
  static const std::array<std::string, 3> kSchemes = {"first", "never", "always"};
  using Prepend = MetaspacePreTokenizer::Prepend;
  const auto scheme = node.find_given("prepend_scheme");
  const std::size_t chosen = scheme ? scheme->one_of(kSchemes, "prepend_scheme") : 2;
  auto prepend = static_cast<Prepend>(chosen);
  if (!node.flag_or("add_prefix_space", true)) {  // files from before prepend_scheme
    if (scheme && prepend != Prepend::kNever) node.fail_here("add_prefix_space contradicts prepend_scheme");
    prepend = Prepend::kNever;
  }
  return std::make_unique<MetaspacePreTokenizer>(node.at("replacement").as_character(), prepend,
                                                 node.flag_or("split", true));
}

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& node, bool model_reads_bytes) {
  static const std::array<std::string, 11> kKinds = {
      "Sequence",   "Split",           "ByteLevel",        "Metaspace",          "Digits",     "Punctuation",
      "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit", "FixedLength"};
  if (node.depth() > 32) node.fail_here("pre-tokenizers nested too deeply");
  switch (node.at("type").one_of(kKinds, "pre-tokenizer")) {
    case 0: {
      const JsonNode list = node.at("pretokenizers");
      std::vector<std::unique_ptr<PreTokenizer>> parts;
      const auto nodes = list.elements();
      for (std::size_t i = 0; i < nodes.size(); ++i)
        parts.push_back(make_pre_tokenizer(nodes[i], model_reads_bytes && i + 1 == nodes.size()));
      return std::make_unique<SequencePreTokenizer>(std::move(parts));
    }
    case 1: {
      const auto behavior = node.at("behavior").one_of(behavior_names(), "behavior");
      return std::make_unique<SplitPreTokenizer>(Pattern::from_json(node.at("pattern")),
                                                 static_cast<Behavior>(behavior),
                                                 node.at("invert").as_bool());
    }
    case 2:
      node.at("trim_offsets").as_bool();  // required by the format; only the post-processor acts on it
      return std::make_unique<ByteLevelPreTokenizer>(node.at("add_prefix_space").as_bool(),
                                                     node.flag_or("use_regex", true), model_reads_bytes);
    case 3:
      return make_metaspace(node);
    case 4:
      return std::make_unique<DigitsPreTokenizer>(node.at("individual_digits").as_bool());
    case 5: {
      const auto behavior = node.find_given("behavior");
      const std::size_t index = behavior ? behavior->one_of(behavior_names(), "behavior") : 1;
      return std::make_unique<PunctuationPreTokenizer>(static_cast<Behavior>(index));
    }
    case 6:
      return std::make_unique<WhitespacePreTokenizer>();
    case 7:
      return std::make_unique<WhitespaceSplitPreTokenizer>();
    case 8: {
      std::vector<std::unique_ptr<PreTokenizer>> parts;
      parts.push_back(std::make_unique<WhitespaceSplitPreTokenizer>());
      parts.push_back(std::make_unique<PunctuationPreTokenizer>(Behavior::kIsolated));
      return std::make_unique<SequencePreTokenizer>(std::move(parts));
    }
    case 9:
      return std::make_unique<CharDelimiterPreTokenizer>(node.at("delimiter").as_character());
    default: {
      const auto length = node.find_given("length");
      const std::uint64_t characters = length ? length->as_count(1U << 30) : 5;
      if (characters == 0) length->fail_here("expected a length of at least 1");
      return std::make_unique<FixedLengthPreTokenizer>(characters);
    }
  }
}

}  // namespace hone::text::tok
