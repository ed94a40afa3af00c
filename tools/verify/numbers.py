"""hone's logits, losses and training steps beside Transformers' on the same checkpoint."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from oracle import (
    ADAM,
    Rejected,
    adam_steps,
    distance,
    in_checkpoint_layout,
    load,
    loss_and_gradients,
    row_logits,
    row_length_matters,
)
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from verify.directories import compare_directories
from verify.report import Hone, HoneFailed, Report, write_rows

Row = tuple[torch.Tensor, torch.Tensor]
F32_LIMIT = 1e-5  # norm of the difference of logits over their norm; the relative difference of losses
BF16_RATIO = 1.1  # hone's median distance from f32 over that of Transformers' eager bf16
LEAST_GAP = 1e-5  # a row with a router choice closer than this says nothing about either program


def read_rows(path: Path) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return [(torch.tensor(r["input_ids"]), torch.tensor(r.get("labels", r["input_ids"]))) for r in rows]


def random_rows(config: dict[str, Any], lengths: list[int], seed: int) -> list[Row]:
    """Random ids within the vocabulary and the context, all but the first quarter of each row supervised."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in lengths:
        length = min(length, config["max_position_embeddings"])
        ids = torch.randint(0, config["vocab_size"], (length,), generator=generator)
        labels = ids.clone()
        labels[: length // 4] = -100
        rows.append((ids, labels))
    return rows


def as_json(rows: list[Row]) -> list[dict[str, list[int]]]:
    return [{"input_ids": ids.tolist(), "labels": labels.tolist()} for ids, labels in rows]


def hone_logits(hone: Hone, model: Path, rows: list[Row], dtype: str) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "rows.jsonl", Path(folder) / "logits.safetensors"
        write_rows(source, as_json(rows))
        hone.run("logits", model, "--ids", source, "--out", target, "--dtype", dtype)
        return load_file(target)


def is_quantized(directory: Path) -> bool:
    return "quantization_config" in json.loads((directory / "config.json").read_text())


@contextlib.contextmanager
def plain(directory: Path) -> Iterator[Path]:
    """The checkpoint itself; for a quantised one a directory of what Transformers dequantizes it to, in f32."""
    if not is_quantized(directory):
        yield directory
        return
    config = json.loads((directory / "config.json").read_text())
    del config["quantization_config"]
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)
        model.load_state_dict(load(directory).state_dict())
        model.save_pretrained(folder)
        yield Path(folder)


def clear_rows(model, rows: list[Row]) -> tuple[list[Row], list[torch.Tensor]]:
    """The rows without a router choice that rounding could turn, and Transformers' logits of each."""
    kept, logits = [], []
    for ids, labels in rows:
        try:
            logits.append(row_logits(model, ids, LEAST_GAP))
            kept.append((ids, labels))
        except Rejected:
            continue
    return kept, logits


def check_f32(report: Report, hone: Hone, directory: Path, model, rows: list[Row]) -> None:
    kept, truth = clear_rows(model, rows)
    if len(kept) < len(rows):
        report.note("rows near a router tie left out", f"{len(rows) - len(kept)} of {len(rows)}")
    if not report.check("rows left to compare", 2 * len(kept) >= len(rows), f"{len(kept)} of {len(rows)}"):
        return
    ours = hone_logits(hone, directory, kept, "f32")
    shapes = all(ours[f"logits.{i}"].shape == t.shape for i, t in enumerate(truth))
    if not report.check("logits: shapes and f32", shapes and ours["logits.0"].dtype == torch.float32):
        return
    worst = max(distance(ours[f"logits.{i}"], t) for i, t in enumerate(truth))
    report.at_most("logits f32, worst row", worst, F32_LIMIT)
    if len(kept) > 1 and row_length_matters(model):
        report.note(
            "loss", "left out: Transformers' rope goes by the longest row of the batch, hone's by each row"
        )
    elif any((labels[1:] != -100).any() for _, labels in kept):
        loss = loss_and_gradients(model, kept, least_gap=0.0)[0]["loss"].item()
        if report.check("loss is written", "loss" in ours):
            report.at_most("loss f32", abs(ours["loss"].item() - loss) / abs(loss), F32_LIMIT)


def check_bf16(report: Report, hone: Hone, directory: Path, model, rough, long_rows: list[torch.Tensor]) -> None:
    """Both programs' bf16 against the f32 truth, by the median of the tokens' relative distances."""
    ours = hone_logits(hone, directory, [(ids, ids) for ids in long_rows], "bf16")
    mine, theirs = [], []
    for i, ids in enumerate(long_rows):
        truth = row_logits(model, ids)
        scale = truth.norm(dim=-1)
        mine.append((ours[f"logits.{i}"].float() - truth).norm(dim=-1) / scale)
        theirs.append((row_logits(rough, ids) - truth).norm(dim=-1) / scale)
    far, allowed = torch.cat(mine), torch.cat(theirs)
    if len(far) < 1000:
        report.note("bf16 median", f"only {len(far)} tokens")
    ratio = float(far.median() / allowed.median())
    figure = f"{ratio:.3f}  (at most {BF16_RATIO})  {far.median():.2e} over {allowed.median():.2e}"
    report.check(f"bf16 median of {len(far)} tokens", ratio <= BF16_RATIO, figure)


def check_loads(report: Report, directory: Path) -> None:
    _, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    wrong = [*info["missing_keys"], *map(str, info["mismatched_keys"])]
    report.check("Transformers finds every weight", not wrong, ", ".join(sorted(wrong)[:4]))
    if info["unexpected_keys"]:
        report.note("Transformers ignores", ", ".join(sorted(info["unexpected_keys"])[:4]))


def check_numbers(
    report: Report, hone: Hone, directory: Path, rows: list[Row], long_rows: list[torch.Tensor] | None
) -> None:
    """Logits and loss in f32 and, given long rows, the bf16 median."""
    check_loads(report, directory)
    with plain(directory) as values:
        model = load(values)
        rough = load(values, torch.bfloat16) if long_rows is not None else None
    try:
        check_f32(report, hone, directory, model, rows)
        if long_rows is not None:
            check_bf16(report, hone, directory, model, rough, long_rows)
    except HoneFailed as error:
        report.check("hone logits", False, str(error))


# ---- training


def recipe(model: Path, rows: Path, output: Path, count: int, seq_len: int, lr: float) -> str:
    """YAML is a superset of JSON."""
    return json.dumps(
        {
            "model": {"path": str(model), "dtype": "f32"} | ({"quantized": "keep"} if is_quantized(model) else {}),
            "data": {"train": str(rows), "seq_len": seq_len, "packing": False, "shuffle": False},
            "train": {
                "steps": ADAM["steps"] if lr > 0 else 1,
                "global_batch": count,
                "micro_batch": count,
                "optimizer": {
                    "type": "adamw",
                    "lr": lr,
                    "betas": [ADAM["beta1"], ADAM["beta2"]],
                    "eps": ADAM["eps"],
                    "weight_decay": ADAM["weight_decay"] if lr > 0 else 0.0,
                },
                "schedule": {"type": "constant", "warmup": 0},
                "clip": ADAM["clip"],
            },
            "output": str(output),
        },
        indent=1,
    )


def train(hone: Hone, directory: Path, rows: list[Row], folder: Path, seq_len: int, lr: float) -> Path:
    folder.mkdir()
    write_rows(folder / "rows.jsonl", as_json(rows))
    text = recipe(directory, folder / "rows.jsonl", folder / "out", len(rows), seq_len, lr)
    (folder / "recipe.yaml").write_text(text)
    hone.run("train", folder / "recipe.yaml")
    return folder / "out" / "model"


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    return {k: v for f in sorted(directory.glob("model*.safetensors")) for k, v in load_file(f).items()}


def check_update(report: Report, before: dict, expected: dict, made: dict) -> None:
    """The whole update's distance from torch's; for weights stored in 16 bits, after the same rounding."""
    wrong = total = 0.0
    for key, want in expected.items():
        stored = made[key].dtype
        step = want.to(stored).double() - before[key].to(stored).double()
        wrong += float((made[key].double() - want.to(stored).double()).square().sum())
        total += float(step.square().sum())
    # 16-bit storage rounds a weight the other way now and then, by one unit in the last place.
    limit = 1e-3 if all(v.dtype == torch.float32 for v in made.values()) else 3e-2
    report.at_most("weights after 3 AdamW steps", (wrong / total) ** 0.5, limit)


def check_training(report: Report, hone: Hone, directory: Path, rows: list[Row], folder: Path) -> None:
    """Learning rate 0 keeps the bytes; three steps give torch's weights; what they saved is read alike. Weights kept
    quantised are too coarse for the middle one."""
    config = json.loads((directory / "config.json").read_text())
    rows = [(ids, labels) for ids, labels in rows if (labels[1:] != -100).any()]
    longest = max(len(ids) for ids, _ in rows)
    if longest > config["max_position_embeddings"]:
        report.note(
            "training", "left out: the row is longer than max_position_embeddings, which train refuses"
        )
        return
    try:
        same = train(hone, directory, rows, folder / "still", longest, lr=0.0)
        compare_directories(report, directory, same, same_values=True)
        made = train(hone, directory, rows, folder / "moved", longest, lr=ADAM["lr"])
    except HoneFailed as error:
        report.check("hone train", False, str(error))
        return
    if is_quantized(directory):
        check_numbers(report, hone, made, rows, None)
        return
    model = load(directory)
    before = in_checkpoint_layout(model, dict(model.named_parameters()))
    expected = in_checkpoint_layout(model, adam_steps(model, rows, least_gap=0.0)[0])
    check_update(report, before, expected, weights_of(made))
    check_numbers(report, hone, made, rows, None)
