// Loading tokenizer.json and running its parts one after the other.
#include "text/tokenizer.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/message.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"

namespace hone::text {

namespace {

void check_version(const JsonNode& root) {
  const auto version = root.find_given("version");
  if (version && version->as_string() != "1.0") {
    version->fail_here("unknown tokenizer version '" + shown(version->as_string()) + "'; supported: 1.0");
  }
}

const JsonNode& checked(const JsonNode& root) {
  check_version(root);
  return root;
}

}  // namespace

Tokenizer::Impl::Impl(const JsonNode& root, std::string file_name, bool split_special_tokens)
    : name(std::move(file_name)), model(checked(root).at("model")) {
  if (const auto node = root.find_given("normalizer")) normalizer = tok::make_normalizer(*node);
  if (const auto node = root.find_given("pre_tokenizer")) {
    pre_tokenizer = tok::make_pre_tokenizer(*node, model.reads_bytes());
  }
  if (const auto node = root.find_given("post_processor")) post_processor = tok::make_post_processor(*node);
  if (const auto node = root.find_given("decoder")) decoder = tok::make_decoder(*node);
  added = tok::AddedTokens(root.find_given("added_tokens"), model, normalizer.get(), split_special_tokens);
  trims_offsets = post_processor != nullptr && post_processor->trims();
  bool fused = false;
  if (decoder) decoder->describe(stream, fused);
}

Tokenizer::Impl::Borrowed::Borrowed(const Impl& impl) : impl_(impl) {
  {
    const std::lock_guard lock(impl.mutex_);
    if (!impl.idle_.empty()) {
      scratch_ = std::move(impl.idle_.back());
      impl.idle_.pop_back();
    }
  }
  if (!scratch_) scratch_ = std::make_unique<Scratch>();
}

Tokenizer::Impl::Borrowed::~Borrowed() {
  scratch_->workspace.clear();
  const std::lock_guard lock(impl_.mutex_);
  impl_.idle_.push_back(std::move(scratch_));
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::from_file(const std::filesystem::path& tokenizer_json) {
  return from_json(read_file(tokenizer_json), tokenizer_json.string());
}

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view name) {
  const std::string file(name);
  return from_document(parse_json(json, file, {.repeated_keys = RepeatedKeys::kLastWins}), file);
}

Tokenizer Tokenizer::from_document(nlohmann::ordered_json document, const std::string& name,
                                   bool split_special_tokens) {
  const auto root = JsonNode::of(std::move(document), name);
  return Tokenizer(std::make_shared<const Impl>(root, name, split_special_tokens));
}

void Tokenizer::Impl::encode_piece(const tok::Piece& piece, Scratch& scratch,
                                   std::vector<tok::OutputToken>& out) const {
  scratch.symbols.clear();
  model.tokenize(piece, scratch.bpe, scratch.symbols);
  std::size_t at = 0;
  for (const auto& [id, length] : scratch.symbols) {
    // Fallback bytes of an end_of_word_suffix have no text: such a token covers what is left.
    const std::size_t begin = std::min(at, piece.text.size());
    const std::size_t end = std::min(at + length, piece.text.size());
    tok::OutputToken token{id, tok::source_of(piece, begin, end), 0, 0};
    if (trims_offsets) tok::count_outer_spaces(*model.id_to_token(id), token);
    out.push_back(token);
    at += length;
  }
}

void Tokenizer::Impl::encode_added(const tok::Piece& piece, std::int32_t id,
                                   std::vector<tok::OutputToken>& out) const {
  tok::OutputToken token{id, tok::source_of(piece, 0, piece.text.size()), 0, 0};
  if (trims_offsets) tok::count_outer_spaces(piece.text, token);
  out.push_back(token);
}

tok::OutputParts Tokenizer::Impl::encode_text(std::string_view text, Scratch& scratch) const {
  tok::OutputParts parts(1);
  auto& tokens = parts[0];
  const auto take_piece = [&](const tok::Piece& piece) { encode_piece(piece, scratch, tokens); };
  const auto take_normalized = [&](const tok::Piece& piece, std::optional<std::int32_t> id) {
    if (id) return encode_added(piece, *id, tokens);
    if (!pre_tokenizer) return take_piece(piece);
    pre_tokenizer->split(piece, scratch.workspace, take_piece);
  };
  const auto take_raw = [&](const tok::Piece& piece, std::optional<std::int32_t> id) {
    if (id) return encode_added(piece, *id, tokens);
    const tok::Workspace::Scope scope(scratch.workspace);
    added.split(normalizer ? normalizer->normalize(piece, scratch.workspace) : piece, true, take_normalized);
  };
  const auto size = static_cast<std::uint32_t>(text.size());
  added.split(tok::Piece{text, nullptr, {0, size}, false}, false, take_raw);
  return parts;
}

Encoding Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  if (const std::size_t bad = unicode::find_invalid(text); bad != std::string_view::npos) {
    fail("a text of {} bytes is not valid UTF-8 at byte {} (0x{:02X})", text.size(), bad,
         static_cast<unsigned char>(text[bad]));
  }
  if (text.size() > std::numeric_limits<std::int32_t>::max()) {
    fail("a text of {} bytes is too long to tokenize at once; split it below 2 GiB", text.size());
  }
  const Impl::Borrowed scratch(*impl_);
  tok::OutputParts parts = impl_->encode_text(text, *scratch);
  if (impl_->post_processor) impl_->post_processor->process(parts, text, add_special_tokens);
  Encoding encoding;
  std::size_t count = 0;
  for (const auto& part : parts) count += part.size();
  encoding.ids.reserve(count);
  encoding.offsets.reserve(count);
  for (const auto& part : parts) {
    for (const auto& token : part) {
      encoding.ids.push_back(token.id);
      encoding.offsets.emplace_back(token.source.begin, token.source.end);
    }
  }
  return encoding;
}

const std::string* Tokenizer::Impl::decoder_text(std::int32_t id, bool skip_special_tokens) const {
  const std::string* text = added.decoded(id);
  if (text == nullptr) text = model.id_to_token(id);
  return text != nullptr && skip_special_tokens && added.is_special_text(*text) ? nullptr : text;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    if (const std::string* text = impl_->decoder_text(id, skip_special_tokens)) tokens.push_back(*text);
  }
  if (tokens.empty()) return "";
  const std::string_view separator = impl_->decoder ? "" : " ";
  if (impl_->decoder) {
    const Impl::Borrowed scratch(*impl_);
    impl_->decoder->decode(tokens, (*scratch).workspace.regex());
  }
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) text += separator;
    text += tokens[i];
  }
  return text;
}

std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const auto id = impl_->added.token_to_id(token);
  return id ? id : impl_->model.token_to_id(token);
}

std::optional<std::string> Tokenizer::id_to_token(std::int32_t id) const {
  const std::string* text = impl_->decoder_text(id, false);
  return text == nullptr ? std::nullopt : std::optional(*text);
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(impl_->model.vocab_size() + impl_->added.count_beyond_model());
}

std::int64_t Tokenizer::id_limit() const {
  std::int64_t limit = impl_->model.id_limit();
  if (!added_tokens().empty()) limit = std::max<std::int64_t>(limit, added_tokens().back().id + 1);
  return limit;
}

const std::vector<AddedToken>& Tokenizer::added_tokens() const {
  return impl_->added.tokens();
}

bool Tokenizer::is_special(std::int32_t id) const {
  const AddedToken* token = impl_->added.find(id);
  return token != nullptr && token->special;
}

}  // namespace hone::text
