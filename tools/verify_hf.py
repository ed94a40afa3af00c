#!/usr/bin/env python3
"""Asks Transformers whether hone is right: logits, loss, tokens, chat templates, training steps, round trips.

    verify_hf.py --hone build/hone --goldens [NAME ...]        all golden checkpoints, or those called NAME...
    verify_hf.py --hone build/hone --random N [--seed S]       N checkpoints of each family with random configs
    verify_hf.py --hone build/hone --model DIR [--source DIR]  what hone trained, and what it was trained from

For a golden checkpoint: logits and loss in f32, the bf16 median over 1,024 tokens, a run with learning rate 0
that must give the same bytes back, three AdamW steps beside torch's, logits of what those steps saved. And the
event files of a run of the demo, read by the tensorboard package.
For random checkpoints: logits and loss in f32, and the gradient of every tensor.
For a directory: logits, loss, bf16 median on random rows (or on `--rows rows.jsonl`), its tokenizer and its
chat template; with `--source`, that keys, dtypes, shapes, shards and all other files are the source's.
Needs transformers==5.23.0, torch==2.13.0 and tensorboard. Exits 1 if anything fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers  # noqa: E402

transformers.utils.logging.disable_progress_bar()
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools" / "goldens"), str(ROOT / "tools")]
from case import BASES  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from verify.directories import compare_directories  # noqa: E402
from verify.events import check_events  # noqa: E402
from verify.numbers import check_numbers, check_training, random_rows, read_rows  # noqa: E402
from verify.random_models import verify_random  # noqa: E402
from verify.report import Hone, Report  # noqa: E402
from verify.text import check_text  # noqa: E402

GOLDEN = ROOT / "tests" / "data" / "golden"


def golden_rows(directory: Path) -> tuple[list, list]:
    """The rows of golden.safetensors with their labels, and its long rows for bf16."""
    golden = load_file(directory / "golden.safetensors")
    count = sum(key.startswith("ids.") for key in golden)
    rows = [(golden[f"ids.{i}"].long(), golden[f"labels.{i}"].long()) for i in range(count)]
    return rows, list(golden["bf16.ids"].long())


def verify_goldens(report: Report, hone: Hone, names: list[str], train: bool) -> None:
    cases = json.loads((GOLDEN / "manifest.json").read_text())["cases"]
    chosen = [c for c in cases if not names or any(c["name"].startswith(n) for n in names)]
    if not chosen:
        sys.exit(f"no golden begins with {' or '.join(names)}")
    for case in chosen:
        directory = GOLDEN / case["name"]
        report.begin(case["name"])
        rows, long_rows = golden_rows(directory)
        check_numbers(report, hone, directory, rows, long_rows)
        if train:
            with tempfile.TemporaryDirectory() as folder:
                check_training(report, hone, directory, rows, Path(folder))


def verify_directory(report: Report, hone: Hone, args: argparse.Namespace) -> None:
    report.begin(str(args.model))
    config = json.loads((args.model / "config.json").read_text())
    rows = read_rows(args.rows) if args.rows else random_rows(config, [37, 64, 5, 128], seed=1)
    long_rows = [ids for ids, _ in random_rows(config, [64] * 17, seed=2)]
    check_numbers(report, hone, args.model, rows, long_rows)
    if (args.model / "tokenizer.json").exists():
        check_text(report, hone, args.model, args.texts)
    if args.source:
        compare_directories(report, args.source, args.model, same_values=args.same_values)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hone", type=Path, default=ROOT / "build" / "hone")
    parser.add_argument("--goldens", nargs="*", metavar="NAME")
    parser.add_argument("--random", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="random: the first of N seeds")
    parser.add_argument("--no-train", action="store_true", help="goldens: leave out what needs `hone train`")
    parser.add_argument("--model", type=Path, metavar="DIR")
    parser.add_argument("--source", type=Path, metavar="DIR", help="what the model was trained from")
    parser.add_argument("--same-values", action="store_true", help="weights must equal the source's, too")
    parser.add_argument("--rows", type=Path, help="JSONL rows of input_ids and labels")
    parser.add_argument("--texts", type=Path, help="more strings to tokenize, one per line")
    args = parser.parse_args()
    if transformers.__version__ != "5.23.0":
        sys.exit(f"transformers {transformers.__version__} is installed; the comparison is pinned to 5.23.0")
    if not args.hone.exists():
        sys.exit(f"{args.hone}: no such program; run `make` or name it with --hone")
    if args.goldens is None and args.model is None and args.random is None:
        parser.error("name --goldens, --random or --model")
    report, hone = Report(), Hone(args.hone)
    if args.goldens is not None:
        verify_goldens(report, hone, args.goldens, train=not args.no_train)
        if not args.no_train:
            with tempfile.TemporaryDirectory() as folder:
                check_events(report, hone, ROOT, Path(folder))
    if args.random is not None:
        verify_random(report, hone, list(BASES), args.random, args.seed)
    if args.model is not None:
        verify_directory(report, hone, args)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
