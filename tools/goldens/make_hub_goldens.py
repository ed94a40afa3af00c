"""Writes tests/data/hub: what the safetensors library and Transformers' save_pretrained write.

    python tools/goldens/make_hub_goldens.py [OUT]

Needs torch==2.13.0, transformers==5.23.0, safetensors==0.8.0. The tests need none of them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "tests" / "data" / "hub"

TINY = dict(
    vocab_size=24,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=4,
    max_position_embeddings=32,
)
# name -> (model_type, config, save_pretrained's max_shard_size). The sizes cut inside layers, put blocks
# larger than a shard before the open one, and keep the views of one expert weight together.
SHARDED = {
    "qwen3_moe-700": ("qwen3_moe", dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=6), 700),
    "qwen3_moe-3000": (
        "qwen3_moe",
        dict(num_experts=12, num_experts_per_tok=2, moe_intermediate_size=6),
        3000,
    ),
    "mixtral-1500": ("mixtral", dict(num_local_experts=3, num_experts_per_tok=2), 1500),
    "llama-900": ("llama", dict(), 900),
    "llama-tied-2000": ("llama", dict(tie_word_embeddings=True), 2000),
}


def all_dtypes() -> None:
    """Every dtype torch can write, a scalar and empty tensors: order and header are the library's."""
    names = (
        "bool uint8 int8 int16 uint16 float16 bfloat16 int32 uint32 float32 complex64 float64 int64 uint64 "
        "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu"
    )
    tensors = {}
    for i, name in enumerate(names.split()):
        dtype = getattr(torch, name)
        size = torch.empty(0, dtype=dtype).element_size()
        raw = torch.arange(6 * size, dtype=torch.uint8) * 7 + i
        if dtype == torch.bool:
            raw = raw % 2
        tensors[f"b.{name}"] = raw.view(dtype).reshape(2, 3)
    tensors["a.scalar"] = torch.tensor(1.5)
    tensors["c.empty"] = torch.empty(0, 5, dtype=torch.bfloat16)
    tensors["d.empty"] = torch.empty(3, 0)
    tensors['quote " backslash \\ tab \t and é'] = torch.ones(3, dtype=torch.uint8)
    save_file(tensors, OUT / "all_dtypes.safetensors", metadata={"format": "pt"})
    save_file({}, OUT / "empty.safetensors")
    for path in OUT.glob("*.safetensors"):
        path.chmod(0o644)  # the library writes 0600


def expected_order() -> None:
    """Header text per file, as the tests compare whole headers."""
    headers = {}
    for path in sorted(OUT.rglob("*.safetensors")):
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        headers[str(path.relative_to(OUT))] = content[8 : 8 + length].decode()
    (OUT / "headers.json").write_text(json.dumps(headers, indent=1, ensure_ascii=False) + "\n")


def sharded(name: str) -> None:
    """A model made from its config and saved in shards: only headers and the index are kept."""
    model_type, config, max_shard_size = SHARDED[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(TINY | config)))
    parameters = {key: list(p.shape) for key, p in model.named_parameters()}
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory, max_shard_size=max_shard_size)
        target = OUT / "sharded" / name
        target.mkdir(parents=True)
        shutil.copy(Path(directory) / "model.safetensors.index.json", target)
        headers = {}
        for path in sorted(Path(directory).glob("*.safetensors")):
            content = path.read_bytes()
            headers[path.name] = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
        golden = {"max_shard_bytes": max_shard_size, "parameters": parameters, "headers": headers}
        (target / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    all_dtypes()
    expected_order()
    for name in SHARDED:
        sharded(name)


main()
