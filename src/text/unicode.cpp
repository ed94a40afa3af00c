// UTF-8, character classes by binary search in the generated tables, and normal forms over utf8proc's data.
#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/error.h"
#include "text/unicode_tables.h"

namespace hone::text::unicode {

namespace {

bool contains(std::span<const CodeRange> ranges, char32_t code) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), code,
                                      [](char32_t c, const CodeRange& range) { return c < range.first; });
  return after != ranges.begin() && code <= std::prev(after)->last;
}

constexpr bool is_ascii_alnum(char32_t code) {
  return (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
}

constexpr bool is_hangul_syllable(char32_t code) {
  return code >= 0xAC00 && code <= 0xD7A3;
}

bool is_normalizable(char32_t code) {
  return code >= 0xA0 && contains(normalizable_ranges(), code);
}

/// Length of the valid sequence at `at`, or minus the length of the maximal broken part there.
int check_sequence(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return -1;
  // The second byte's limits rule out overlong forms, surrogates and values above U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return -1;
  if (lead < 0xE0) return 2;
  if ((byte(2) & 0xC0) != 0x80) return -2;
  if (lead < 0xF0) return 3;
  return (byte(3) & 0xC0) == 0x80 ? 4 : -3;
}

}  // namespace

char32_t decode(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const char32_t lead = byte(0);
  char32_t code = lead;
  const std::size_t length = sequence_length(static_cast<unsigned char>(lead));
  if (length == 2) code = (lead & 0x1F) << 6 | (byte(1) & 0x3F);
  if (length == 3) code = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  if (length == 4) {
    code = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
  at += length;
  return code;
}

void append(std::string& out, char32_t code) {
  const auto put = [&](char32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

std::vector<char32_t> to_codes(std::string_view text) {
  std::vector<char32_t> codes;
  codes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) codes.push_back(decode(text, at));
  return codes;
}

std::size_t find_invalid(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const int length = check_sequence(text, at);
    if (length < 0) return at;
    at += static_cast<std::size_t>(length);
  }
  return std::string_view::npos;
}

std::string from_utf8_lossy(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const int length = check_sequence(bytes, at);
    const auto size = static_cast<std::size_t>(length < 0 ? -length : length);
    if (length < 0) {
      out += "\xEF\xBF\xBD";
    } else {
      out += bytes.substr(at, size);
    }
    at += size;
  }
  return out;
}

bool is_white_space(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 0x09 && code <= 0x0D);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_word(char32_t code) {
  if (code < 0x80) return is_ascii_alnum(code) || code == '_';
  return contains(word_ranges(), code);
}

bool is_numeric(char32_t code) {
  if (code < 0x80) return code >= '0' && code <= '9';
  return contains(numeric_ranges(), code);
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) return code > ' ' && code < 0x7F && !is_ascii_alnum(code);
  return contains(punctuation_ranges(), code);
}

bool is_combining_mark(char32_t code) {
  return code >= 0x300 && contains(combining_mark_ranges(), code);
}

void append_lower(std::vector<char32_t>& out, char32_t code) {
  if (code == 0x130) {  // the one code point whose lower case is two
    out.insert(out.end(), {U'i', U'\u0307'});
    return;
  }
  const auto runs = lower_ranges();
  const auto after = std::upper_bound(runs.begin(), runs.end(), code,
                                      [](char32_t c, const LowerRange& run) { return c < run.first; });
  if (after != runs.begin()) {
    const LowerRange& run = *std::prev(after);
    if (code <= run.last && (code - run.first) % run.stride == 0) {
      code = static_cast<char32_t>(static_cast<std::int32_t>(code) + run.delta);
    }
  }
  out.push_back(code);
}

namespace {

/// A code point on its way through a normalizer.
struct Marked {
  char32_t code;
  int change;
  int combining_class;
};

// utf8proc's data is asked only for code points in normalizable_ranges(): the library's Unicode version is
// older than utf8proc's, and code points it does not know decompose and combine with nothing.
int combining_class(char32_t code) {
  return is_normalizable(code) ? utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->combining_class
                               : 0;
}

std::optional<char32_t> compose_pair(char32_t first, char32_t second) {
  if (!is_normalizable(second)) return std::nullopt;
  std::array<utf8proc_int32_t, 2> pair{static_cast<utf8proc_int32_t>(first),
                                       static_cast<utf8proc_int32_t>(second)};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  if (utf8proc_normalize_utf32(pair.data(), 2, options) != 1) return std::nullopt;
  const auto composed = static_cast<char32_t>(pair[0]);
  return is_normalizable(composed) ? std::optional(composed) : std::nullopt;
}

/// Appends the full decomposition of `code`, marks in canonical order.
void decompose(std::vector<Marked>& out, char32_t code, bool compatibility) {
  std::array<utf8proc_int32_t, 32> buffer{};
  utf8proc_ssize_t length = 1;
  buffer[0] = static_cast<utf8proc_int32_t>(code);
  if (is_normalizable(code)) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE |
                                                        (compatibility ? UTF8PROC_COMPAT : 0));
    length = utf8proc_decompose_char(buffer[0], buffer.data(), static_cast<utf8proc_ssize_t>(buffer.size()),
                                     options, nullptr);
    HONE_CHECK(length > 0 && length <= static_cast<utf8proc_ssize_t>(buffer.size()),
               "utf8proc decomposes U+{:04X} to {} code points", static_cast<std::uint32_t>(code), length);
  }
  for (utf8proc_ssize_t i = 0; i < length; ++i) {
    const auto part = static_cast<char32_t>(buffer[static_cast<std::size_t>(i)]);
    out.push_back({part, i == 0 ? 0 : 1, combining_class(part)});
  }
}

void sort_marks(std::vector<Marked>& codes) {
  const auto is_mark = [](const Marked& m) { return m.combining_class != 0; };
  for (auto begin = codes.begin(); begin != codes.end();) {
    begin = std::find_if(begin, codes.end(), is_mark);
    const auto end = std::find_if_not(begin, codes.end(), is_mark);
    std::stable_sort(begin, end,
                     [](const Marked& a, const Marked& b) { return a.combining_class < b.combining_class; });
    begin = end;
  }
}

/// Canonical composition: each mark or starter joins the last starter unless something between them blocks
/// it.
void compose(const std::vector<Marked>& codes, std::vector<NormalizedCode>& out) {
  std::optional<std::size_t> starter;  // index in `out`
  int last_class = -1;                 // of what follows the starter in `out`; -1: nothing does
  for (const Marked& next : codes) {
    if (starter && last_class < next.combining_class) {
      if (const auto joined = compose_pair(out[*starter].code, next.code)) {
        out[*starter].code = *joined;
        out[*starter].change += next.change - 1;
        continue;
      }
    }
    out.push_back({next.code, next.change});
    if (next.combining_class == 0) {
      starter = out.size() - 1;
      last_class = -1;
    } else if (starter) {
      last_class = next.combining_class;
    }
  }
}

/// Can no normal form of this kind change `code`, move it, or join it to what is before it?
bool is_inert(char32_t code, Form form) {
  if (code < 0xA0) return true;
  if (form == Form::kNfc && (code < 0x300 || is_hangul_syllable(code))) return true;
  return !is_normalizable(code);
}

}  // namespace

bool is_plainly_normalized(std::string_view text, Form form) {
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
    } else if (!is_inert(decode(text, at), form)) {
      return false;
    }
  }
  return true;
}

std::vector<NormalizedCode> normalize(std::string_view text, Form form) {
  const bool composed = form == Form::kNfc || form == Form::kNfkc;
  const bool compatibility = form == Form::kNfkc || form == Form::kNfkd;
  std::vector<NormalizedCode> out;
  out.reserve(text.size());
  std::vector<Marked>
      part;  // from an inert character (which may still be joined by what follows) to the next
  const auto finish_part = [&] {
    sort_marks(part);
    if (composed) {
      std::vector<NormalizedCode> joined;
      compose(part, joined);
      out.insert(out.end(), joined.begin(), joined.end());
    } else {
      for (const Marked& m : part) out.push_back({m.code, m.change});
    }
    part.clear();
  };
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = decode(text, at);
    if (is_inert(code, form)) {
      const bool next_is_inert = at >= text.size() || static_cast<unsigned char>(text[at]) < 0x80 || [&] {
        std::size_t ahead = at;
        return is_inert(decode(text, ahead), form);
      }();
      if (!part.empty()) finish_part();
      if (next_is_inert) {
        out.push_back({code, 0});
        continue;
      }
    }
    decompose(part, code, compatibility);
  }
  if (!part.empty()) finish_part();
  return out;
}

}  // namespace hone::text::unicode
