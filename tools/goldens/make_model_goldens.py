#!/usr/bin/env python3
"""Writes tests/data/golden: tiny checkpoints of every family and what Transformers computes for them.

    make_model_goldens.py [--only NAME ...]   write the cases (all, or those whose name starts with a NAME)
    make_model_goldens.py --verify            make them again elsewhere and compare with the committed ones

Needs transformers==5.23.0 and torch==2.13.0. The tests themselves need neither.
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

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

transformers.utils.logging.disable_progress_bar()
sys.path.insert(0, str(Path(__file__).parent))
from case import Case  # noqa: E402
from cases import CASES  # noqa: E402
from oracle import ADAM, make  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "data" / "golden"


def describe(case: Case, directory: Path) -> dict:
    """The case's entry in manifest.json."""
    golden = load_file(directory / "golden.safetensors")
    return {
        "name": case.name,
        "family": case.family,
        "why": case.why,
        "stored_dtype": case.dtype,
        "layout": case.layout,
        "config_style": case.config_style,
        "tied_head_stored": case.stored_head,
        "rows": list(case.rows),
        "row_length_dependent_rope": case.depends_on_row_length,
        "aux_loss": "aux_loss" in golden,
        "generate": "generate.ids" in golden,
        "files": sorted(f.name for f in directory.iterdir()),
    }


def write_manifest(root: Path) -> None:
    made = [case for case in CASES if (root / case.name / "golden.safetensors").exists()]
    manifest = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]},
        "adamw": ADAM,
        "cases": [describe(case, root / case.name) for case in made],
    }
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def differences(made: Path, committed: Path) -> list[str]:
    """What differs between two directories of a case: weights to the bit, figures beyond rounding."""
    names = {f.name for f in made.iterdir()} ^ {f.name for f in committed.iterdir()}
    found = [f"{name} is in one of the two only" for name in sorted(names)]
    for file in sorted(made.iterdir()):
        other = committed / file.name
        if not other.exists():
            continue
        if file.name != "golden.safetensors":
            if file.read_bytes() != other.read_bytes():
                found.append(f"{file.name} differs")
            continue
        a, b = load_file(file), load_file(other)
        found += [f"{key} is in one of the two only" for key in sorted(set(a) ^ set(b))]
        for key in sorted(set(a) & set(b)):
            loose = 0.05 if key.startswith("bf16.") and key != "bf16.truth_last" else 1e-4
            x, y = a[key].double(), b[key].double()
            if x.shape != y.shape or (x - y).norm() > loose * y.norm() + 1e-7:
                found.append(f"{key} differs")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME")
    parser.add_argument("--verify", action="store_true")
    args = parser.parse_args()
    if transformers.__version__ != "5.23.0":
        sys.exit(f"transformers {transformers.__version__} is installed; the goldens are pinned to 5.23.0")
    torch.set_num_threads(1)
    chosen = [c for c in CASES if args.only is None or any(c.name.startswith(n) for n in args.only)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if args.verify else GOLDEN
        for case in chosen:
            seed = make(case, root / case.name)
            size = sum(f.stat().st_size for f in (root / case.name).iterdir())
            line = f"{case.name:28} seed {seed:9} {size / 1024:6.0f} KiB"
            if args.verify:
                found = differences(root / case.name, GOLDEN / case.name)
                bad += bool(found)
                line += "  " + ("same" if not found else "; ".join(found[:5]))
            print(line, flush=True)
    if not args.verify:
        write_manifest(GOLDEN)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
