"""hone's tokens and rendered conversations beside those of tokenizers and Transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from verify.report import Hone, HoneFailed, Report

TEXTS = [
    "Hello, world!",
    " leading and trailing ",
    "",
    "\n\n\n  a\n \n\tb\r\n",
    " " * 40 + "x",
    "It's, they'RE, we'll; don't I'D",
    "1 22 333 4444 55555 1234567890.0 ٣٤٥ ²³",
    "naïve café vs. naïve café",
    "한국어, 日本語のテキスト, 中文文本，标点。",
    "👩‍👩‍👧‍👦 👍🏽 🇺🇳 ❤️",
    "Zalgo: z̸̢̛a̷̡l̴g̶o̵",
    "עברית العربية हिन्दी ไทย",
    "def f(x):\n    return x**2  # ümlaut\n",
    "https://example.org/a?b=c&d=%20",
    "ﬁ ﬀ Å \u212b ① ™ \u00a0\u2003\u200b|",
    "\x00\x01\x7f\ufffd\U0001f9ff",
    "<s></s><|im_start|>user<|im_end|><|endoftext|><|eot_id|>",
    "a" * 300,
]
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  What is 2 + 2?\n"},
        {"role": "assistant", "content": "4 <b>\"quoted\"</b> & 'more'"},
        {"role": "user", "content": "And 日本 + 👍🏽?"},
        {"role": "assistant", "content": ""},
    ],
    [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
    [{"role": "assistant", "content": "I speak first."}],
    [{"role": "narrator", "content": "Who am I?"}],
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Tells the weather, "as is" <now>.',
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def first_difference(ours: list, theirs: list, inputs: list) -> str:
    for mine, want, given in zip(ours, theirs, inputs, strict=True):
        if mine != want:
            return f"{str(given)[:40]!r}: {str(mine)[:80]!r}, not {str(want)[:80]!r}"
    return ""


def check_tokens(report: Report, hone: Hone, directory: Path, tokenizer: Tokenizer, texts: list[str]) -> None:
    """Text to ids with and without special tokens; those ids, and random ones, back to text."""
    rows = [{"text": text} for text in texts]
    encoded = []
    for special, flags in ((True, ()), (False, ("--no-special",))):
        ours = [row["input_ids"] for row in hone.rows("tokenize", directory, rows, *flags)]
        encoded = [tokenizer.encode(text, add_special_tokens=special).ids for text in texts]
        what = f"{len(texts)} texts" + ("" if special else ", no special tokens")
        report.check(what, ours == encoded, first_difference(ours, encoded, texts))
    size = tokenizer.get_vocab_size()
    ids = encoded + [[(i * 7919 + j * j * 104729) % size for j in range(12)] for i in range(100)]
    ours = [row["text"] for row in hone.rows("tokenize", directory, [{"input_ids": row} for row in ids])]
    theirs = [tokenizer.decode(row, skip_special_tokens=False) for row in ids]
    report.check(f"{len(ids)} rows decoded", ours == theirs, first_difference(ours, theirs, ids))


def check_conversation(
    report: Report, hone: Hone, directory: Path, auto, tokenizer: Tokenizer, row: dict[str, Any], prompt: bool
) -> None:
    """One conversation: the same text and ids, or a refusal on both sides."""
    flags = ("--generation-prompt",) if prompt else ()
    roles = "".join(m["role"][0] for m in row["messages"])
    what = f"chat {roles}{' with tools' if 'tools' in row else ''}{' + prompt' if prompt else ''}"
    try:
        text = auto.apply_chat_template(
            row["messages"], tools=row.get("tools"), tokenize=False, add_generation_prompt=prompt
        )
    except Exception as refusal:  # Jinja's own errors have no common root with Python's
        try:
            hone.rows("tokenize", directory, [row], *flags)
            report.check(what, False, f"hone renders what Transformers refuses: {refusal}")
        except HoneFailed as error:
            # The template's own words must reach the user, whatever else stands around them.
            good = error.status == 2 and (
                not isinstance(refusal, TemplateError) or str(refusal) in str(error)
            )
            report.check(what, good, f"refused by both: {str(error)[:120]}")
        return
    ours = hone.rows("tokenize", directory, [row], *flags)[0]
    if report.check(what, ours["text"] == text, first_difference([ours["text"]], [text], [roles])):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        report.check(f"{what}: ids", ours["input_ids"] == ids)
        if "{% generation %}" in auto.chat_template.replace("{%-", "{%").replace("-%}", "%}"):
            marked = auto.apply_chat_template(
                row["messages"], tools=row.get("tools"), return_dict=True, return_assistant_tokens_mask=True
            )
            if not prompt:
                theirs = [int(m) for m in marked["assistant_masks"]]
                report.check(f"{what}: mask", [int(x != -100) for x in ours["labels"]] == theirs)


def check_text(report: Report, hone: Hone, directory: Path, more: Path | None) -> None:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    auto = AutoTokenizer.from_pretrained(directory)
    texts = TEXTS + ([t for t in more.read_text(encoding="utf-8").split("\n") if t] if more else [])
    rebuilt = sum(auto(t)["input_ids"] != tokenizer.encode(t).ids for t in texts)
    if rebuilt:  # some classes of 5.23 rebuild tokenizer.json in part; the file itself is the truth
        report.note("AutoTokenizer other than the file", f"{rebuilt} of {len(texts)} texts")
    try:
        check_tokens(report, hone, directory, tokenizer, texts)
        if auto.chat_template:
            for messages in CONVERSATIONS:
                for prompt in (False, True):
                    row = {"messages": messages}
                    check_conversation(report, hone, directory, auto, tokenizer, row, prompt)
            if "tools" in auto.chat_template:
                row = {"messages": CONVERSATIONS[0], "tools": TOOLS}
                check_conversation(report, hone, directory, auto, tokenizer, row, True)
    except HoneFailed as error:
        report.check("hone tokenize", False, str(error))
