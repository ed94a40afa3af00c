// Chat templates: the Jinja that Hugging Face checkpoints carry, rendered byte for byte as Transformers
// renders them, with a record of which characters came from which message, so that training masks need no
// guessing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace hone::text {

/// Bytes [begin, end) of a rendered chat that were derived from `messages[message][key]` (by copying,
/// slicing, trimming, joining, `tojson`, …). `key` is "" where the characters belong to a message but not to
/// one of its top-level keys alone (the braces of `message | tojson`, say); `message` is kSeveralMessages
/// where one operation mixed several messages.
struct MessageSpan {
  static constexpr int kSeveralMessages = -1;
  std::size_t begin = 0;
  std::size_t end = 0;
  int message = 0;
  std::string key;
  bool operator==(const MessageSpan&) const = default;
};

/// What a template made of a chat.
struct Rendered {
  std::string text;
  /// Sorted and disjoint; bytes in no span were written by the template itself (headers, end-of-turn tokens).
  std::vector<MessageSpan> sources;
  /// Bytes inside `{% generation %}` blocks, sorted and disjoint, one entry per block rendered (empty blocks
  /// leave none).
  std::vector<std::pair<std::size_t, std::size_t>> generation;
  /// Where ChatInput::trace is set: JSON pointers ("/messages/1/tool_calls/0/function/name", also of tools
  /// and documents) to the strings and numbers from which no character of the text was derived, in the order
  /// of the input. Blank strings are left out, and so are truth values and nulls: templates only test them.
  std::vector<std::string> unwritten;
  /// Where ChatInput::trace is set: the messages whose content is a list or an object that was written as
  /// such, with its brackets or keys.
  std::vector<std::size_t> written_containers;
};

/// What one rendering may use, whatever its template and its row make it do.
struct RenderLimits {
  /// A step is some 50 ns at most, so that a rendering ends within about 10 s. Templates of the field take a
  /// few hundred steps a message.
  std::uint64_t steps = 100'000'000;
  std::size_t held_bytes = std::size_t{1} << 30;  ///< of texts, lists and dicts at once
};

/// The variables a template sees. The JSON is borrowed for the duration of the call; key order is kept.
struct ChatInput {
  const nlohmann::ordered_json* messages = nullptr;  ///< an array of objects; null: the variable is undefined
  const nlohmann::ordered_json* tools = nullptr;     ///< null: `tools` is none
  const nlohmann::ordered_json* documents = nullptr;  ///< null: `documents` is none
  const nlohmann::ordered_json* kwargs =
      nullptr;  ///< an object of further variables; they hide special tokens of the same name
  bool add_generation_prompt = false;
  bool trace = false;                                 ///< fill Rendered::unwritten and written_containers
  std::map<std::string, std::string> special_tokens;  ///< bos_token, eos_token, …
  std::function<std::tm()> clock;                     ///< what `strftime_now` reads; empty: the local time
  RenderLimits limits = {};
};

/// Parses the JSON of one row as Python's json.loads does for our purposes: key order kept, the last of equal
/// keys wins, NaN and the infinities read, and integers beyond 64 bits kept exactly (JsonOptions). Throws
/// Error(kUser) "WHERE:column: what is wrong".
nlohmann::ordered_json parse_chat_json(std::string_view text, std::string_view where);

/// A compiled template. Immutable, cheap to copy, safe to render from several threads at once.
class ChatTemplate {
 public:
  /// Throws Error(kUser) "NAME:LINE: what is wrong". `name` is what errors call the template (a file name).
  static ChatTemplate compile(std::string source, std::string name);

  /// Throws Error(kUser) "NAME:LINE: …" for what the template refuses (`raise_exception`: the text contains
  /// its message) or cannot do.
  Rendered render(const ChatInput& input) const;

  /// Does the template hold `{% generation %}` blocks?
  bool has_generation_blocks() const;
  const std::string& source() const;
  const std::string& name() const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program);
  std::shared_ptr<const Program> program_;
};

}  // namespace hone::text
