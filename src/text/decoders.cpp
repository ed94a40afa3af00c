// The decoders that tokenizer.json may name.
#include "text/decoders.h"

#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "text/byte_level.h"
#include "text/normalizers.h"
#include "text/unicode.h"

namespace hone::text::tok {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

class ByteLevelDecoder : public Decoder {
 public:
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    std::string bytes;
    for (const auto& token : tokens) {
      // A token with a character outside the byte alphabet (an added token) is text as it stands.
      if (const auto plain = from_byte_level(token)) {
        bytes += *plain;
      } else {
        bytes += token;
      }
    }
    tokens.assign(1, unicode::from_utf8_lossy(bytes));
  }
  void describe(StreamTraits& traits, bool& fused) const override {
    if (fused) traits.rewrites_text = true;
    traits.joins_bytes = true;
    fused = true;
  }
};

class ByteFallbackDecoder : public Decoder {
 public:
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    std::vector<std::string> out;
    out.reserve(tokens.size());
    std::string bytes;
    const auto finish_run = [&] {
      if (bytes.empty()) return;
      if (unicode::find_invalid(bytes) == std::string::npos) {
        out.push_back(bytes);
      } else {  // one for every byte of the run, the good ones too
        out.insert(out.end(), bytes.size(), std::string(kReplacement));
      }
      bytes.clear();
    };
    for (auto& token : tokens) {
      if (const auto byte = fallback_byte(token)) {
        bytes += static_cast<char>(*byte);
      } else {
        finish_run();
        out.push_back(std::move(token));
      }
    }
    finish_run();
    tokens = std::move(out);
  }
  void describe(StreamTraits& traits, bool& fused) const override {
    if (fused) traits.rewrites_text = true;
    traits.holds_bytes = true;
  }
};

class FuseDecoder : public Decoder {
 public:
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    std::string all;
    for (const auto& token : tokens) all += token;
    tokens.assign(1, all);
  }
  void describe(StreamTraits&, bool& fused) const override { fused = true; }
};

class ReplaceDecoder : public Decoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void decode(std::vector<std::string>& tokens, RegexScratch& scratch) const override {
    for (auto& token : tokens) {
      if (token.empty()) continue;
      std::string out;
      std::size_t copied = 0;
      const auto found = [&](std::size_t begin, std::size_t end) {
        out.append(token, copied, begin - copied);
        out += content_;
        copied = end;
      };
      pattern_.for_each_match(token, scratch, found);
      out.append(token, copied);
      token = std::move(out);
    }
  }
  void describe(StreamTraits& traits, bool& fused) const override {
    if (fused) traits.rewrites_text = true;  // a match may reach over what is not there yet
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class StripDecoder : public Decoder {
 public:
  StripDecoder(char32_t content, std::size_t start, std::size_t stop) : start_(start), stop_(stop) {
    unicode::append(content_, content);
  }
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    for (auto& token : tokens) {
      std::string_view left = token;
      for (std::size_t i = 0; i < start_ && left.starts_with(content_); ++i)
        left.remove_prefix(content_.size());
      const std::size_t begin = token.size() - left.size();
      // The library counts the end on the whole token (and crashes where both ends meet).
      std::string_view right = token;
      for (std::size_t i = 0; i < stop_ && right.ends_with(content_); ++i)
        right.remove_suffix(content_.size());
      token = begin < right.size() ? token.substr(begin, right.size() - begin) : "";
    }
  }
  void describe(StreamTraits& traits, bool& fused) const override {
    if (fused && stop_ > 0) traits.rewrites_text = true;
  }

 private:
  std::string content_;
  std::size_t start_;
  std::size_t stop_;
};

class MetaspaceDecoder : public Decoder {
 public:
  MetaspaceDecoder(char32_t replacement, bool drops_first) : drops_first_(drops_first) {
    unicode::append(replacement_, replacement);
  }
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const std::string_view with = i == 0 && drops_first_ ? "" : " ";
      std::string out;
      std::string_view rest = tokens[i];
      for (std::size_t at = rest.find(replacement_); at != std::string_view::npos;
           at = rest.find(replacement_)) {
        out += rest.substr(0, at);
        out += with;
        rest.remove_prefix(at + replacement_.size());
      }
      tokens[i] = out + std::string(rest);
    }
  }
  void describe(StreamTraits& traits, bool& fused) const override {
    if (fused) traits.rewrites_text = traits.rewrites_text || drops_first_;
  }

 private:
  std::string replacement_;
  bool drops_first_;
};

class BpeDecoder : public Decoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const std::string_view with = i + 1 == tokens.size() ? "" : " ";
      std::string out;
      const std::string& token = tokens[i];
      std::size_t copied = 0;
      for (std::size_t at = next(token, 0); at != std::string::npos;) {
        out.append(token, copied, at - copied);
        out += with;
        copied = at + suffix_.size();
        at = suffix_.empty() ? next(token, at + 1) : token.find(suffix_, copied);
      }
      out.append(token, copied);
      tokens[i] = std::move(out);
    }
  }
  void describe(StreamTraits& traits, bool&) const override { traits.rewrites_text = true; }

 private:
  /// Where the suffix begins at or behind `at`; an empty one stands at every character and at the end.
  std::size_t next(const std::string& token, std::size_t at) const {
    if (!suffix_.empty()) return token.find(suffix_, at);
    while (at < token.size() && !unicode::is_boundary_byte(token[at])) ++at;
    return at <= token.size() ? at : std::string::npos;
  }

  std::string suffix_;
};

class SequenceDecoder : public Decoder {
 public:
  explicit SequenceDecoder(std::vector<std::unique_ptr<Decoder>> steps) : steps_(std::move(steps)) {}
  void decode(std::vector<std::string>& tokens, RegexScratch& scratch) const override {
    for (const auto& step : steps_) step->decode(tokens, scratch);
  }
  void describe(StreamTraits& traits, bool& fused) const override {
    for (const auto& step : steps_) step->describe(traits, fused);
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

std::unique_ptr<Decoder> make_metaspace_decoder(const JsonNode& node) {
  static const std::array<std::string, 3> kSchemes = {"first", "never", "always"};
  const auto scheme = node.find_given("prepend_scheme");
  const bool declared_never = scheme && scheme->one_of(kSchemes, "prepend_scheme") == 1;
  const bool add_prefix_space = node.flag_or("add_prefix_space", true);
  if (!add_prefix_space && scheme && !declared_never) {
    node.fail_here("add_prefix_space contradicts prepend_scheme");
  }
  return std::make_unique<MetaspaceDecoder>(node.at("replacement").as_character(),
                                            !declared_never && add_prefix_space);
}

std::size_t small_count(const JsonNode& node) {
  return static_cast<std::size_t>(node.as_count(1'000'000));
}

}  // namespace

std::optional<unsigned char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned value = 0;
  // Rust's from_str_radix takes a sign: "<0x+A>" is the byte 10.
  const char* const begin = token.data() + (token[3] == '+' ? 4 : 3);
  const auto [end, error] = std::from_chars(begin, token.data() + 5, value, 16);
  if (error != std::errc() || end != token.data() + 5 || begin == token.data() + 5) return std::nullopt;
  return static_cast<unsigned char>(value);
}

std::unique_ptr<Decoder> make_decoder(const JsonNode& node) {
  static const std::array<std::string, 8> kKinds = {"Sequence", "ByteLevel", "ByteFallback", "Fuse",
                                                    "Replace",  "Strip",     "Metaspace",    "BPEDecoder"};
  if (node.depth() > 32) node.fail_here("decoders nested too deeply");
  switch (node.at("type").one_of(kKinds, "decoder")) {
    case 0: {
      const JsonNode list = node.at("decoders");
      std::vector<std::unique_ptr<Decoder>> steps;
      for (const JsonNode& step : list.elements()) steps.push_back(make_decoder(step));
      return std::make_unique<SequenceDecoder>(std::move(steps));
    }
    case 1:
      node.at("add_prefix_space").as_bool();
      node.at("trim_offsets").as_bool();
      return std::make_unique<ByteLevelDecoder>();
    case 2:
      return std::make_unique<ByteFallbackDecoder>();
    case 3:
      return std::make_unique<FuseDecoder>();
    case 4:
      return std::make_unique<ReplaceDecoder>(Pattern::from_json(node.at("pattern")),
                                              node.at("content").as_string());
    case 5:
      return std::make_unique<StripDecoder>(node.at("content").as_character(), small_count(node.at("start")),
                                            small_count(node.at("stop")));
    case 6:
      return make_metaspace_decoder(node);
    default:
      return std::make_unique<BpeDecoder>(node.at("suffix").as_string());
  }
}

}  // namespace hone::text::tok
