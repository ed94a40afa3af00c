// Changing pieces of text while keeping track of their sources.
#include "text/text_piece.h"

#include <algorithm>

namespace hone::text::tok {

Piece Workspace::keep(std::string text, std::vector<InputRange> sources, InputRange covered) {
  changed_.push_back({std::move(text), std::move(sources)});
  const Changed& kept = changed_.back();
  return Piece{kept.text, kept.sources.data(), covered, false};
}

InputRange source_of(const Piece& piece, std::size_t at) {
  if (piece.sources != nullptr) return piece.sources[at];
  std::size_t begin = at;
  while (!unicode::is_boundary_byte(piece.text[begin])) --begin;
  const std::size_t length = unicode::sequence_length(static_cast<unsigned char>(piece.text[begin]));
  const auto first = piece.covered.begin + static_cast<std::uint32_t>(begin);
  return {first, first + static_cast<std::uint32_t>(length)};
}

InputRange source_of(const Piece& piece, std::size_t begin, std::size_t end) {
  if (begin == end) {  // as the library: an empty range is not translated
    const auto at = piece.covered.begin + static_cast<std::uint32_t>(begin);
    return {at, at};
  }
  return {source_of(piece, begin).begin, source_of(piece, end - 1).end};
}

Piece slice(const Piece& piece, std::size_t begin, std::size_t end) {
  const InputRange covered = source_of(piece, begin, end);
  const InputRange* sources = piece.sources == nullptr ? nullptr : piece.sources + begin;
  return Piece{piece.text.substr(begin, end - begin), sources, covered, piece.byte_level};
}

namespace {

/// Collects a changed text.
struct Builder {
  std::string text;
  std::vector<InputRange> sources;

  void put(char32_t code, InputRange source) {
    unicode::append(text, code);
    sources.resize(text.size(), source);
  }
  void put(std::string_view part, InputRange source) {
    text += part;
    sources.resize(text.size(), source);
  }
  void copy(const Piece& piece, std::size_t begin, std::size_t end) {
    text += piece.text.substr(begin, end - begin);
    for (std::size_t at = begin; at < end; ++at) sources.push_back(source_of(piece, at));
  }
};

/// The source for what is inserted before byte `at`: that of the character before it, or an empty one at the
/// start.
InputRange source_before(const Piece& piece, std::size_t at) {
  return at == 0 ? InputRange{piece.covered.begin, piece.covered.begin} : source_of(piece, at - 1);
}

std::size_t next_boundary(std::string_view text, std::size_t at) {
  return at < text.size() ? at + unicode::sequence_length(static_cast<unsigned char>(text[at])) : at;
}

}  // namespace

Piece transformed(const Piece& piece, std::span<const unicode::NormalizedCode> codes, std::size_t skipped,
                  Workspace& workspace) {
  Builder builder;
  builder.text.reserve(piece.text.size() + piece.text.size() / 8);
  std::size_t at = 0;
  for (; skipped > 0; --skipped) at = next_boundary(piece.text, at);
  for (const auto& [code, change] : codes) {
    if (change > 0) {
      builder.put(code, source_before(piece, at));
      continue;
    }
    builder.put(code, at < piece.text.size() ? source_of(piece, at) : source_before(piece, at));
    for (int i = 0; i <= -change; ++i) at = next_boundary(piece.text, at);
  }
  return workspace.keep(std::move(builder.text), std::move(builder.sources), piece.covered);
}

Piece prepended(const Piece& piece, std::string_view prefix, Workspace& workspace) {
  if (piece.text.empty()) return piece;
  Builder builder;
  builder.text.reserve(piece.text.size() + prefix.size());
  builder.sources.reserve(piece.text.size() + prefix.size());
  builder.put(prefix, source_of(piece, 0));
  if (prefix.empty()) {  // the library then takes the first character for an insertion at the start
    const std::size_t first = next_boundary(piece.text, 0);
    builder.put(piece.text.substr(0, first), source_before(piece, 0));
    builder.copy(piece, first, piece.text.size());
  } else {
    builder.copy(piece, 0, piece.text.size());
  }
  return workspace.keep(std::move(builder.text), std::move(builder.sources), piece.covered);
}

Piece replaced(const Piece& piece, std::span<const std::pair<std::size_t, std::size_t>> matches,
               std::string_view content, Workspace& workspace) {
  if (matches.empty()) return piece;
  Builder builder;
  const std::size_t size = piece.text.size() + matches.size() * content.size();
  builder.text.reserve(size);
  builder.sources.reserve(size);
  std::size_t copied = 0;
  for (const auto& [begin, end] : matches) {
    builder.copy(piece, copied, begin);
    builder.put(content, source_before(piece, end));
    copied = end;
  }
  builder.copy(piece, copied, piece.text.size());
  return workspace.keep(std::move(builder.text), std::move(builder.sources), piece.covered);
}

}  // namespace hone::text::tok
