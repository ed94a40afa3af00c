#!/usr/bin/env python3
"""Writes src/text/unicode_tables.cpp: the character classes that the `tokenizers` library uses, as ranges.

The library mixes several Unicode versions (its regex engine, Rust's standard library, and two crates frozen years ago),
so no installed Unicode library agrees with it everywhere. Each class here is read off the library itself, one code point
at a time. Classes of regex patterns are left to PCRE2, plus the code points that its Unicode version does not know yet.

usage: make_tokenizer_tables.py OUTPUT.cpp     (needs: tokenizers, and libpcre2-8 10.40 to 10.42 = Unicode 14)
"""
import ctypes
import ctypes.util
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
EVERYTHING = "".join(map(chr, CODES))
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co L M N P S Z".split()
DERIVED = ["Alphabetic", "Uppercase", "Lowercase"]
SCRIPTS = (
    "Adlam Ahom Arabic Armenian Balinese Bengali Bopomofo Braille Cherokee Common Coptic Cyrillic Devanagari Ethiopic "
    "Georgian Glagolitic Gothic Greek Gujarati Gurmukhi Han Hangul Hebrew Hiragana Inherited Javanese Kannada Katakana "
    "Khmer Lao Latin Malayalam Mongolian Myanmar Nko Oriya Runic Sinhala Syriac Tamil Telugu Thaana Thai Tibetan "
    "Tifinagh Vai Yi"
).split()


def matched(pattern):
    """Code points that a pattern of one character matches, by the library's regex engine."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for _, (a, b) in split.pre_tokenize_str(EVERYTHING) for c in EVERYTHING[a:b]}


def separated(pre_tokenizer):
    """Code points that a pre-tokenizer does not leave attached to a letter before them."""
    return {c for c in CODES if len(pre_tokenizer.pre_tokenize_str("a" + chr(c))) != 1
            or len(pre_tokenizer.pre_tokenize_str("a" + chr(c))[0][0]) != 2}


def normalizable():
    """Code points that may change, or move, or join what is before them, in any of the four normal forms."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    codes = set(range(0xAC00, 0xD7A4))
    for c in CODES:
        text = chr(c)
        canonical = nfd.normalize_str(text)
        if canonical != text:
            codes.update(map(ord, canonical[1:]))
        if nfkd.normalize_str(text) != text:
            codes.add(c)
        if unicodedata.combining(text) and nfd.normalize_str("a\u0345" + text) == "a" + text + "\u0345":
            codes.add(c)  # a combining mark: it moves before a mark of the highest class
    return codes | {0x345}


class Pcre2:
    """Class membership by the installed PCRE2."""

    def __init__(self):
        self.lib = ctypes.CDLL(ctypes.util.find_library("pcre2-8"))
        self.lib.pcre2_compile_8.restype = ctypes.c_void_p
        self.lib.pcre2_compile_8.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p,
                                             ctypes.c_void_p, ctypes.c_void_p]
        self.lib.pcre2_match_data_create_8.restype = ctypes.c_void_p
        self.lib.pcre2_match_8.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t,
                                           ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p]
        self.lib.pcre2_get_ovector_pointer_8.restype = ctypes.POINTER(ctypes.c_size_t)
        self.lib.pcre2_get_ovector_pointer_8.argtypes = [ctypes.c_void_p]
        self.data = self.lib.pcre2_match_data_create_8(4, None)
        self.subject = EVERYTHING.encode()

    def matched(self, pattern):
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        text = pattern.encode()
        utf_and_ucp = 0x00080000 | 0x00020000
        code = self.lib.pcre2_compile_8(text, len(text), utf_and_ucp, ctypes.addressof(error),
                                        ctypes.addressof(offset), None)
        if not code:
            raise SystemExit(f"PCRE2 refuses {pattern}")
        found, at = set(), 0
        bounds = self.lib.pcre2_get_ovector_pointer_8(self.data)
        while self.lib.pcre2_match_8(code, self.subject, len(self.subject), at, 0, self.data, None) >= 0:
            found.update(map(ord, self.subject[bounds[0]:bounds[1]].decode()))
            at = bounds[1]
        return found


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and (out[-1][1] == c - 1 or (out[-1][1] == 0xD7FF and c == 0xE000)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def lower_runs():
    """[first, last, stride, delta] of the one-to-one lower case mappings."""
    lower = normalizers.Lowercase()
    runs = []
    for c in CODES:
        to = lower.normalize_str(chr(c))
        if to == chr(c):
            continue
        if len(to) != 1:
            assert c == 0x130, hex(c)  # the only long one; unicode.cpp has it
            continue
        delta = ord(to) - c
        if runs and runs[-1][3] == delta:
            first, last, stride, _ = runs[-1]
            step = c - last
            if step <= 2 and (first == last or step == stride):
                runs[-1][1], runs[-1][2] = c, step
                continue
        runs.append([c, c, 1, delta])
    return runs


def wrapped(items):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > 118:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return "\n".join(lines + [line])


def array(name, codes):
    items = [f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(codes)]
    return f"constexpr std::array<CodeRange, {len(items)}> {name} = {{{{\n{wrapped(items)}\n}}}};\n"


def main():
    pcre2 = Pcre2()
    newer = {}
    for name in CATEGORIES + DERIVED:
        newer[name] = matched(rf"\p{{{name}}}") - pcre2.matched(rf"\p{{{name}}}+")
    for name in SCRIPTS:
        newer[name] = matched(rf"\p{{{name}}}") - pcre2.matched(rf"\p{{sc:{name}}}+")
    newer = {k: v for k, v in newer.items() if v}
    word = set(CODES) - separated(pre_tokenizers.Whitespace())
    runs = lower_runs()
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write(
            "// Character classes of the `tokenizers` library, read off its release " + tokenizers.__version__
            + "; written by\n// tools/unicode/make_tokenizer_tables.py, do not edit.\n"
            "// clang-format off\n"
            '#include "text/unicode_tables.h"\n\n#include <array>\n\nnamespace hone::text::unicode {\n\n'
            "namespace {\n\n")
        out.write(array("kWord", word))
        out.write(array("kNumeric", separated(pre_tokenizers.Digits(individual_digits=True))))
        out.write(array("kPunctuation", separated(pre_tokenizers.Punctuation())))
        strip = normalizers.StripAccents()
        out.write(array("kCombiningMark", {c for c in CODES if strip.normalize_str(chr(c) + "a") == "a"}))
        out.write(array("kNormalizable", normalizable()))
        out.write(f"constexpr std::array<LowerRange, {len(runs)}> kLower = {{{{\n")
        out.write(wrapped([f"{{0x{a:X}, 0x{b:X}, {s}, {d}}}" for a, b, s, d in runs]) + "\n}};\n")
        for name, codes in newer.items():
            out.write(array("kNewer" + name, codes))
        out.write(f"constexpr std::array<NewerCodes, {len(newer)}> kNewer = {{{{\n")
        out.write(wrapped([f'{{"{name}", kNewer{name}}}' for name in newer]) + "\n}};\n")
        out.write("\n}  // namespace\n\n")
        for function, name in [("word_ranges", "kWord"), ("numeric_ranges", "kNumeric"),
                               ("punctuation_ranges", "kPunctuation"), ("combining_mark_ranges", "kCombiningMark"),
                               ("normalizable_ranges", "kNormalizable")]:
            out.write(f"std::span<const CodeRange> {function}() {{ return {name}; }}\n")
        out.write("std::span<const LowerRange> lower_ranges() { return kLower; }\n")
        out.write("std::span<const NewerCodes> newer_codes() { return kNewer; }\n")
        out.write("\n}  // namespace hone::text::unicode\n")


if __name__ == "__main__":
    main()
