#include "data/tokenize.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"
#include "data/rows.h"
#include "data/supervision.h"
#include "text/chat_template.h"
#include "text/moment.h"
#include "text/pretrained_tokenizer.h"
#include "text/tokenizer.h"

namespace hone::data {

namespace {

using text::PretrainedTokenizer;

constexpr std::size_t kLongestMessage = 560;

/// One row on its way from JSON to labels.
class RowWork {
 public:
  RowWork(const PretrainedTokenizer* tokenizer, const TokenizeOptions& options, const std::string& where)
      : tokenizer_(tokenizer), options_(options), where_(where) {}

  TokenizedRow run(Row row) {
    result_.kind = row.kind;
    if (row.kind == RowKind::kTokens) {
      take_tokens(std::move(row));
      return std::move(result_);
    }
    if (tokenizer_ == nullptr)
      fail("{}: the model has no tokenizer.json; only rows of input_ids can be used", where_);
    if (row.conversational)
      tokenize_chat(row.chat);
    else
      tokenize_text(row);
    check_vocabulary();
    if (options_.for_training && row.kind != RowKind::kText) check_supervision(row);
    return std::move(result_);
  }

 private:
  void take_tokens(Row row);
  void tokenize_text(const Row& row);
  void tokenize_chat(const ChatRow& chat);
  void end_with_eos();
  text::Rendered render(const ChatRow& chat, const Json& messages, bool generation_prompt) const;
  void check_roles(const Json& messages) const;
  void check_vocabulary() const;
  void check_supervision(const Row& row) const;
  std::string reason_for_nothing(const Row& row) const;

  const PretrainedTokenizer* tokenizer_;
  const TokenizeOptions& options_;
  const std::string& where_;
  TokenizedRow result_;
};

void RowWork::take_tokens(Row row) {
  result_.labels = row.labels ? std::move(*row.labels) : row.ids;
  result_.ids = std::move(row.ids);
  if (!options_.decode) return;
  if (tokenizer_ == nullptr) fail("{}: the model has no tokenizer.json to decode input_ids with", where_);
  result_.text = tokenizer_->tokenizer().decode(result_.ids, false);
}

void RowWork::tokenize_text(const Row& row) {
  if (row.kind == RowKind::kText && row.text.empty() && options_.for_training)
    fail("{}: text is empty; remove the row", where_);
  result_.text = row.prompt + row.text;
  auto encoding = tokenizer_->tokenizer().encode(result_.text, options_.special_tokens);
  if (row.kind == RowKind::kCompletion) {
    result_.labels = labels_of(encoding, {{row.prompt.size(), result_.text.size()}});
    result_.ids = std::move(encoding.ids);
  } else {
    result_.ids = std::move(encoding.ids);
    result_.labels = result_.ids;
  }
  if (options_.eos) end_with_eos();
}

/// One EOS at the end, learnt from, whether the text or the post-processor wrote it or nobody did.
void RowWork::end_with_eos() {
  const auto eos = tokenizer_->eos_token_id();
  if (!eos)
    fail("{}: the tokenizer names no eos_token (tokenizer_config.json), so this row could not end", where_);
  auto& ids = result_.ids;
  while (!ids.empty() && ids.back() == *eos) ids.pop_back();
  result_.labels.resize(ids.size());
  ids.push_back(*eos);
  result_.labels.push_back(*eos);
}

text::Rendered RowWork::render(const ChatRow& chat, const Json& messages, bool generation_prompt) const {
  text::ChatOptions options;
  options.add_generation_prompt = generation_prompt;
  options.clock = [now = *options_.now] { return now; };
  options.documents = chat.documents.is_null() ? nullptr : &chat.documents;
  options.kwargs = chat.template_kwargs.is_null() ? nullptr : &chat.template_kwargs;
  return tokenizer_->apply_chat_template(messages, chat.tools.is_null() ? nullptr : &chat.tools, options);
}

void RowWork::tokenize_chat(const ChatRow& chat) {
  if (options_.for_training) check_roles(chat.messages);
  text::Rendered rendered;
  try {
    rendered = render(chat, chat.messages, options_.generation_prompt);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    fail("{}: {}", where_,
         one_line(error.what(), kLongestMessage - std::min(kLongestMessage, where_.size())));
  }
  auto encoding = tokenizer_->tokenizer().encode(rendered.text, false);
  const RenderedChat view{.messages = chat.messages,
                          .excluded = chat.excluded,
                          .rendered = rendered,
                          .encoding = encoding,
                          .generation_prompt = options_.generation_prompt};
  const bool marked =
      tokenizer_->chat_template(!chat.tools.is_null() && !chat.tools.empty()).has_generation_blocks();
  const Markers markers(tokenizer_->tokenizer(), tokenizer_->eos_token_ids());
  const auto spans =
      marked ? find_generation_blocks(view)
             : find_learnt_turns(view, markers, [&](const Json& messages, bool generation_prompt) {
                 return render(chat, messages, generation_prompt);
               });
  result_.labels = labels_of(encoding, spans);
  result_.ids = std::move(encoding.ids);
  result_.text = std::move(rendered.text);
}

/// A misspelt assistant would be left unlearnt in silence.
void RowWork::check_roles(const Json& messages) const {
  static const std::vector<std::string> kRoles{"system",    "user",     "assistant", "tool",
                                               "developer", "function", "ipython",   "observation"};
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto& role = messages[i]["role"].get_ref<const std::string&>();
    if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end() &&
        nearest_name(role, kRoles) == "assistant")
      fail("{}: messages[{}].role is '{}'; did you mean 'assistant'?", where_, i, one_line(role, 60));
  }
}

void RowWork::check_vocabulary() const {
  if (options_.vocab <= 0) return;
  for (std::size_t i = 0; i < result_.ids.size(); ++i)
    if (result_.ids[i] >= options_.vocab)
      fail(
          "{}: token {} is '{}' (id {}), outside the model's vocabulary of {} ids; the tokenizer is not the "
          "model's",
          where_, i, one_line(tokenizer_->tokenizer().id_to_token(result_.ids[i]).value_or(""), 60),
          result_.ids[i], options_.vocab);
}

std::string RowWork::reason_for_nothing(const Row& row) const {
  if (!row.conversational) return "the completion is empty";
  std::vector<std::string> roles;
  bool excluded = true;
  for (std::size_t i = 0; i < row.chat.messages.size(); ++i) {
    const auto& role = row.chat.messages[i]["role"].get_ref<const std::string&>();
    if (std::find(roles.begin(), roles.end(), role) == roles.end()) roles.push_back(role);
    excluded = excluded && (role != "assistant" || row.chat.excluded[i]);
  }
  if (std::find(roles.begin(), roles.end(), "assistant") == roles.end()) {
    std::string list;
    for (const auto& role : roles) list.append(list.empty() ? "" : ", ").append(role);
    return "the row has no assistant message (roles: " + one_line(list, 120) + ")";
  }
  if (excluded && row.kind == RowKind::kCompletion)
    return "no message of the completion is an assistant's to learn from";
  if (excluded) return "every assistant message has \"train\": false or \"weight\": 0";
  return "the chat template writes nothing of its assistant messages that could be learnt";
}

void RowWork::check_supervision(const Row& row) const {
  const auto& labels = result_.labels;
  if (result_.supervised() == 0)
    fail("{}: no token would be learnt from: {}; mend or remove the row", where_, reason_for_nothing(row));
  // The first token of a row that begins with BOS is not the data's.
  const auto bos = tokenizer_->bos_token_id();
  const auto from = labels.begin() + (bos && result_.ids.front() == *bos ? 1 : 0);
  if (std::find(from, labels.end(), kIgnoredLabel) == labels.end())
    fail("{}: every token would be learnt from: {}; rows to learn whole are written as {{\"text\": …}}",
         where_,
         row.conversational ? "the template's {% generation %} blocks hold the whole chat"
                            : "the prompt is empty");
}

}  // namespace

std::int64_t TokenizedRow::supervised() const {
  if (labels.empty()) return 0;
  return static_cast<std::int64_t>(labels.size()) - 1 -
         std::count(labels.begin() + 1, labels.end(), kIgnoredLabel);
}

RowTokenizer::RowTokenizer(const PretrainedTokenizer* tokenizer, TokenizeOptions options)
    : tokenizer_(tokenizer), options_(std::move(options)) {
  if (!options_.now) options_.now = text::local_time();
}

TokenizedRow RowTokenizer::tokenize(std::string_view json, const std::string& where) const {
  return RowWork(tokenizer_, options_, where).run(parse_row(json, where, options_.vocab, options_.columns));
}

}  // namespace hone::data
