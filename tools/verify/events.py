"""What `hone train` writes for TensorBoard, read by the tensorboard package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from verify.report import Hone, HoneFailed, Report

TAGS = {"loss": "train/loss", "lr": "train/learning_rate", "grad_norm": "train/grad_norm", "eval_loss": "eval/loss"}


def check_events(report: Report, hone: Hone, root: Path, folder: Path) -> None:
    """Every figure of metrics.jsonl is in the event files, and TensorBoard sees it once, also after a start that lost its last steps."""
    report.begin("tensorboard")
    demo, run = root / "demo", folder / "run"
    train = [
        "train", demo / "recipe.yaml", f"model.path={folder / 'base'}", f"data.train={demo / 'data/train.jsonl'}",
        f"data.eval={demo / 'data/valid.jsonl'}", f"output={run}", "train.steps=6", "train.eval_every=2",
        "train.checkpoint_every=2", "train.keep_last=9", "train.report_to=all",
    ]
    try:
        hone.run("init", demo / "model", folder / "base", "--seed", "1")
        hone.run(*train)
        for lost in ("checkpoints/step-6", "checkpoints/step-4", "model"):  # as if it had been killed after step 3
            shutil.rmtree(run / lost, ignore_errors=True)
        hone.run(*train)
    except HoneFailed as error:
        report.check("hone train", False, str(error))
        return
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for key, tag in TAGS.items():
        wanted = [(row["step"], row[key]) for row in rows if key in row]
        got = [(e.step, e.value) for e in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []
        same = [s for s, _ in got] == [s for s, _ in wanted] and all(
            abs(a - b) <= 1e-6 * abs(b) for (_, a), (_, b) in zip(got, wanted)
        )
        report.check(tag, bool(wanted) and same, f"{len(got)} of {len(wanted)} values")
    texts = events.Tensors("eval/samples") if "eval/samples" in events.Tags()["tensors"] else []
    steps = [row["step"] for row in rows if "eval_loss" in row]
    # TensorBoard drops the scalars that a restart made again, and keeps texts (its accumulated_attrs): the last counts.
    last = {e.step: e.tensor_proto.string_val[0].decode() for e in texts}
    written = all("reference: " in text for text in last.values())
    report.check("eval/samples", sorted(last) == steps and written, f"{len(texts)} texts of {len(steps)} steps")
