#!/usr/bin/env python3
"""Writes tests/data/massive-activations: how far PyTorch's f32 gradient of a hard model is from float64.

The model is hard as real ones are: a token whose activations are 1e4 in two channels, two channels that are large
everywhere, a large vocabulary whose head has a common mean row, and a loss whose gradient has one large entry a row and
thousands of tiny ones. Its weights are no file: they are a function of their names (`weights`), which
tests/golden/gradient_golden_test.cpp has too. Needs transformers==5.23.0 and torch==2.13.0.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "massive-activations"
ROWS, LENGTH = 4, 160
CONFIG = LlamaConfig(
    vocab_size=32768,
    hidden_size=64,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    tie_word_embeddings=False,
    attn_implementation="eager",
)
MASSIVE = (5, 40)  # channels
SAMPLED_ROWS = 48  # of the embedding and of the head: every token's row is too much to keep


def hashed(name: str, n: int) -> np.ndarray:
    """n 64-bit hashes: splitmix64 from the FNV-1a hash of the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """f32 in [-1, 1), exact multiples of 2^-23."""
    top = (hashed(name, int(np.prod(shape))) >> np.uint64(40)).astype(np.float32)
    return (top * np.float32(2.0**-23) - np.float32(1)).reshape(shape)


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    u = uniform(name, shape)
    if name.endswith("norm.weight"):
        return u * np.float32(0.25) + np.float32(1)
    if name == "lm_head.weight":
        return u * np.float32(0.0625) + uniform("mean of lm_head", shape[1:]) * np.float32(0.125)
    if name == "model.embed_tokens.weight":
        u[:, list(MASSIVE)] *= np.float32(64)
        u[1, list(MASSIVE)] = np.float32(10000), np.float32(-6000)
        return u
    return u * np.float32(0.125)


def double_loss(w: dict[str, torch.Tensor], ids: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Llama in float64 throughout, with the f32 tables of the rotary embedding that Transformers uses."""
    heads, kv_heads = CONFIG.num_attention_heads, CONFIG.num_key_value_heads
    dim = CONFIG.hidden_size // heads

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG.rms_norm_eps) * weight

    def rotate(x: torch.Tensor) -> torch.Tensor:
        half = torch.cat((-x[..., dim // 2 :], x[..., : dim // 2]), -1)
        return x * cos + half * sin

    def split(x: torch.Tensor, n: int) -> torch.Tensor:
        return x.view(ROWS, LENGTH, n, dim).transpose(1, 2)

    mask = torch.full((LENGTH, LENGTH), float("-inf"), dtype=torch.float64).triu(1)
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(CONFIG.num_hidden_layers):
        p = f"model.layers.{layer}."
        y = norm(x, w[p + "input_layernorm.weight"])
        q = rotate(split(y @ w[p + "self_attn.q_proj.weight"].T, heads))
        k = rotate(split(y @ w[p + "self_attn.k_proj.weight"].T, kv_heads)).repeat_interleave(heads // kv_heads, 1)
        v = split(y @ w[p + "self_attn.v_proj.weight"].T, kv_heads).repeat_interleave(heads // kv_heads, 1)
        scores = (q @ k.transpose(-1, -2) * dim**-0.5 + mask).softmax(-1)
        out = (scores @ v).transpose(1, 2).reshape(ROWS, LENGTH, -1)
        x = x + out @ w[p + "self_attn.o_proj.weight"].T
        y = norm(x, w[p + "post_attention_layernorm.weight"])
        gated = F.silu(y @ w[p + "mlp.gate_proj.weight"].T) * (y @ w[p + "mlp.up_proj.weight"].T)
        x = x + gated @ w[p + "mlp.down_proj.weight"].T
    logits = norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T
    return F.cross_entropy(logits[:, :-1].reshape(-1, CONFIG.vocab_size), ids[:, 1:].reshape(-1))


def sample(name: str, gradient: np.ndarray, ids: np.ndarray) -> np.ndarray | None:
    """What is kept of a gradient: some rows of the two large tables, half of the projections, all of the rest."""
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        return gradient[ids[0, :SAMPLED_ROWS]]
    if "mlp." in name or "o_proj" in name:
        return gradient[:16]
    return gradient


def main() -> None:
    torch.set_num_threads(1)
    model = LlamaForCausalLM(CONFIG).eval()
    state = {k: torch.from_numpy(weights(k, tuple(v.shape))) for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    ids = (hashed("ids", ROWS * LENGTH) % np.uint64(CONFIG.vocab_size - 3)).astype(np.int64).reshape(ROWS, LENGTH) + 3
    ids[:, 0] = 1
    tokens = torch.from_numpy(ids)

    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    f32 = {k: p.grad.double().numpy() for k, p in model.named_parameters()}

    cos, sin = model.model.rotary_emb(torch.zeros(1, 1), torch.arange(LENGTH)[None])
    w = {k: v.double().requires_grad_() for k, v in state.items()}
    exact = double_loss(w, tokens, cos.double(), sin.double())
    exact.backward()
    assert abs(exact.item() - loss.item()) < 1e-4, (exact.item(), loss.item())

    out = {"ids": ids.astype(np.int32), "loss": np.array([exact.item()])}
    for name, weight in w.items():
        kept = sample(name, weight.grad.numpy(), ids)
        distance = np.linalg.norm(sample(name, f32[name], ids) - kept) / np.linalg.norm(kept)
        out["grad." + name] = np.ascontiguousarray(kept)
        out["torch." + name] = np.array([distance])
        print(f"{distance:.2e} {name}")
    OUT.mkdir(exist_ok=True)
    CONFIG.save_pretrained(OUT)
    save_file(out, OUT / "golden.safetensors")


if __name__ == "__main__":
    main()
