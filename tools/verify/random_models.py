"""Checkpoints with random sizes and switches of every family, beside Transformers: what no golden happens to have.

A draw is a golden's `Case` made up from a seed: sizes that fit together, a rope, and each switch of the family's
config in one of its values. `hone logits`, and one step of plain gradient descent, whose change of a weight is
its gradient.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from case import BASES, Case
from oracle import Rejected, in_checkpoint_layout, load, loss_and_gradients, make_rows, write_checkpoint

from verify.numbers import as_json, check_numbers, weights_of
from verify.report import Hone, HoneFailed, Report, write_rows

GRADIENT_LIMIT = 2e-4  # of a tensor; the weights that it is told from are rounded to 6e-8 of themselves
LEARNING_RATE = 4.0

Draw = Callable[[random.Random, dict[str, Any]], dict[str, Any]]


def sizes(r: random.Random, base: dict[str, Any]) -> dict[str, Any]:
    """Sizes that every family has."""
    kv = r.choice([1, 2, 3])
    heads = kv * r.choice([1, 2, 3, 4])
    config = dict(
        num_hidden_layers=r.choice([1, 2, 3, 4]),
        num_attention_heads=heads,
        num_key_value_heads=kv,
        hidden_size=heads * r.choice([4, 6, 10, 16]),
        intermediate_size=r.choice([8, 17, 40, 66]),
        vocab_size=r.choice([67, 96, 131, 300]),
        rms_norm_eps=r.choice([1e-6, 1e-5, 1e-2]),
        tie_word_embeddings=r.random() < 0.4,
        pad_token_id=r.choice([None, None, 5]),
    )
    if "head_dim" in base:
        config["head_dim"] = r.choice([4, 6, 12, 16, 26, 64])
    elif config["hidden_size"] // heads % 2 == 1:
        config["hidden_size"] *= 2
    return config


def rope(r: random.Random, types: tuple[str, ...], **more: Any) -> dict[str, Any]:
    kind = r.choice(types)
    chosen: dict[str, Any] = {"rope_type": kind, "rope_theta": r.choice([100.0, 10000.0, 1e6])} | more
    if kind == "linear":
        chosen["factor"] = r.choice([1.5, 4.0])
    elif kind == "llama3":
        chosen |= dict(
            factor=8.0, low_freq_factor=1.0, high_freq_factor=r.choice([2.0, 4.0]), original_max_position_embeddings=32
        )
    elif kind == "yarn":
        chosen |= dict(factor=r.choice([2.0, 4.0, 16.0]), original_max_position_embeddings=32)
        optional = dict(
            beta_fast=r.choice([8.0, 16.0]),
            beta_slow=r.choice([0.5, 2.0]),
            attention_factor=r.choice([0.9, 1.2]),
            truncate=False,
            mscale=r.choice([0.7, 1.0]),
            mscale_all_dim=r.choice([0.5, 1.0]),
        )
        chosen |= {key: value for key, value in optional.items() if r.random() < 0.4}
    return chosen


PLAIN_ROPES = ("default", "linear", "llama3", "yarn")


def one_rope(r: random.Random, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return config | {"rope_parameters": rope(r, PLAIN_ROPES, **more)}


def two_ropes(r: random.Random, config: dict[str, Any]) -> dict[str, Any]:
    return config | {
        "rope_parameters": {
            "full_attention": rope(r, PLAIN_ROPES),
            "sliding_attention": rope(r, ("default", "linear")),
        }
    }


def flag(r: random.Random) -> bool:
    return r.random() < 0.5


def windows(r: random.Random, config: dict[str, Any]) -> dict[str, Any]:
    """Layers that slide and layers that do not, in any order."""
    kinds = [r.choice(["full_attention", "sliding_attention"]) for _ in range(config["num_hidden_layers"])]
    return config | dict(layer_types=kinds, sliding_window=r.choice([2, 3, 7, 100]))


def experts(r: random.Random, name: str = "num_experts") -> dict[str, Any]:
    count = r.choice([2, 5, 8, 17])
    return {name: count, "num_experts_per_tok": r.randint(1, min(count, 5))}


def aux(r: random.Random) -> dict[str, Any]:
    return dict(output_router_logits=flag(r), router_aux_loss_coef=r.choice([0.01, 0.3]))


def own_head_dim(r):
    return dict(head_dim=r.choice([6, 16])) if r.random() < 0.7 else {}


def llama(r, c):
    return one_rope(r, c) | own_head_dim(r) | dict(attention_bias=flag(r), mlp_bias=flag(r))


def mistral(r, c):
    return one_rope(r, c) | own_head_dim(r) | dict(sliding_window=r.choice([None, 2, 9]))


def max_window_layers(r, c):
    return dict(
        use_sliding_window=flag(r),
        sliding_window=r.choice([2, 5, 40]),
        max_window_layers=r.randint(0, c["num_hidden_layers"]),
    )


def qwen2(r, c):
    return one_rope(r, c) | max_window_layers(r, c)


def qwen3(r, c):
    return qwen2(r, c) | dict(attention_bias=flag(r))


def mixtral(r, c):
    return (
        one_rope(r, c) | own_head_dim(r) | experts(r, "num_local_experts") | aux(r)
        | dict(sliding_window=r.choice([None, 3]))
    )  # fmt: skip


def sparse(r, c):
    step = r.choice([1, 1, 2])
    dense = [i for i in range(c["num_hidden_layers"]) if r.random() < 0.2]
    is_sparse = any((i + 1) % step == 0 and i not in dense for i in range(c["num_hidden_layers"]))
    return dict(
        decoder_sparse_step=step,
        mlp_only_layers=dense,
        moe_intermediate_size=r.choice([5, 12, 32]),
        norm_topk_prob=flag(r),
    ) | (aux(r) if is_sparse else {})  # Transformers cannot take the auxiliary loss of no router


def qwen2_moe(r, c):
    return (
        one_rope(r, c) | experts(r) | sparse(r, c) | max_window_layers(r, c)
        | dict(shared_expert_intermediate_size=r.choice([3, 20]), qkv_bias=flag(r))
    )  # fmt: skip


def qwen3_moe(r, c):
    return one_rope(r, c) | experts(r) | sparse(r, c) | dict(attention_bias=flag(r))


def olmoe(r, c):
    return (
        one_rope(r, c) | experts(r) | aux(r)
        | dict(clip_qkv=r.choice([None, 0.5, 3.0]), norm_topk_prob=flag(r), attention_bias=flag(r))
    )  # fmt: skip


def olmo2(r, c):
    return one_rope(r, c) | dict(attention_bias=flag(r))


def olmo3(r, c):
    return two_ropes(r, windows(r, c)) | dict(attention_bias=flag(r))


def smollm3(r, c):
    kinds = [int(flag(r)) for _ in range(c["num_hidden_layers"])]
    return one_rope(r, c) | dict(
        no_rope_layers=kinds,
        use_sliding_window=flag(r),
        sliding_window=r.choice([2, 6]),
        mlp_bias=flag(r),
    )


def phi3(r, c):
    c = c | dict(hidden_size=8 * c["num_attention_heads"])
    turned = rope(r, ("default",), partial_rotary_factor=r.choice([0.25, 0.5, 0.75, 1.0]))
    return c | dict(rope_parameters=turned, sliding_window=r.choice([None, 3]))


def multipliers(r):
    return dict(
        embedding_multiplier=r.choice([1.0, 3.0]),
        residual_multiplier=r.choice([0.3, 1.0]),
        attention_multiplier=r.choice([0.05, 0.4]),
        logits_scaling=r.choice([0.7, 2.0]),
    )


def granite(r, c):
    return one_rope(r, c) | multipliers(r) | dict(attention_bias=flag(r), mlp_bias=flag(r))


def granitemoe(r, c):
    return (
        one_rope(r, c) | multipliers(r) | experts(r, "num_local_experts") | aux(r) | dict(attention_bias=flag(r))
    )  # fmt: skip


def gemma(r, c):
    return windows(r, c) | dict(
        query_pre_attn_scalar=r.choice([7, 24]),
        attn_logit_softcapping=r.choice([None, 1.0, 50.0]),
        final_logit_softcapping=r.choice([None, 2.0, 30.0]),
        hidden_activation=r.choice(["gelu_pytorch_tanh", "gelu", "silu"]),
        attention_bias=flag(r),
    )


def gemma2(r, c):
    return one_rope(r, gemma(r, c))


def gemma3_text(r, c):
    return two_ropes(r, gemma(r, c) | dict(attn_logit_softcapping=None))


def gpt_oss(r, c):
    return (
        one_rope(r, windows(r, c)) | experts(r, "num_local_experts") | aux(r)
        | dict(
            attention_bias=flag(r), swiglu_limit=r.choice([0.5, 7.0]), swiglu_alpha=r.choice([0.8, 1.702])
        )
    )  # fmt: skip


def deepseek_experts(r, c):
    groups = r.choice([1, 2, 4])
    each = r.choice([2, 3, 6])
    chosen = r.randint(1, groups)
    return dict(
        n_routed_experts=groups * each,
        n_group=groups,
        topk_group=chosen,
        num_experts_per_tok=r.randint(1, min(chosen * each, 6)),
        n_shared_experts=r.choice([1, 2]),
        moe_intermediate_size=r.choice([5, 12]),
        first_k_dense_replace=r.randint(0, c["num_hidden_layers"]),
        routed_scaling_factor=r.choice([1.0, 2.5]),
        attention_bias=flag(r),
    )


def latent(r, c):
    return dict(
        num_key_value_heads=c["num_attention_heads"],
        q_lora_rank=r.choice([None, 5, 24]),
        kv_lora_rank=r.choice([4, 10, 32]),
        qk_nope_head_dim=r.choice([4, 6, 16]),
        qk_rope_head_dim=r.choice([2, 4, 8]),
        v_head_dim=r.choice([3, 7, 24]),
    )


def deepseek_v2(r, c):
    return (
        one_rope(r, c) | deepseek_experts(r, c) | latent(r, c)
        | dict(topk_method=r.choice(["greedy", "group_limited_greedy"]), mlp_bias=flag(r))
    )  # fmt: skip


def deepseek_v3(r, c):
    return (
        one_rope(r, c) | deepseek_experts(r, c) | latent(r, c)
        | dict(norm_topk_prob=flag(r), rope_interleave=flag(r))
    )  # fmt: skip


def glm4_moe(r, c):
    c = c | dict(head_dim=r.choice([8, 16, 24]))
    return (
        one_rope(r, c, partial_rotary_factor=r.choice([0.25, 0.5, 1.0])) | deepseek_experts(r, c)
        | dict(norm_topk_prob=flag(r), use_qk_norm=flag(r))
    )  # fmt: skip


TWO_ROPES = ("gemma3_text", "olmo3")  # which older files cannot say
DRAWS: dict[str, Draw] = {name: globals()[name] for name in BASES}


def draw(family: str, seed: int) -> Case:
    r = random.Random(f"{family} {seed}")
    base = BASES[family]
    config = DRAWS[family](r, base | sizes(r, base))
    # Older files leave out a head_dim that follows from the others, where a family has no default of its own.
    is_implied = config.get("head_dim") == config["hidden_size"] // config["num_attention_heads"]
    may_be_old = family not in TWO_ROPES and not is_implied
    return Case(
        name=f"{family} {seed}",
        family=family,
        why="",
        config={key: value for key, value in config.items() if key not in base or base[key] != value},
        dtype=r.choice(["float32", "float32", "bfloat16"]),
        rows=tuple(r.randint(1, 60) for _ in range(3)) + (r.randint(5, 60),),
        layout=r.choice(["hub", "fused"]),
        config_style=r.choice(["v5", "v4"]) if may_be_old else "v5",
        legacy_rope_key=r.choice(["rope_type", "type"]),
        max_shard_size=r.choice([None, None, "20KB"]),
    )


def check_gradient(report: Report, hone: Hone, directory: Path, rows, folder: Path) -> None:
    """One step without momentum, clipping or decay, tensor by tensor."""
    rows = [(ids, labels) for ids, labels in rows if (labels[1:] != -100).any()]
    model = load(directory)
    try:
        grads = in_checkpoint_layout(model, loss_and_gradients(model, rows, 1e-5)[1])
    except Rejected as tie:
        report.note("gradient", f"left out: {tie}")
        return
    before = weights_of(directory)
    write_rows(folder / "rows.jsonl", as_json(rows))
    recipe = {
        "model": {"path": str(directory), "dtype": "f32"},
        "data": {"train": str(folder / "rows.jsonl"), "packing": False, "shuffle": False},
        "train": {
            "steps": 1,
            "global_batch": len(rows),
            "micro_batch": len(rows),
            "optimizer": {"type": "sgd", "lr": LEARNING_RATE, "momentum": 0.0, "weight_decay": 0.0},
            "schedule": {"type": "constant", "warmup": 0},
            "clip": None,
        },
        "output": str(folder / "out"),
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    hone.run("train", folder / "recipe.yaml")
    after = weights_of(folder / "out" / "model")
    whole = float(sum(g.double().square().sum() for g in grads.values())) ** 0.5
    worst, where = 0.0, ""
    for key, grad in grads.items():
        made = (before[key].double() - after[key].double()) / LEARNING_RATE
        rounding = 1e-7 * float(before[key].double().norm()) / LEARNING_RATE
        far = float((made - grad.double()).norm()) - rounding
        # what is next to nothing beside the whole gradient is rounding itself
        far /= max(float(grad.double().norm()), 1e-4 * whole)
        if not far <= worst:
            worst, where = far, key
    report.check("gradient, worst tensor", worst <= GRADIENT_LIMIT, f"{worst:.2e}  (at most {GRADIENT_LIMIT:.0e}) {where}")


def verify_random(report: Report, hone: Hone, families: list[str], count: int, seed: int) -> None:
    for family in families:
        for number in range(seed, seed + count):
            case = draw(family, number)
            report.begin(f"{case.name}  {case.dtype} {case.layout} {case.config_style}  {case.config}")
            with tempfile.TemporaryDirectory() as folder:
                directory = Path(folder) / "model"
                try:
                    write_checkpoint(case, number, directory)
                except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
                    report.note("left out", f"Transformers cannot make it: {error}")
                    continue
                rows = make_rows(case, case.config.get("vocab_size", 96), torch.Generator().manual_seed(number))
                check_numbers(report, hone, directory, rows, None)
                if case.dtype == "float32":
                    try:
                        check_gradient(report, hone, directory, rows, Path(folder))
                    except HoneFailed as error:
                        report.check("hone train", False, str(error))
