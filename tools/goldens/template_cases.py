"""Small templates, one construct each. Every line of EXPRESSIONS is rendered as {{ … }}; TEMPLATES are rendered as they are."""

from pathlib import Path

HERE = Path(__file__).parent

# What all of them see beside the globals.
VARIABLES = {
    "s": "Hello, World",
    "u": "naïve ﬁancée ΣΑΣ ß 你好 🙂",
    "blank": "",
    "padded": " \t two  words \n",
    "lines": "one\r\ntwo\n\nthree\x0bfour\u2028five",
    "n": 7,
    "m": -3,
    "zero": 0,
    "f": 2.5,
    "tiny": 1e-07,
    "big": 1e16,
    "t": True,
    "x": None,
    "xs": [3, 1, 2],
    "names": ["bob", "Alice", "carol", "alice"],
    "nested": [[1, "a"], [2, "b"]],
    "d": {"b": 1, "a": [1, 2.0, None], "C": {"k": "v"}, "items": "shadow"},
    "rows": [
        {"name": "q", "age": 3, "tags": ["x"], "in": {"deep": 1}},
        {"name": "P", "age": 1, "tags": []},
        {"name": "r", "age": 3, "in": {"deep": 2}},
    ],
    "huge": 123456789012345678901234567890,
    "special": "<a href='x'>\"q\" & é\u0001\u007f</a>\\\n",
}

EXPRESSIONS = (HERE / "template_expressions.txt").read_text(encoding="utf-8").strip("\n").split("\n")

# First one template a line, then blocks between ===== lines.
TEMPLATES = (HERE / "template_sources.txt").read_text(encoding="utf-8").strip("\n")


def templates():
    """The blocks of TEMPLATES: first one template a line, then blocks between ===== lines."""
    head, *rest = TEMPLATES.split("\n=====\n")
    lines = head.split("\n")
    cut = next(i for i, line in enumerate(lines) if line == "a")
    return lines[:cut] + ["\n".join(lines[cut:])] + rest
