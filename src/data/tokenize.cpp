#include "data/tokenize.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"
#include "data/chat_rendering.h"
#include "data/missing_stops.h"
#include "data/rows.h"
#include "data/supervision.h"
#include "data/weights.h"
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
    result_.findings = std::move(row.findings);
    if (row.kind == RowKind::kTokens) {
      take_tokens(row);
    } else {
      if (tokenizer_ == nullptr)
        fail("{}: the model has no tokenizer.json; only rows of input_ids can be used", where_);
      if (row.conversational)
        tokenize_chat(row.chat);
      else
        tokenize_text(row);
      check_vocabulary();
      if (options_.for_training && row.conversational) check_supervision();
    }
    weigh(row.weight);
    note_two_bos();
    if (result_.supervised() == 0) result_.no_target = reason_for_nothing(row);
    return std::move(result_);
  }

 private:
  void take_tokens(Row& row);
  void tokenize_text(const Row& row);
  void tokenize_chat(ChatRow& chat);
  void note_border(const Row& row, const text::Encoding& encoding);
  void end_with_eos();
  void weigh(double row_weight);
  text::Rendered render(const ChatRow& chat, const Json& messages, bool generation_prompt,
                        bool trace = false) const;
  void check_roles(const Json& messages) const;
  void check_vocabulary() const;
  void check_supervision() const;
  void note_two_bos();
  std::string reason_for_nothing(const Row& row) const;

  const PretrainedTokenizer* tokenizer_;
  const TokenizeOptions& options_;
  const std::string& where_;
  std::vector<double> weights_;  // of tokens, but for the row's own; empty: 1
  TokenizedRow result_;
};

void RowWork::take_tokens(Row& row) {
  result_.labels = std::move(row.labels).value();
  result_.ids = std::move(row.ids);
  result_.documents = std::move(row.documents);
  weights_ = std::move(row.token_weights);
  if (!options_.decode) return;
  if (tokenizer_ == nullptr) fail("{}: the model has no tokenizer.json to decode input_ids with", where_);
  result_.text = tokenizer_->tokenizer().decode(result_.ids, false);
}

void RowWork::tokenize_text(const Row& row) {
  result_.text = row.prompt + row.text;
  auto encoding = tokenizer_->tokenizer().encode(result_.text, options_.special_tokens);
  const bool completion = row.kind == RowKind::kCompletion;
  if (completion) {
    result_.labels = labels_of(encoding, {{row.prompt.size(), result_.text.size()}});
    note_border(row, encoding);
  }
  result_.ids = std::move(encoding.ids);
  if (!completion) result_.labels = result_.ids;
  if (options_.eos || completion) end_with_eos();
}

/// What there is to say of the place where the prompt of two strings ends.
void RowWork::note_border(const Row& row, const text::Encoding& encoding) {
  if (row.prompt.empty()) return result_.findings.push_back({FindingKind::kEmptyPrompt, ""});
  const bool straddles = std::any_of(
      encoding.offsets.begin(), encoding.offsets.end(),
      [&](const auto& token) { return token.first < row.prompt.size() && token.second > row.prompt.size(); });
  if (straddles) result_.findings.push_back({FindingKind::kStraddlingToken, ""});
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

/// Gives learnt tokens their weights, and takes the labels of those that have none.
void RowWork::weigh(double row_weight) {
  if (weights_.empty() && row_weight == 1) return;
  auto& labels = result_.labels;
  result_.weights.assign(labels.size(), 0.0F);
  bool plain = true;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double weight = row_weight * (weights_.empty() ? 1 : weights_[i]);
    if (weight == 0) labels[i] = kIgnoredLabel;
    if (labels[i] == kIgnoredLabel) continue;
    if (!is_weight(weight))
      check_weight(weight, fmt::format("{}: the weight of token {}, times that of the row,", where_, i));
    result_.weights[i] = static_cast<float>(weight);
    plain = plain && weight == 1;
  }
  if (plain) result_.weights.clear();
}

text::Rendered RowWork::render(const ChatRow& chat, const Json& messages, bool generation_prompt,
                               bool trace) const {
  text::ChatOptions options;
  options.trace = trace;
  options.add_generation_prompt = generation_prompt;
  options.clock = [now = *options_.now] { return now; };
  options.documents = chat.documents.is_null() ? nullptr : &chat.documents;
  options.kwargs = chat.template_kwargs.is_null() ? nullptr : &chat.template_kwargs;
  return tokenizer_->apply_chat_template(messages, chat.tools.is_null() ? nullptr : &chat.tools, options);
}

void RowWork::tokenize_chat(ChatRow& chat) {
  if (options_.for_training) check_roles(chat.messages);
  const auto traced = [&](const ChatRow& part, bool generation_prompt) {
    return render(part, part.messages, generation_prompt, true);
  };
  text::Rendered rendered;
  try {
    rendered = render_adapted(chat, traced, options_.generation_prompt, result_.findings);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    fail("{}: {}", where_,
         one_line(error.what(), kLongestMessage - std::min(kLongestMessage, where_.size())));
  }
  find_dropped(chat, rendered, traced, options_.generation_prompt, result_.findings);
  auto encoding = tokenizer_->tokenizer().encode(rendered.text, false);
  const RenderedChat view{.messages = chat.messages,
                          .weights = chat.weights,
                          .places = chat.places,
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
  find_missing_stops(view, spans, markers, marked, result_.findings);
  if (!spans.empty())
    result_.findings.push_back({FindingKind::kTurns, "", "", static_cast<std::int64_t>(spans.size())});
  result_.labels = labels_of(encoding, spans);
  if (std::any_of(spans.begin(), spans.end(), [](const TextSpan& span) { return span.weight != 1; }))
    weights_ = weights_of(encoding, spans);
  result_.ids = std::move(encoding.ids);
  result_.text = std::move(rendered.text);
}

/// A misspelt assistant would be left unlearnt in silence.
void RowWork::check_roles(const Json& messages) const {
  static const std::vector<std::string> kKnownRoles{"system",    "user",     "assistant", "tool",
                                                    "developer", "function", "ipython",   "observation"};
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto& role = messages[i]["role"].get_ref<const std::string&>();
    if (std::find(kKnownRoles.begin(), kKnownRoles.end(), role) == kKnownRoles.end() &&
        nearest_name(role, kKnownRoles) == "assistant")
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
  if (row.weight == 0) return "its weight is 0";
  if (row.kind == RowKind::kTokens) {
    if (result_.ids.empty()) return "input_ids is empty";
    return result_.ids.size() == 1 ? "it has one token, which nothing predicts"
           : weights_.empty()      ? "every label but those of first tokens is -100"
                                   : "every label but those of first tokens is -100, or its weight 0";
  }
  if (!row.conversational)
    return row.kind == RowKind::kText ? "text is empty" : "prompt and completion are empty";
  std::vector<std::string> roles;
  bool excluded = true;
  for (std::size_t i = 0; i < row.chat.messages.size(); ++i) {
    const auto& role = row.chat.messages[i]["role"].get_ref<const std::string&>();
    if (std::find(roles.begin(), roles.end(), role) == roles.end()) roles.push_back(role);
    excluded = excluded && (role != "assistant" || row.chat.weights[i] == 0);
  }
  if (std::find(roles.begin(), roles.end(), "assistant") == roles.end()) {
    std::sort(roles.begin(), roles.end());  // rows that differ in their order alone are counted together
    std::string list;
    for (const auto& role : roles) list.append(list.empty() ? "" : ", ").append(role);
    return "it has no assistant message (roles: " + one_line(list, 120) + ")";
  }
  if (excluded && row.kind == RowKind::kCompletion)
    return "no message of the completion is an assistant's to learn from";
  if (excluded) return "every assistant message says that it is not to be learnt from (train, weight)";
  return "the chat template writes nothing of its assistant messages that could be learnt";
}

/// A mask of ones is a template's mistake: the model would learn to write the questions, too.
void RowWork::check_supervision() const {
  const auto& labels = result_.labels;
  if (labels.empty()) return;
  // The first token of a row that begins with BOS is not the data's.
  const auto bos = tokenizer_->bos_token_id();
  const auto from = labels.begin() + (bos && result_.ids.front() == *bos ? 1 : 0);
  if (from != labels.end() && std::find(from, labels.end(), kIgnoredLabel) == labels.end())
    fail(
        "{}: every token would be learnt from: the template's {{% generation %}} blocks hold the whole chat; "
        "rows to learn whole are written as {{\"text\": …}}",
        where_);
}

void RowWork::note_two_bos() {
  const auto& ids = result_.ids;
  const auto bos = tokenizer_ != nullptr ? tokenizer_->bos_token_id() : std::nullopt;
  if (!bos || ids.size() < 3 || ids[0] != *bos || ids[1] != *bos) return;
  result_.findings.push_back(
      {FindingKind::kTwoBos, one_line(tokenizer_->tokenizer().id_to_token(*bos).value_or(""), 60)});
}

}  // namespace

std::int64_t TokenizedRow::supervised() const {
  const auto learnt = [&](std::size_t begin, std::size_t end) {
    const auto from = labels.begin() + static_cast<std::ptrdiff_t>(begin);
    return static_cast<std::int64_t>(end - begin) -
           std::count(from, labels.begin() + static_cast<std::ptrdiff_t>(end), kIgnoredLabel);
  };
  if (documents.empty()) return labels.empty() ? 0 : learnt(1, labels.size());
  std::int64_t sum = 0;
  std::size_t at = 0;
  for (const std::int64_t length : documents) {
    sum += learnt(at + 1, at + static_cast<std::size_t>(length));
    at += static_cast<std::size_t>(length);
  }
  return sum;
}

RowTokenizer::RowTokenizer(const PretrainedTokenizer* tokenizer, TokenizeOptions options)
    : tokenizer_(tokenizer), options_(std::move(options)) {
  if (!options_.now) options_.now = text::local_time();
}

TokenizedRow RowTokenizer::tokenize(std::string_view json, const std::string& where) const {
  Row row = parse_row(json, where, options_.vocab, options_.columns);
  const std::uint64_t content = content_of(row);
  TokenizedRow result = RowWork(tokenizer_, options_, where).run(std::move(row));
  result.content = content;
  return result;
}

}  // namespace hone::data
