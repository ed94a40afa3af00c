#!/usr/bin/env python3
"""What hone does on this machine's NVIDIA card, within a time: the most telling first, and on after a failure.

    gpu_check.py [--minutes 8] [--root DIR] [--out results.jsonl]

DIR is an unpacked bundle (`make gpu-bundle`) or whatever holds hone, test_cuda, test_golden, tests/data, demo and
tools/bench_hf.py. One JSON object a line goes to --out for every check and every figure; a table ends it: passed,
failed, not reached. Exit code 1 if anything failed; a program that is not there fails its check alone. A step that
fails runs once more without each of what could be to blame (early launches, graphs, wgmma, cuDNN), and the table says
without which it passes; steps of a small model have to end at the same loss without early launches and graphs. The
benchmark needs torch and transformers; without them it is hone's alone. hone's dense products are cuBLASLt's where
there is one: that of torch's wheels is used, or what HONE_CUDA_LIBRARIES names.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import re
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
    filter: str = ""  # of a test program: which of its tests
    card_gib: float = 0  # what the card must have
    suspects: list[Suspect] = field(default_factory=list)  # what it may fail by
    same_without: list[Suspect] = field(default_factory=list)  # its loss is the same, to the last bit, without each of these


@dataclass
class Suspect:
    """Something that hone can do without."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)


def checks(root: Path, work: Path) -> list[Check]:
    """In the order in which they run."""
    hone, kernels, golden = (str(root / name) for name in ("hone", "test_cuda", "test_golden"))
    card = {"HONE_DEVICE": "cuda"}
    told = {"HONE_CUDA_SYNC": "1"}  # an error is told at the kernel that made it
    large = str(root / "bench/gpu/qwen3_moe_8b")

    def rows(count):  # a step of so many, of 4,096 tokens each
        return [hone, "bench", "step", large, "--device", "cuda", "--dtype", "bf16", "--batch", str(count), "--seq", "4096", "--json"]

    step = rows(1)
    lean = ["--state", "8bit", "--master", "bf16", "--as-ready"]
    early, graphs = Suspect("early launches", {"HONE_CUDA_PDL": "0"}), Suspect("graphs", arguments=["--no-graph"])
    suspects = [
        Suspect("all of them", {"HONE_CUDA_PDL": "0", "HONE_CUDA_PATHS": "portable", "HONE_CUDNN": "0"}, ["--no-graph"]),
        early,
        Suspect("wgmma and TMA", {"HONE_CUDA_PATHS": "portable"}),
        graphs,
        Suspect("cuDNN", {"HONE_CUDNN": "0"}),
    ]
    small = [hone, "bench", "step", str(root / "bench/qwen3_moe_115m"), "--device", "cuda", "--dtype", "bf16", "--steps", "8", "--as-ready", "--json"]
    result = [
        Check("doctor", [hone, "doctor", "--json"], 60),
        Check("streams", [kernels], 60, told, "*CudaStreams*:CudaPool*:CudaDevice*"),
        Check("parity", [kernels], 150, told, "*CudaKernels*:CudaProducts*"),
        # as it fits a card of 80 GiB; steps as they are, then slot by slot
        Check("step of 8.1 B", [*step, *lean, "--steps", "5", "--profile"], 120, suspects=suspects),
        Check("the same bits in turn", small, 60, same_without=[early, graphs]),
        Check("goldens in f32", [golden], 120, card, "*.LogitsMatch/*:*.LossAndEveryGradientMatch/*"),
    ]
    last = [
        Check("goldens in bf16", [golden], 60, card, "*.Bf16Logits*"),
        Check("optimizer and generation", [golden], 60, card, "*.ThreeAdamW*:*.Greedy*"),
        Check("kernels apart", [kernels], 60, told, "-*CudaKernels*:CudaProducts*:*CudaStreams*:CudaPool*:CudaDevice*"),
        Check("step of 8.1 B, weight gradients beside", [*step, *lean, "--weight-gradients", "beside", "--steps", "5"], 60),
        Check("demo", ["bash", str(root / "demo/run.sh"), hone], 120, card),
        # FP8 costs with few tokens and gains with many, by the model from 16,384 on
        Check("step of 8.1 B, 16,384 tokens", [*rows(4), *lean, "--steps", "4"], 60),
        Check("step of 8.1 B, 16,384 tokens in fp8", [*rows(4), *lean, "--fp8", "--steps", "4"], 60),
        # 128 GiB by the forecast: moments and masters in f32, all gradients at once
        Check("step of 8.1 B, states in f32", [*step, "--steps", "5", "--profile"], 120, card_gib=132),
    ]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        bench = [sys.executable, str(root / "tools/bench_hf.py"), "--hone", hone, "--device", "cuda", "--dtype", "bf16", "--turns", "1"]
        result += [
            Check("8.1 B beside Transformers", [*bench, large, "--batch", "1", "--seq", "4096", "--steps", "5", "--side", "transformers", "--out", str(work / "bench.json")], 150),
            *last,
            Check("115 M beside Transformers", [*bench, str(root / "bench/qwen3_moe_115m"), "--out", str(work / "bench.json")], 90),
        ]
    else:
        result += last
    if sanitizer := shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer"):
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            few = "*CudaKernels*/rms_norm:*CudaKernels*/moe_plan:*CudaKernels*/router"
            result.append(Check(f"compute-sanitizer {tool}", [sanitizer, "--tool", tool, "--error-exitcode", "9", kernels], 90, filter=few))
    result.append(Check("kernels beside their ceilings", [hone, "bench", "kernels", "--device", "cuda", "--dtype", "bf16", "--json"], 90))
    return result


def library_folders() -> str:
    """Where hone finds cuBLASLt (HONE_CUDA_LIBRARIES): what the caller says, else the folders that hold NVIDIA's wheels."""
    if given := os.environ.get("HONE_CUDA_LIBRARIES"):
        return given
    wheels = importlib.util.find_spec("nvidia")
    return ":".join(str(Path(folder).parent) for folder in wheels.submodule_search_locations) if wheels else ""


def shortened(text: str, most: int) -> str:
    """Its beginning, where the first failure is, and its end."""
    text = text.strip()
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[-most // 2 :]}"


def ended(command: list[str], seconds: float, root: Path, environment: dict[str, str]) -> tuple[str, str, str]:
    """How a program ended ("": well), its stdout and stderr. Ends the whole process group of one that takes too long."""
    libraries = {"HONE_CUDA_LIBRARIES": folders} if (folders := library_folders()) else {}
    try:
        process = subprocess.Popen(
            command, cwd=root, env=os.environ | libraries | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )
    except OSError as error:
        return f"not started ({error})", "", ""
    try:
        out, err = process.communicate(timeout=seconds)
        return f"exit {process.returncode}" if process.returncode else "", out, err
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # a process that waits in the driver is not ended so
            out = err = ""
        return f"not done within {seconds:.0f} s", out, err


def run_tests(check: Check, seconds: float, root: Path) -> tuple[str, str, str]:
    """As `ended`. A card that has caught something does no more in that process: what the first failure may have taken with it runs again
    without that test, as long as there is time."""
    ends = time.monotonic() + seconds
    left_out: list[str] = []
    faults, outs, errors = [], [], []
    while len(left_out) < 8 and (seconds := ends - time.monotonic()) > 5:
        minus = ":" if "-" in check.filter else "-"
        chosen = check.filter + (minus + ":".join(left_out) if left_out else "")
        fault, out, err = ended([*check.command, f"--gtest_filter={chosen}"], seconds, root, check.environment)
        if "[==========] 0 tests" in out:  # a filter that finds nothing proves nothing
            fault = "no test is of this name"
        outs.append("\n".join(line for line in out.splitlines() if not re.match(r"\[( RUN |       OK|-----|=====)|Note: ", line)))
        errors.append(err)
        failed = re.findall(r"^\[  FAILED  \] ([\w/]+\.[\w/]+)", out, re.MULTILINE)
        if fault and not failed:  # it died or hung in the test that it began last
            failed = re.findall(r"^\[ RUN      \] ([\w/]+\.[\w/]+)", out, re.MULTILINE)[-1:]
        if fault:
            faults.append(fault + (f" ({failed[0]})" if failed else ""))
        if not fault or not failed or not (fault.startswith("not done") or "cudaError" in out + err or "exit -" in fault):
            break
        left_out.append(failed[0])
    return "; ".join(faults), "\n".join(outs), "\n".join(errors)


def run(check: Check, seconds: float, root: Path) -> tuple[str, float, str, str]:
    """Status, seconds, stdout, and what to show of a failure."""
    began = time.monotonic()
    fault, out, err = run_tests(check, seconds, root) if check.filter else ended(check.command, seconds, root, check.environment)
    shown = f"{fault}: {shortened(out, 1500)}\n{shortened(err, 1500)}".strip() if fault else ""
    if check.name == "doctor" and not fault:
        cards = cards_of(out)
        if not cards or "why_not" in cards[0]:
            fault = shown = str(cards[0]["why_not"] if cards else "no card")
        elif not (products := str(cards[0].get("dense_products"))).startswith("cuBLASLt"):
            shown = "dense products by hone's own tiles alone: " + products
    for suspect in check.same_without if not fault else []:
        left = seconds - (time.monotonic() - began)
        other_fault, other, err = ended([*check.command, *suspect.arguments], left, root, check.environment | suspect.environment)
        if other_fault or losses(other) != losses(out):
            fault = shown = f"without {suspect.name}: {other_fault or f'the loss is {losses(other)}, and with them {losses(out)}'} {shortened(err, 500)}".strip()
            break
    return "failed" if fault else "passed", time.monotonic() - began, out, shown


def losses(out: str) -> list[float]:
    return [figure["loss"] for figure in figures(out) if "loss" in figure]


def find_suspects(check: Check, ends: float, root: Path) -> str:
    """Without which of its suspects a failed check passes, as far as there is time."""
    mended, asked = [], 0
    for suspect in check.suspects:
        if (left := ends - time.monotonic()) < 10:
            break
        asked += 1
        command = [argument for argument in check.command if argument != "--profile"] + suspect.arguments
        fault, _, _ = ended(command, min(check.most_seconds, left), root, check.environment | suspect.environment)
        if not fault:
            mended.append(suspect.name)
    if asked == 0:
        return ""
    return f"passes without {', or without '.join(mended)}" if mended else f"fails without {asked} of {len(check.suspects)} suspects, too"


def cards_of(out: str) -> list[dict]:
    """What `hone doctor --json` says of the cards."""
    said = [figure["gpu"] for figure in figures(out) if isinstance(figure.get("gpu"), dict)]
    return [card for gpu in said[:1] for card in gpu.get("cards", [])]


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
    memory_gib = 0.0  # of the card; 0: not known
    with args.out.open("w") as results:
        for check in checks(root, work):
            if args.only not in check.name:
                continue
            if 0 < memory_gib < check.card_gib:
                continue
            left = ends - time.monotonic()
            if left < 10:
                table.append((check.name, "not reached", 0))
                continue
            try:
                status, seconds, out, shown = run(check, min(check.most_seconds, left), root)
                # a quarter of the time at most, so that the others have theirs
                if status == "failed" and (blame := find_suspects(check, min(ends, time.monotonic() + 15 * args.minutes), root)):
                    shown += f"\n{blame}"
            except Exception as error:  # whatever it is: the others run
                status, seconds, out, shown = "failed", 0.0, "", f"{type(error).__name__}: {error}"
            table.append((check.name, status, seconds))
            print(f"{check.name:32} {status:8} {seconds:6.1f} s  {shown}", flush=True)
            lines = [{"check": check.name, "status": status, "seconds": round(seconds, 1), "said": shown}]
            lines += [{"check": check.name, "figure": figure} for figure in figures(out)]
            if check.name == "doctor":
                memory_gib = max((card.get("memory_gib", 0) for card in cards_of(out)[:1]), default=0)
            if (extra := work / "bench.json").exists():
                lines += [{"check": check.name, "figure": figure} for figure in figures(extra.read_text().replace("\n", " "))]
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
