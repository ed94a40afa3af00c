#!/usr/bin/env python3
"""Writes tests/data/weighted: the loss, and its gradient, of rows whose tokens have weights, in float64.

The checkpoints and the rows are those of tests/data/golden; the loss is sum(w * -log p) / sum(w) over the supervised tokens,
and the auxiliary loss as Transformers adds it. Needs transformers==5.23.0 and torch==2.13.0.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from oracle import load, padded  # noqa: E402

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
CASES = ("llama-default", "qwen3_moe-aux")
WEIGHTS = (0.5, 3.0, 0.0, 1.0, 0.125, 1.75, 1.0)  # of every row's tokens, again and again
SAMPLE = 64


def sample(values: torch.Tensor) -> torch.Tensor:
    """As adam.KEY.sample in tests/data/golden/README.md."""
    flat = values.reshape(-1)
    at = [j * 2654435761 % 2**64 % len(flat) for j in range(min(len(flat), SAMPLE))]
    return flat[at].clone()


def main() -> None:
    figures = {}
    for case in CASES:
        golden = load_file(DATA / "golden" / case / "golden.safetensors")
        rows = []
        while f"ids.{len(rows)}" in golden:
            rows.append((golden[f"ids.{len(rows)}"].long(), golden[f"labels.{len(rows)}"].long()))
        model = load(DATA / "golden" / case, dtype=torch.float64)
        batch = padded(rows)
        labels = batch.pop("labels")[:, 1:]
        weights = torch.zeros(batch["input_ids"].shape, dtype=torch.float64)
        for i, (ids, _) in enumerate(rows):
            own = torch.tensor([WEIGHTS[(j + i) % len(WEIGHTS)] for j in range(len(ids))])
            weights[i, : len(ids)] = own
            figures[f"{case}.weights.{i}"] = own
        out = model(**batch, use_cache=False)
        counted = weights[:, 1:] * (labels != -100)
        nll = -out.logits[:, :-1].log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        loss = (counted * nll).sum() / counted.sum()
        if getattr(out, "aux_loss", None) is not None:
            loss = loss + model.config.router_aux_loss_coef * out.aux_loss
        loss.backward()
        figures[f"{case}.loss"] = loss.detach().reshape(1)
        for name, p in model.named_parameters():
            figures[f"{case}.norm.{name}"] = p.grad.norm().reshape(1)
            figures[f"{case}.sample.{name}"] = sample(p.grad)
    (DATA / "weighted").mkdir(exist_ok=True)
    save_file(figures, DATA / "weighted" / "golden.safetensors")


if __name__ == "__main__":
    main()
