#!/usr/bin/env python3
"""What hone does on this machine's NVIDIA card, within a time: the most telling first, and on after a failure.

    gpu_check.py [--minutes 8] [--root DIR] [--out results.jsonl]

DIR is an unpacked bundle (`make gpu-bundle`) or whatever holds hone, test_cuda, test_golden, tests/data, demo and
tools/bench_hf.py. One JSON object a line goes to --out for every check and every figure; a table ends it: passed,
failed, not reached. Exit code 1 if anything failed. The benchmark needs torch and transformers; without them it is
hone's alone.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Check:
    name: str
    command: list[str]
    most_seconds: float
    environment: dict[str, str] = field(default_factory=dict)


def checks(root: Path, work: Path) -> list[Check]:
    """In the order in which they run."""
    hone, kernels, golden = (str(root / name) for name in ("hone", "test_cuda", "test_golden"))
    card = {"HONE_DEVICE": "cuda"}
    quick = "--gtest_brief=1"
    large = str(root / "bench/gpu/qwen3_moe_8b")
    result = [
        Check("doctor", [hone, "doctor", "--json"], 60),
        Check("streams", [kernels, quick, "--gtest_filter=Cuda*:-*Kernels*"], 60),
        Check("parity", [kernels, quick, "--gtest_filter=*Kernels*"], 150),
        Check("kernels apart", [kernels, quick, "--gtest_filter=-*Kernels*:Cuda*"], 60),
        Check("goldens in f32", [golden, quick, "--gtest_filter=*.LogitsMatch/*:*.LossAndEveryGradientMatch/*"], 120, card),
        Check("goldens in bf16", [golden, quick, "--gtest_filter=*.Bf16Logits*"], 60, card),
        Check("optimizer and generation", [golden, quick, "--gtest_filter=*.ThreeAdamW*:*.Greedy*"], 60, card),
        Check("demo", ["bash", str(root / "demo/run.sh"), hone], 120, card),
        Check(
            "step of 8.1 B",
            [hone, "bench", "step", large, "--device", "cuda", "--dtype", "bf16", "--batch", "1", "--seq", "4096", "--steps", "5", "--json"],
            90,
        ),
    ]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        bench = [sys.executable, str(root / "tools/bench_hf.py"), "--hone", hone, "--device", "cuda", "--dtype", "bf16", "--turns", "1"]
        result += [
            Check("8.1 B beside Transformers", [*bench, large, "--batch", "1", "--seq", "4096", "--steps", "5", "--side", "transformers", "--out", str(work / "bench.json")], 150),
            Check("115 M beside Transformers", [*bench, str(root / "bench/qwen3_moe_115m"), "--out", str(work / "bench.json")], 90),
        ]
    if sanitizer := shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer"):
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            few = "--gtest_filter=*Kernels*/rms_norm:*Kernels*/moe_plan:*Kernels*/router"
            result.append(Check(f"compute-sanitizer {tool}", [sanitizer, "--tool", tool, "--error-exitcode", "9", kernels, quick, few], 90))
    result.append(Check("kernels beside their ceilings", [hone, "bench", "kernels", "--device", "cuda", "--dtype", "bf16", "--json"], 90))
    return result


def run(check: Check, seconds: float, root: Path) -> tuple[str, float, str, str]:
    """Status, seconds, stdout, and what to show of a failure. Ends the whole process group of one that takes too long."""
    began = time.monotonic()
    environment = os.environ | {"LD_LIBRARY_PATH": f"{root / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"} | check.environment
    process = subprocess.Popen(
        check.command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=seconds)
        none = "[==========] 0 tests" in out  # a filter that finds nothing proves nothing
        status = "passed" if process.returncode == 0 and not none else "failed"
        shown = "no test is of this name" if none else "" if process.returncode == 0 else f"exit {process.returncode}: " + (err.strip() or out.strip())[-1500:]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        status, shown = "failed", f"not done within {seconds:.0f} s: " + (err.strip() or out.strip())[-1500:]
    return status, time.monotonic() - began, out, shown


def figures(out: str) -> list[dict]:
    """The JSON objects among a program's lines."""
    found = []
    for line in out.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--out", type=Path, default=Path("gpu_check.jsonl"))
    parser.add_argument("--only", default="", help="checks whose name holds this")
    args = parser.parse_args()
    root = args.root.resolve()
    ends = time.monotonic() + 60 * args.minutes
    work = root / "runs"
    work.mkdir(exist_ok=True)
    commit = (root / "COMMIT").read_text().strip() if (root / "COMMIT").exists() else ""
    about = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": commit}
    table: list[tuple[str, str, float]] = []
    with args.out.open("w") as results:
        for check in checks(root, work):
            if args.only not in check.name:
                continue
            left = ends - time.monotonic()
            if left < 10:
                table.append((check.name, "not reached", 0))
                continue
            status, seconds, out, shown = run(check, min(check.most_seconds, left), root)
            table.append((check.name, status, seconds))
            print(f"{check.name:32} {status:8} {seconds:6.1f} s  {shown}", flush=True)
            lines = [{"check": check.name, "status": status, "seconds": round(seconds, 1), "said": shown}]
            lines += [{"check": check.name, "figure": figure} for figure in figures(out)]
            if (extra := work / "bench.json").exists():
                lines.append({"check": check.name, "figure": json.loads(extra.read_text())})
                extra.unlink()
            results.writelines(json.dumps(about | line) + "\n" for line in lines)
            results.flush()
    print()
    for status in ("passed", "failed", "not reached"):
        names = [name for name, of, _ in table if of == status]
        print(f"{len(names):3} {status}" + (": " + ", ".join(names) if names else ""))
    return int(any(of == "failed" for _, of, _ in table))


if __name__ == "__main__":
    sys.exit(main())
