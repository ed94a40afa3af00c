// A part of the text on its way through normalizer and pre-tokenizer, with the bytes of the input it came
// from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/regex.h"
#include "text/unicode.h"

namespace hone::text::tok {

/// A half-open range of bytes of the input text.
struct InputRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// Borrowed text and where it came from. Never owns: the text lies in the input or in a Workspace.
struct Piece {
  std::string_view text;
  /// Per byte of `text`, the range of the input it stands for; null where `text` is a part of the input
  /// itself.
  const InputRange* sources = nullptr;
  /// The part of the input that this piece covers.
  InputRange covered;
  /// The model shall read bytes, not characters (the ByteLevel pre-tokenizer came last).
  bool byte_level = false;
};

/// Owns what one encode call makes on the way: changed texts, and scratch memory for searches. One per
/// thread.
class Workspace {
 public:
  /// Forgets the changed texts of the last call.
  void clear() { changed_.clear(); }

  /// Keeps a changed text alive until clear().
  Piece keep(std::string text, std::vector<InputRange> sources, InputRange covered);

  RegexScratch& regex() { return regex_; }

  /// Forgets, at its end, the texts that were kept during its life. For code that hands pieces on and keeps
  /// none.
  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), size_(workspace.changed_.size()) {}
    ~Scope() {
      while (workspace_.changed_.size() > size_) workspace_.changed_.pop_back();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    std::size_t size_;
  };

 private:
  struct Changed {
    std::string text;
    std::vector<InputRange> sources;
  };
  std::deque<Changed> changed_;
  RegexScratch regex_;
};

/// The input range of byte `at` of a piece (the whole character it belongs to).
InputRange source_of(const Piece& piece, std::size_t at);
/// The input range of bytes [begin, end) of a piece.
InputRange source_of(const Piece& piece, std::size_t begin, std::size_t end);
/// The part [begin, end) of a piece; both on character boundaries.
Piece slice(const Piece& piece, std::size_t begin, std::size_t end);

/// The piece with its characters replaced by `codes`. A code with change 1 is an insertion that takes the
/// source of the character before it; 0 replaces the next character; -n also drops the n behind. `skipped`
/// characters at the start are dropped first. (The contract of NormalizedString::transform in the
/// `tokenizers` library.)
Piece transformed(const Piece& piece, std::span<const unicode::NormalizedCode> codes, std::size_t skipped,
                  Workspace& workspace);
/// The piece with `prefix` before it, sharing the source of its first character.
Piece prepended(const Piece& piece, std::string_view prefix, Workspace& workspace);
/// The piece with `content` in the place of each of the `matches`, sharing the source of the character that
/// ends it.
Piece replaced(const Piece& piece, std::span<const std::pair<std::size_t, std::size_t>> matches,
               std::string_view content, Workspace& workspace);

}  // namespace hone::text::tok
