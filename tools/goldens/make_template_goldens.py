#!/usr/bin/env python3
"""Writes tests/data/templates: chat templates, their inputs, and what Transformers' own Jinja environment makes of them.

    make_template_goldens.py            write the files
    make_template_goldens.py --verify   compare with the committed ones

Needs transformers==5.23.0 (with jinja2 3.1.6), not torch. The tests need neither.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from transformers.utils import chat_template_utils  # noqa: E402
from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
import chats  # noqa: E402
import pretrained_cases  # noqa: E402
import template_cases  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "tests/data/templates"
FIELD = Path(__file__).parent / "templates"
NOW = datetime.datetime(2024, 7, 3, 9, 5, 7)


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = FixedClock


def render(source: str, **variables) -> dict:
    """The text, with spans of generation blocks in bytes; or the error's type, message and (for syntax errors) line."""
    variables = {"messages": [], "tools": None, "documents": None, "add_generation_prompt": False} | variables
    try:
        template = _compile_jinja_template(source)
        text, spans = _render_with_assistant_indices(template, **variables)
    except RecursionError:
        return {"error": "recursion depth", "type": "RecursionError"}
    except Exception as error:  # the oracle's errors are part of the golden
        out = {"error": str(error), "type": type(error).__name__}
        if getattr(error, "lineno", None):
            out["line"] = error.lineno
        return out
    out = {"text": text}
    if spans:
        out["generation"] = [[len(text[:a].encode()), len(text[:b].encode())] for a, b in spans]
    return out


def micro() -> dict:
    cases = []
    for source in [f"{{{{ {e} }}}}" for e in template_cases.EXPRESSIONS] + template_cases.templates():
        cases.append({"template": source} | render(source, **template_cases.VARIABLES))
    return {"kwargs": template_cases.VARIABLES, "now": NOW.isoformat(), "cases": cases}


def field(path: Path) -> dict:
    """One template of the field over every chat that it may meet."""
    source = path.read_text()
    cases = []
    for name, chat in chats.CHATS.items():
        for variant, extra in chats.VARIANTS.items():
            variables = chats.SPECIAL_TOKENS | chat | extra
            cases.append({"chat": name, "variant": variant} | render(source, **variables))
    return {"template": source, "cases": cases}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verify", action="store_true")
    verify = parser.parse_args().verify
    (OUT / "field").mkdir(parents=True, exist_ok=True)
    inputs = {"chats": chats.CHATS, "variants": chats.VARIANTS, "special_tokens": chats.SPECIAL_TOKENS}
    files = {"inputs.json": inputs | {"now": NOW.isoformat(), "cases": []}, "micro.json": micro()}
    files |= {"pretrained.json": pretrained_cases.pretrained()}
    files |= {f"field/{p.stem}.json": field(p) for p in sorted(FIELD.glob("*.jinja"))}
    stale = []
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        if verify:
            if not (OUT / name).exists() or (OUT / name).read_text() != text:
                stale.append(name)
        else:
            (OUT / name).write_text(text)
    if stale:
        print("differ from what Transformers makes:", ", ".join(stale))
    counts = {name: len(content["cases"]) for name, content in files.items()}
    print(f"{sum(counts.values())} cases: {counts}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
