// The normalizers that tokenizer.json may name.
#include "text/normalizers.h"

#include <array>
#include <utility>
#include <vector>

#include "text/byte_level.h"

namespace hone::text::tok {

namespace {

using unicode::NormalizedCode;

class FormNormalizer : public Normalizer {
 public:
  explicit FormNormalizer(unicode::Form form) : form_(form) {}
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    if (unicode::is_plainly_normalized(piece.text, form_)) return piece;
    return transformed(piece, unicode::normalize(piece.text, form_), 0, workspace);
  }

 private:
  unicode::Form form_;
};

class LowercaseNormalizer : public Normalizer {
 public:
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    std::vector<NormalizedCode> codes;
    codes.reserve(piece.text.size());
    std::vector<char32_t> lower;
    bool changed = false;
    for (std::size_t at = 0; at < piece.text.size();) {
      const char32_t code = unicode::decode(piece.text, at);
      lower.clear();
      unicode::append_lower(lower, code);
      changed = changed || lower.size() != 1 || lower[0] != code;
      for (std::size_t i = 0; i < lower.size(); ++i) codes.push_back({lower[i], i == 0 ? 0 : 1});
    }
    return changed ? transformed(piece, codes, 0, workspace) : piece;
  }
};

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    const auto codes = unicode::to_codes(piece.text);
    std::size_t begin = 0;
    std::size_t end = codes.size();
    while (left_ && begin < codes.size() && unicode::is_white_space(codes[begin])) ++begin;
    while (right_ && end > 0 && unicode::is_white_space(codes[end - 1])) --end;
    if (begin == 0 && end == codes.size()) return piece;
    std::vector<NormalizedCode> kept;
    for (std::size_t i = begin; i < end; ++i) kept.push_back({codes[i], 0});
    return transformed(piece, kept, begin, workspace);
  }

 private:
  bool left_;
  bool right_;
};

class StripAccentsNormalizer : public Normalizer {
 public:
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    std::vector<NormalizedCode> kept;
    std::size_t skipped = 0;
    bool changed = false;
    for (std::size_t at = 0; at < piece.text.size();) {
      const char32_t code = unicode::decode(piece.text, at);
      if (!unicode::is_combining_mark(code)) {
        kept.push_back({code, 0});
        continue;
      }
      changed = true;
      if (kept.empty()) {
        ++skipped;
      } else {
        --kept.back().change;
      }
    }
    return changed ? transformed(piece, kept, skipped, workspace) : piece;
  }
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    return prepended(piece, prefix_, workspace);
  }

 private:
  std::string prefix_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    std::vector<std::pair<std::size_t, std::size_t>> matches;
    const auto note = [&](std::size_t begin, std::size_t end) { matches.emplace_back(begin, end); };
    if (!piece.text.empty()) pattern_.for_each_match(piece.text, workspace.regex(), note);
    return replaced(piece, matches, content_, workspace);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class ByteLevelNormalizer : public Normalizer {
 public:
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    std::vector<NormalizedCode> codes;
    codes.reserve(piece.text.size());
    for (const char byte : piece.text) {
      codes.push_back(
          {byte_to_code(static_cast<unsigned char>(byte)), unicode::is_boundary_byte(byte) ? 0 : 1});
    }
    return piece.text.empty() ? piece : transformed(piece, codes, 0, workspace);
  }
};

class SequenceNormalizer : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  Piece normalize(const Piece& piece, Workspace& workspace) const override {
    Piece current = piece;
    for (const auto& part : parts_) current = part->normalize(current, workspace);
    return current;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

std::string Normalizer::normalize_text(std::string_view text) const {
  Workspace workspace;
  const Piece piece{text, nullptr, {0, static_cast<std::uint32_t>(text.size())}, false};
  return std::string(normalize(piece, workspace).text);
}

std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node) {
  static const std::array<std::string, 11> kKinds = {"Sequence", "NFC",       "NFD",      "NFKC",
                                                     "NFKD",     "Lowercase", "Strip",    "StripAccents",
                                                     "Prepend",  "Replace",   "ByteLevel"};
  if (node.depth() > 32) node.fail_here("normalizers nested too deeply");
  switch (node.at("type").one_of(kKinds, "normalizer")) {
    case 0: {
      const JsonNode list = node.at("normalizers");
      std::vector<std::unique_ptr<Normalizer>> parts;
      for (const JsonNode& part : list.elements()) parts.push_back(make_normalizer(part));
      return std::make_unique<SequenceNormalizer>(std::move(parts));
    }
    case 1:
      return std::make_unique<FormNormalizer>(unicode::Form::kNfc);
    case 2:
      return std::make_unique<FormNormalizer>(unicode::Form::kNfd);
    case 3:
      return std::make_unique<FormNormalizer>(unicode::Form::kNfkc);
    case 4:
      return std::make_unique<FormNormalizer>(unicode::Form::kNfkd);
    case 5:
      return std::make_unique<LowercaseNormalizer>();
    case 6:
      return std::make_unique<StripNormalizer>(node.at("strip_left").as_bool(),
                                               node.at("strip_right").as_bool());
    case 7:
      return std::make_unique<StripAccentsNormalizer>();
    case 8:
      return std::make_unique<PrependNormalizer>(node.at("prepend").as_string());
    case 9:
      return std::make_unique<ReplaceNormalizer>(Pattern::from_json(node.at("pattern")),
                                                 node.at("content").as_string());
    default:
      return std::make_unique<ByteLevelNormalizer>();
  }
}

Pattern Pattern::from_json(const JsonNode& node) {
  Pattern pattern;
  if (const auto literal = node.find_given("String")) {
    pattern.literal_ = literal->as_string();
  } else if (const auto expression = node.find_given("Regex")) {
    const std::string& text = expression->as_string();
    if (text.empty()) return pattern;  // matches between all characters, as an empty string does
    pattern.regex_ = std::make_shared<Regex>(text, expression->location());
  } else {
    node.fail_here("expected {\"String\": …} or {\"Regex\": …}");
  }
  return pattern;
}

Pattern Pattern::regex(std::string_view pattern, std::string_view where) {
  Pattern out;
  out.regex_ = std::make_shared<Regex>(pattern, where);
  return out;
}

void Pattern::for_each_match(std::string_view text, RegexScratch& scratch,
                             FunctionRef<void(std::size_t, std::size_t)> found) const {
  if (regex_) return regex_->for_each_match(text, scratch, found);
  if (literal_.empty()) {
    for (std::size_t at = 0; at <= text.size(); ++at) {
      if (at == text.size() || unicode::is_boundary_byte(text[at])) found(at, at);
    }
    return;
  }
  for (std::size_t at = text.find(literal_); at != std::string_view::npos;
       at = text.find(literal_, at + literal_.size())) {
    found(at, at + literal_.size());
  }
}

}  // namespace hone::text::tok
