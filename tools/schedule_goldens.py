"""Writes tests/data/schedules.json: learning-rate factors as transformers.get_scheduler gives them (transformers 5.23)."""

import itertools
import json
import pathlib

import torch
import transformers

NAMES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine", "wsd": "warmup_stable_decay"}


def factors(kind, warmup, ratio, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name, specific = NAMES[kind], {}
    if kind == "cosine" and ratio:
        name, specific = "cosine_with_min_lr", {"min_lr_rate": ratio}
    if kind == "wsd":
        specific = {"num_decay_steps": round(steps * 0.1), "min_lr_ratio": ratio}
    scheduler = transformers.get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=specific)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def main():
    cases = []
    for kind, warmup, ratio, steps in itertools.product(NAMES, (0, 1, 7, 29, 30, 100), (0, 0.1), (1, 30)):
        if ratio and kind in ("constant", "linear"):  # Transformers has no floor for these
            continue
        cases.append({"type": kind, "warmup": warmup, "min_lr_ratio": ratio, "factors": factors(kind, warmup, ratio, steps)})
    path = pathlib.Path(__file__).parents[1] / "tests/data/schedules.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
