// The post-processors that tokenizer.json may name.
#include "text/post_processors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/message.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace hone::text::tok {

namespace {

std::int32_t read_id(const JsonNode& node) {
  return static_cast<std::int32_t>(node.as_count((1U << 24) - 1));
}

/// The id of ["[CLS]", 101].
std::int32_t read_pair(const JsonNode& node) {
  if (!node.is_array() || node.size() != 2) node.fail_expected("[token, id]");
  return read_id(node[1]);
}

/// Moves an offset by whole characters, never past `limit`.
std::uint32_t forward(std::string_view text, std::uint32_t at, std::uint32_t characters,
                      std::uint32_t limit) {
  for (; characters > 0 && at < limit; --characters) {
    at += static_cast<std::uint32_t>(unicode::sequence_length(static_cast<unsigned char>(text[at])));
  }
  return std::min(at, limit);
}

std::uint32_t backward(std::string_view text, std::uint32_t at, std::uint32_t characters,
                       std::uint32_t limit) {
  for (; characters > 0 && at > limit; --characters) {
    do {
      --at;
    } while (at > limit && !unicode::is_boundary_byte(text[at]));
  }
  return at;
}

/// The library's process_offsets: white space at the ends of a token is no part of its offsets. A single
/// leading space of the first token was put there by add_prefix_space and covers nothing.
void trim_offsets(OutputParts& parts, std::string_view text, bool add_prefix_space) {
  for (auto& part : parts) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      auto& [id, source, leading, trailing] = part[i];
      const bool is_first = i == 0 || source.begin == 0;
      if (leading > 0 && !(is_first && add_prefix_space && leading == 1)) {
        source.begin = forward(text, source.begin, leading, source.end);
      }
      if (trailing > 0) source.end = backward(text, source.end, trailing, source.begin);
    }
  }
}

class ByteLevelProcessor : public PostProcessor {
 public:
  ByteLevelProcessor(bool trim, bool add_prefix_space) : trim_(trim), add_prefix_space_(add_prefix_space) {}
  void process(OutputParts& parts, std::string_view text, bool) const override {
    if (trim_) trim_offsets(parts, text, add_prefix_space_);
  }
  bool trims() const override { return trim_; }

 private:
  bool trim_;
  bool add_prefix_space_;
};

/// BertProcessing and RobertaProcessing: a token before the text and one behind it.
class FrameProcessor : public PostProcessor {
 public:
  FrameProcessor(std::int32_t before, std::int32_t behind, bool trim, bool add_prefix_space,
                 std::string where)
      : before_(before),
        behind_(behind),
        trim_(trim),
        add_prefix_space_(add_prefix_space),
        where_(std::move(where)) {}
  void process(OutputParts& parts, std::string_view text, bool add_special_tokens) const override {
    if (trim_) trim_offsets(parts, text, add_prefix_space_);
    if (!add_special_tokens) return;
    if (parts.size() != 1)
      fail("{}: works on one text, and comes after a template that made {}", where_, parts.size());
    parts.insert(parts.begin(), {OutputToken{before_, {}, 0, 0}});
    parts.push_back({OutputToken{behind_, {}, 0, 0}});
  }
  bool trims() const override { return trim_; }

 private:
  std::int32_t before_;
  std::int32_t behind_;
  bool trim_;
  bool add_prefix_space_;
  std::string where_;
};

class TemplateProcessor : public PostProcessor {
 public:
  explicit TemplateProcessor(const JsonNode& node) : where_(node.location()) {
    std::unordered_map<std::string, std::vector<std::int32_t>> special;
    for (const auto& [name, token] : node.at("special_tokens").members()) {
      auto& ids = special[name];
      for (const JsonNode& id : token.at("ids").elements()) ids.push_back(read_id(id));
    }
    node.at("pair").elements();  // required by the format; only single texts are encoded
    for (const JsonNode& piece : node.at("single").elements()) {
      if (const auto sequence = piece.find_given("Sequence")) {
        static const std::array<std::string, 1> kFirst = {"A"};
        sequence->at("id").one_of(kFirst, "sequence of a single text");
        pieces_.push_back({true, {}});
      } else {
        const JsonNode id = piece.at("SpecialToken").at("id");
        const auto found = special.find(id.as_string());
        if (found == special.end()) id.fail_here("'" + shown(id.as_string()) + "' is not in special_tokens");
        pieces_.push_back({false, found->second});
      }
    }
  }

  void process(OutputParts& parts, std::string_view, bool add_special_tokens) const override {
    if (parts.size() != 1)
      fail("{}: works on one text, and comes after a template that made {}", where_, parts.size());
    OutputParts out;
    for (const auto& [is_text, ids] : pieces_) {
      if (is_text) {
        out.push_back(parts[0]);
      } else if (add_special_tokens) {
        auto& part = out.emplace_back();
        for (const std::int32_t id : ids) part.push_back(OutputToken{id, {}, 0, 0});
      }
    }
    parts = std::move(out);
  }
  bool trims() const override { return false; }

 private:
  struct TemplatePiece {
    bool is_text;
    std::vector<std::int32_t> ids;
  };
  std::string where_;
  std::vector<TemplatePiece> pieces_;
};

class SequenceProcessor : public PostProcessor {
 public:
  explicit SequenceProcessor(std::vector<std::unique_ptr<PostProcessor>> steps) : steps_(std::move(steps)) {}
  void process(OutputParts& parts, std::string_view text, bool add_special_tokens) const override {
    for (const auto& step : steps_) step->process(parts, text, add_special_tokens);
  }
  bool trims() const override {
    return std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->trims(); });
  }

 private:
  std::vector<std::unique_ptr<PostProcessor>> steps_;
};

}  // namespace

std::unique_ptr<PostProcessor> make_post_processor(const JsonNode& node) {
  static const std::array<std::string, 5> kKinds = {"Sequence", "TemplateProcessing", "ByteLevel",
                                                    "RobertaProcessing", "BertProcessing"};
  if (node.depth() > 32) node.fail_here("post-processors nested too deeply");
  switch (node.at("type").one_of(kKinds, "post-processor")) {
    case 0: {
      const JsonNode list = node.at("processors");
      std::vector<std::unique_ptr<PostProcessor>> steps;
      for (const JsonNode& step : list.elements()) steps.push_back(make_post_processor(step));
      return std::make_unique<SequenceProcessor>(std::move(steps));
    }
    case 1:
      return std::make_unique<TemplateProcessor>(node);
    case 2:
      return std::make_unique<ByteLevelProcessor>(node.at("trim_offsets").as_bool(),
                                                  node.at("add_prefix_space").as_bool());
    case 3:
      return std::make_unique<FrameProcessor>(read_pair(node.at("cls")), read_pair(node.at("sep")),
                                              node.at("trim_offsets").as_bool(),
                                              node.at("add_prefix_space").as_bool(), node.location());
    default:
      return std::make_unique<FrameProcessor>(read_pair(node.at("cls")), read_pair(node.at("sep")), false,
                                              false, node.location());
  }
}

void count_outer_spaces(std::string_view token_text, OutputToken& token) {
  const char32_t spelt_space = byte_to_code(' ');
  std::uint32_t run = 0;
  bool only_spaces = true;
  for (std::size_t at = 0; at < token_text.size();) {
    const char32_t code = unicode::decode(token_text, at);
    const bool is_space = code == spelt_space || unicode::is_white_space(code);
    run = is_space ? run + 1 : 0;
    if (!is_space) only_spaces = false;
    if (only_spaces) token.leading = run;
  }
  token.trailing = run;
}

}  // namespace hone::text::tok
