#!/usr/bin/env python3
"""The start card's memory line against the truth: runs of many shapes, each in its own process.

    forecast.py --hone build/hone [--only REGEX] [--keep DIR]

Every shape is a random checkpoint (`hone init`) and ragged rows, trained for a few steps, with checkpoints and the
final save. `said` is what the start card says the run needs, `resident` the most that the process ever had resident
(the kernel's ru_maxrss). Exits 1 where they differ by more than 7 %.
Needs nothing but Python; 2.5 GiB of memory and 8 GiB of disk for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

MOST_DIFFERENCE = 0.07

DENSE = {
    "model_type": "qwen3", "vocab_size": 16384, "hidden_size": 512, "intermediate_size": 1536,
    "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False,
}  # fmt: skip
MOE = DENSE | {
    "model_type": "qwen3_moe", "num_hidden_layers": 4, "num_experts": 64, "num_experts_per_tok": 8,
    "moe_intermediate_size": 128, "norm_topk_prob": True, "output_router_logits": True,
}  # fmt: skip
SHARED = DENSE | {
    "model_type": "qwen2_moe", "num_hidden_layers": 4, "num_experts": 32, "num_experts_per_tok": 4,
    "moe_intermediate_size": 192, "shared_expert_intermediate_size": 768, "norm_topk_prob": False,
}  # fmt: skip

# name: config.json, keys of the recipe, and of the rows: how many, tokens of the shortest and longest.
SHAPES: dict[str, tuple[dict, dict, tuple[int, int, int]]] = {
    "dense, f32": (DENSE, {"steps": 8}, (300, 20, 400)),
    "dense, twice as deep, bf16": (DENSE | {"num_hidden_layers": 20}, {"dtype": "bf16"}, (300, 20, 400)),
    "accumulation, f32": (DENSE, {"global_batch": 3}, (300, 20, 400)),
    "accumulation, bf16": (DENSE, {"global_batch": 3, "dtype": "bf16"}, (300, 20, 400)),
    "vocabulary 151,936, tied, chats": (
        DENSE | {"vocab_size": 151936, "hidden_size": 256, "num_hidden_layers": 4, "tie_word_embeddings": True},
        {"seq_len": 512}, (3000, 20, 120)),
    "vocabulary 151,936, bf16": (
        DENSE | {"vocab_size": 151936, "hidden_size": 384, "num_hidden_layers": 4}, {"dtype": "bf16"}, (300, 20, 400)),
    "64 experts, f32": (MOE, {}, (300, 20, 400)),
    "64 experts, bf16, accumulation": (MOE, {"dtype": "bf16", "global_batch": 2}, (300, 20, 400)),
    "shared experts": (SHARED, {}, (300, 20, 400)),
    "8,192 tokens, 1 layer": (DENSE | {"num_hidden_layers": 1}, {"seq_len": 8192}, (60, 2000, 8000)),
    "4,096 tokens, 6 layers, recompute": (
        DENSE | {"num_hidden_layers": 6, "hidden_size": 384}, {"seq_len": 4096, "recompute": "block"}, (60, 200, 3000)),
    "4,096 tokens, 6 layers, kept": (
        DENSE | {"num_hidden_layers": 6, "hidden_size": 384}, {"seq_len": 4096}, (60, 200, 3000)),
    "rows of very different lengths, not packed": (
        DENSE | {"num_hidden_layers": 4, "hidden_size": 384},
        {"packing": False, "micro_batch": 4, "global_batch": 4, "steps": 12}, (200, 2, 1000)),
    "embeddings frozen": (DENSE, {"freeze": ["embed_tokens", "lm_head"]}, (300, 20, 400)),
    "two layers trained": (
        DENSE | {"num_hidden_layers": 16}, {"freeze": ["embed", "lm_head", r"layers\.([0-9]|1[0-3])\."]}, (300, 20, 400)),
    "head alone trained, bf16": (
        DENSE | {"vocab_size": 65536}, {"freeze": ["embed", "layers", "norm"], "dtype": "bf16"}, (300, 20, 400)),
    "experts alone trained": (MOE, {"freeze": ["embed", "lm_head", "self_attn", "norm"]}, (300, 20, 400)),
    "1 thread": (DENSE | {"num_hidden_layers": 4}, {"threads": 1}, (300, 20, 400)),
    "8 threads": (DENSE | {"num_hidden_layers": 4}, {"threads": 8}, (300, 20, 400)),
    "evaluation, best kept": (
        DENSE, {"eval": True, "eval_every": 2, "load_best": True, "checkpoint_every": 2}, (300, 20, 400)),
    "SGD": (DENSE, {"optimizer": {"type": "sgd"}}, (300, 20, 400)),
    "SGD with momentum, bf16": (DENSE, {"optimizer": {"type": "sgd", "momentum": 0.9}, "dtype": "bf16"}, (300, 20, 400)),
    "100,000 rows": (DENSE | {"num_hidden_layers": 4}, {}, (100000, 20, 120)),
}


def byte_level_tokenizer(vocabulary: int) -> dict:
    """A byte-level BPE of so many tokens: merges of random earlier ones, two special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    rng, tokens, merges = random.Random(1), {t: i for i, t in enumerate(letters)}, []
    while len(tokens) < vocabulary - 2:
        known = list(tokens)
        for _ in range(len(known)):
            a, b = rng.choice(known), rng.choice(known)
            if a + b in tokens or len(a + b) > 12 or len(tokens) == vocabulary - 2:
                continue
            tokens[a + b] = len(tokens)
            merges.append([a, b])
    special = [{"id": vocabulary - 2 + i, "content": c, "special": True, "normalized": False, "lstrip": False,
                "rstrip": False, "single_word": False} for i, c in enumerate(["<|im_start|>", "<|im_end|>"])]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": tokens, "merges": merges}  # fmt: skip
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}  # fmt: skip


CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
)


def rows(vocabulary: int, count: int, shortest: int, longest: int, chats: bool, seed: int) -> Iterator[dict]:
    """Ragged rows, few of them long, with a prompt that is not learnt from."""
    rng = random.Random(seed)
    for _ in range(count):
        length = shortest + int((longest - shortest) * rng.random() ** 2)
        if chats:
            words = " ".join("".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(length // 4))
            yield {"messages": [{"role": "user", "content": words[: len(words) // 3]},
                                {"role": "assistant", "content": words[len(words) // 3 :]}]}  # fmt: skip
            continue
        ids = rng.choices(range(vocabulary), k=length)
        prompt = rng.randint(0, length - 2)
        yield {"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}


def write_rows(path: Path, data: Iterator[dict]) -> None:
    with path.open("w") as out:
        out.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in data)


def recipe(directory: Path, wanted: dict) -> dict:
    own = dict(wanted)
    data = {"train": str(directory / "train.jsonl"), "seq_len": own.pop("seq_len", 1024), "cache": "off"}
    if own.pop("eval", False):
        data["eval"] = str(directory / "valid.jsonl")
    if "packing" in own:
        data["packing"] = own.pop("packing")
    train = {"steps": 4, "global_batch": 1, "micro_batch": 1, "optimizer": {"lr": 1e-5}}
    model = {"path": str(directory / "base"), "dtype": own.pop("dtype", "f32")}
    method = {"type": "full", "freeze": own.pop("freeze", [])}
    return {"model": model, "data": data, "method": method, "train": train | own, "output": str(directory / "run")}


def measure(hone: str, directory: Path, name: str) -> tuple[float, float]:
    """MiB said and resident."""
    config, wanted, (count, shortest, longest) = SHAPES[name]
    chats = name.endswith("chats")
    source = directory / "config"
    source.mkdir(parents=True)
    (source / "config.json").write_text(json.dumps(config))
    if chats:
        (source / "tokenizer.json").write_text(json.dumps(byte_level_tokenizer(config["vocab_size"])))
        (source / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE})
        )
    write_rows(directory / "train.jsonl", rows(config["vocab_size"], count, shortest, longest, chats, 1))
    write_rows(directory / "valid.jsonl", rows(config["vocab_size"], 64, shortest, longest, chats, 2))
    dtype = wanted.get("dtype", "f32")
    subprocess.run([hone, "init", source, directory / "base", "--seed", "1", "--dtype", dtype], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    (directory / "recipe.yaml").write_text(json.dumps(recipe(directory, wanted)))  # JSON is YAML
    with (directory / "log").open("w+") as log:
        run = subprocess.Popen([hone, "train", directory / "recipe.yaml", "--json"], stdout=subprocess.PIPE, stderr=log)
        said = run.stdout.read() if run.stdout else b""
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        if run.returncode != 0:
            log.seek(0)
            sys.exit(f"{name}: hone ended with {run.returncode}\n{log.read()}")
    return json.loads(said)["memory_forecast_mib"], usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hone", default="build/hone")
    parser.add_argument("--only", default="", help="shapes in whose names this is found")
    parser.add_argument("--keep", type=Path, help="directory for the runs, kept; default: a temporary one")
    args = parser.parse_args()
    root = args.keep or Path(tempfile.mkdtemp(prefix="hone-forecast-"))
    wrong = 0
    print(f"{'shape':44} {'said':>8} {'resident':>9}  MiB")
    try:
        for name in SHAPES:
            if not re.search(args.only, name):
                continue
            directory = root / re.sub(r"\W+", "-", name)
            said, resident = measure(args.hone, directory, name)
            difference = resident / said - 1
            is_wrong = abs(difference) > MOST_DIFFERENCE
            wrong += is_wrong
            mark = "  <-- more than 7 %" if is_wrong else ""
            print(f"{name:44} {said:8.0f} {resident:9.0f}  {difference:+6.1%}{mark}", flush=True)
            if not args.keep:
                shutil.rmtree(directory)
    finally:
        if not args.keep:
            shutil.rmtree(root, ignore_errors=True)
    if wrong:
        sys.exit(f"{wrong} shapes differ by more than {MOST_DIFFERENCE:.0%}")


if __name__ == "__main__":
    main()
