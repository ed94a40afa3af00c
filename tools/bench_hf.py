#!/usr/bin/env python3
"""hone and Transformers side by side: full training steps of models, in turns, each in its own process.

    bench_hf.py --hone build/hone [MODEL …] [--turns 3] [--steps 8] [--out result.json] [--check]

MODEL is a directory with a config.json; by default all of bench/. Transformers runs at its best on the CPU:
grouped_mm experts, sdpa attention (eager for attention sinks, which sdpa does not take), fused AdamW, gradients
clipped to norm 1, all weights in the compute dtype. Memory is measured alike on both sides: the peak of the resident
set (on a card: of what is allocated) during the steps less what it was when the weights existed in the compute dtype. `--check` exits 1 if a
ratio misses its target.
Needs transformers==5.23.0 and torch==2.13.0.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("f32", "bf16")
# hone's least speed and greatest memory as multiples of Transformers', by model.
TARGETS = {"qwen3_moe_115m": {"f32": {"speed": 2.7, "memory": 0.70}, "bf16": {"speed": 3.3, "memory": 0.75}}}
EVERYWHERE = {"speed": 1.0, "memory": 1.0}


def status_mib(field: str) -> float:
    """A line of /proc/self/status (VmRSS, VmHWM), in MiB."""
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def transformers_steps(args: argparse.Namespace) -> dict[str, float]:
    """The worker: `steps` full steps of Transformers in this process; medians over all but the first two."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(args.model)
    is_moe = any(getattr(config, key, None) for key in ("num_local_experts", "num_experts", "n_routed_experts"))
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    on_card = args.device != "cpu"
    with torch.device(args.device):  # weights are drawn there: 8 billion by a host's threads take minutes
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            attn_implementation="eager" if config.model_type == "gpt_oss" else "sdpa",
            experts_implementation="grouped_mm" if is_moe else None,
        ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    ids = torch.randint(0, config.vocab_size, (args.batch, args.seq), device=args.device)

    def now() -> float:
        if on_card:
            torch.cuda.synchronize()
        return time.perf_counter()

    gc.collect()
    if on_card:
        weights_mib = torch.cuda.memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL(None).malloc_trim(0)
        weights_mib = status_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    times = []
    for _ in range(args.steps + 2):
        t0 = now()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        t1 = now()
        loss.backward()
        t2 = now()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        t3 = now()
        times.append((t1 - t0, t2 - t1, t3 - t2, t3 - t0))
    peak_mib = torch.cuda.max_memory_allocated() / 2**20 if on_card else status_mib("VmHWM")
    fwd, bwd, opt, step = (1000 * statistics.median(column) for column in zip(*times[2:], strict=True))
    return {
        "fwd_ms": fwd,
        "bwd_ms": bwd,
        "opt_ms": opt,
        "step_ms": step,
        "tok_s": args.batch * args.seq / step * 1000,
        "peak_above_weights_mib": peak_mib - weights_mib,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": float(loss.detach()),
    }


def last_json_line(command: list[str], threads: int) -> dict[str, float]:
    """Runs a command and reads the JSON object on the last line of its stdout."""
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nexited {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_one(side: str, model: Path, dtype: str, args: argparse.Namespace) -> dict[str, float]:
    shape = ["--batch", str(args.batch), "--seq", str(args.seq), "--dtype", dtype]
    shape += ["--steps", str(args.steps), "--threads", str(args.threads), "--device", args.device]
    load = os.getloadavg()[0]
    if side == "hone":
        figures = last_json_line(
            [str(args.hone), "bench", "step", str(model), *shape, "--json"], args.threads
        )
    else:
        worker = [sys.executable, __file__, "--worker", str(model), *shape]
        figures = last_json_line(worker, args.threads)
    print(
        f"  {side:13} {dtype:5} {figures['tok_s']:8.0f} tok/s   {figures['step_ms']:7.0f} ms"
        f" ({figures['fwd_ms']:.0f} + {figures['bwd_ms']:.0f} + {figures['opt_ms']:.0f})"
        f"   {figures['peak_above_weights_mib']:6.0f} MiB above the weights   load before {load:.1f}",
        flush=True,
    )
    return figures | {"load_before": load}


def summary(runs: dict[str, dict[str, list[dict]]]) -> dict:
    """Medians over the turns for each dtype and side, and their ratios where both sides ran."""
    result: dict = {}
    for dtype, sides in runs.items():
        result[dtype] = {
            side: {key: statistics.median(turn[key] for turn in turns) for key in turns[0] if isinstance(turns[0][key], int | float)}
            for side, turns in sides.items()
            if turns
        }
        if "hone" in result[dtype] and "transformers" in result[dtype]:
            ours, theirs = result[dtype]["hone"], result[dtype]["transformers"]
            memory = ours["peak_above_weights_mib"] / theirs["peak_above_weights_mib"]
            result[dtype]["ratio"] = {"speed": ours["tok_s"] / theirs["tok_s"], "memory": memory}
    return result


def print_summary(model: Path, result: dict) -> bool:
    """The table of medians of one model; true if every target is met."""
    met = True
    print(
        f"\n{model.name}"
        "\nmedians       tok/s: hone  Transformers   ratio (least)    MiB: hone  Transformers   ratio (most)"
    )
    for dtype in result:
        if "ratio" not in result[dtype]:
            for side, figures in result[dtype].items():
                mib = figures["peak_above_weights_mib"]
                print(f"{dtype:5} {side}: {figures['tok_s']:.0f} tok/s, {mib:.0f} MiB")
            continue
        ours, theirs, ratio = (result[dtype][key] for key in ("hone", "transformers", "ratio"))
        target = TARGETS.get(model.name, {}).get(dtype, EVERYWHERE)
        good = ratio["speed"] >= target["speed"] and ratio["memory"] <= target["memory"]
        met &= good
        print(
            f"{dtype:13} {ours['tok_s']:11.0f}  {theirs['tok_s']:12.0f}"
            f"   {ratio['speed']:5.2f} ({target['speed']:.2f})"
            f"    {ours['peak_above_weights_mib']:9.0f}  {theirs['peak_above_weights_mib']:12.0f}"
            f"   {ratio['memory']:5.2f} ({target['memory']:.2f})   {'met' if good else 'MISSED'}"
        )
        if "fraction_of_peak" in ours:
            print(
                f"{'':13} hone runs at {100 * ours['fraction_of_peak']:.0f} % of the"
                f" {ours['gemm_peak_gflops']:.0f} GFLOP/s measured here"
            )
    return met


def processor() -> str:
    match = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.processor()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hone", type=Path, default=ROOT / "build" / "hone")
    parser.add_argument("models", metavar="MODEL", type=Path, nargs="*")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, help="one dtype only")
    parser.add_argument("--side", choices=("hone", "transformers"), help="one side only")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        [args.model] = args.models
        print(json.dumps(transformers_steps(args)))
        return 0

    models = args.models or sorted(path.parent for path in (ROOT / "bench").glob("*/config.json"))
    sides = [args.side] if args.side else ["hone", "transformers"]
    if "hone" in sides and not args.hone.exists():
        sys.exit(f"{args.hone}: no such program; run `make` or name it with --hone")
    dtypes = [args.dtype] if args.dtype else DTYPES
    record = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "shape": {key: getattr(args, key) for key in ("batch", "seq", "steps", "threads", "turns")},
        "models": {},
    }
    met = True
    for model in models:
        runs: dict = {dtype: {side: [] for side in sides} for dtype in dtypes}
        for turn in range(args.turns):
            print(f"{model.name}: turn {turn + 1} of {args.turns}", flush=True)
            for dtype in runs:
                for side in sides if turn % 2 == 0 else reversed(sides):
                    runs[dtype][side].append(run_one(side, model, dtype, args))
        result = summary(runs)
        met &= print_summary(model, result)
        record["models"][model.name] = {"medians": result, "runs": runs}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if met or not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
