"""One tiny checkpoint of the model goldens, and the configuration that each family's begin with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# One row has nothing supervised, one has a label on its very first token (which the shift ignores).
DEFAULT_ROWS = (13, 29, 7, 5)


@dataclass(frozen=True)
class Case:
    """One directory under tests/data/golden."""

    name: str
    family: str
    why: str
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "bfloat16"  # how the weights are stored
    rows: tuple[int, ...] = DEFAULT_ROWS
    layout: str = "hub"  # "hub": one tensor per expert; "fused": Transformers 5's stacked tensors
    config_style: str = (
        "v5"  # "v4": num_experts, rope_theta, rope_scaling, torch_dtype as older files have them
    )
    legacy_rope_key: str = "rope_type"  # the older name is "type"
    max_shard_size: str | None = None
    quantization: str | None = None  # "fp8", "mxfp4": how the weights are stored; the figures are of their values
    stored_head: str | None = None  # with tied embeddings: store lm_head.weight too, "equal" or "different"
    equal_experts: bool = False  # experts 1 and 2 of every layer get the same logits
    mtp: bool = False  # store a layer more, of the kind that predicts further tokens: nobody computes it
    drop_config_keys: tuple[str, ...] = ()
    patch_config: dict[str, Any] = field(default_factory=dict)  # what the config class itself would not write

    @property
    def depends_on_row_length(self) -> bool:
        """Rope types whose frequencies change with the longest row seen: run on a fresh model, row by row."""
        return self.config.get("rope_parameters", {}).get("rope_type") in ("dynamic", "longrope")


DENSE = dict(
    vocab_size=96,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
MOE = DENSE | dict(moe_intermediate_size=12, num_experts=6, num_experts_per_tok=2)
WIDE = dict(hidden_size=32)  # sizes that vectors of 8 divide; most cases are kept smaller
LARGER = WIDE | dict(vocab_size=128, intermediate_size=48)
GRANITE = dict(
    embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.3, logits_scaling=1.6
)
DEEPSEEK_MOE = dict(
    moe_intermediate_size=12,
    n_routed_experts=8,
    num_experts_per_tok=3,
    n_shared_experts=2,
    first_k_dense_replace=1,
)
LATENT = dict(
    num_key_value_heads=4,
    q_lora_rank=14,
    kv_lora_rank=10,
    qk_nope_head_dim=6,
    qk_rope_head_dim=4,
    v_head_dim=7,
)
BASES: dict[str, dict[str, Any]] = {
    "llama": DENSE,
    "mistral": DENSE | dict(sliding_window=None),
    "qwen2": DENSE | dict(rms_norm_eps=1e-6),
    "qwen3": DENSE | dict(head_dim=12, rms_norm_eps=1e-6),
    "mixtral": DENSE | dict(intermediate_size=16, num_local_experts=6, num_experts_per_tok=2),
    "qwen2_moe": MOE | dict(shared_expert_intermediate_size=20),
    "qwen3_moe": MOE | dict(head_dim=12, rms_norm_eps=1e-6, norm_topk_prob=True),
    "olmoe": DENSE | dict(intermediate_size=12, num_experts=7, num_experts_per_tok=3, num_key_value_heads=4),
    "olmo2": DENSE,
    "smollm3": DENSE | dict(num_hidden_layers=4, rms_norm_eps=1e-6, pad_token_id=None),
    "olmo3": DENSE
    | dict(
        num_hidden_layers=4,
        sliding_window=6,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
        },
    ),
    "granite": DENSE | GRANITE,
    "granitemoe": DENSE | GRANITE | dict(intermediate_size=16, num_local_experts=6, num_experts_per_tok=2),
    "phi3": DENSE | WIDE | dict(pad_token_id=None),
    # Softcaps that bend what they cap: scores and logits are about 1.
    "gemma2": DENSE
    | dict(
        head_dim=12,
        sliding_window=6,
        query_pre_attn_scalar=13,
        attn_logit_softcapping=1.5,
        final_logit_softcapping=2.5,
        pad_token_id=None,
    ),
    "gemma3_text": DENSE
    | dict(
        num_hidden_layers=3,
        head_dim=12,
        sliding_window=6,
        query_pre_attn_scalar=13,
        pad_token_id=None,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 20000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        },
    ),
    "gpt_oss": DENSE
    | dict(
        head_dim=12,
        intermediate_size=20,
        num_local_experts=6,
        num_experts_per_tok=2,
        sliding_window=6,
        pad_token_id=None,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 4.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 32,
        },
    ),
    "deepseek_v2": DENSE | DEEPSEEK_MOE | LATENT,
    "deepseek_v3": DENSE | DEEPSEEK_MOE | LATENT | dict(n_group=4, topk_group=2, routed_scaling_factor=1.5),
    "glm4_moe": DENSE
    | DEEPSEEK_MOE
    | dict(
        head_dim=12,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    ),
}


def rope(rope_type: str, theta: float = 10000.0, **kwargs: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": theta} | kwargs}
