"""The table of model goldens: which tiny checkpoints exist, and what each of them is there to catch."""

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


LLAMA = [
    Case("llama-default", "llama", "grouped-query attention, f32 storage", LARGER, dtype="float32"),
    Case(
        "llama-rope-llama3",
        "llama",
        "llama3 rope with all three bands, config as Transformers 4 wrote it",
        rope(
            "llama3",
            500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        )
        | dict(head_dim=16),
        config_style="v4",
    ),
    Case(
        "llama-rope-linear",
        "llama",
        "linear rope; rope_scaling spelled with the old key `type`",
        rope("linear", factor=2.5),
        config_style="v4",
        legacy_rope_key="type",
    ),
    Case(
        "llama-rope-dynamic",
        "llama",
        "dynamic NTK rope on one row longer than max_position_embeddings",
        rope("dynamic", factor=2.0) | dict(max_position_embeddings=16),
        rows=(29,),
    ),
    Case(
        "llama-rope-dynamic-short",
        "llama",
        "dynamic NTK rope on one row within max_position_embeddings",
        rope("dynamic", factor=2.0) | dict(max_position_embeddings=64),
        rows=(29,),
    ),
    Case(
        "llama-rope-yarn",
        "llama",
        "yarn rope with the default betas and the implied attention factor",
        rope("yarn", factor=4.0, original_max_position_embeddings=32) | dict(head_dim=16),
    ),
    Case(
        "llama-rope-yarn-mscale",
        "llama",
        "yarn rope with mscale, mscale_all_dim, own betas, no truncation",
        rope(
            "yarn",
            1000.0,
            factor=8.0,
            original_max_position_embeddings=16,
            beta_fast=8.0,
            beta_slow=0.5,
            mscale=0.7,
            mscale_all_dim=1.0,
            truncate=False,
        )
        | dict(head_dim=16),
    ),
    Case(
        "llama-rope-yarn-factor",
        "llama",
        "yarn rope with an explicit attention_factor",
        rope("yarn", factor=4.0, original_max_position_embeddings=32, attention_factor=1.3)
        | dict(head_dim=16),
    ),
    Case(
        "llama-rope-longrope-long",
        "llama",
        "longrope on one row longer than original_max_position_embeddings",
        rope(
            "longrope",
            factor=8.0,
            original_max_position_embeddings=16,
            short_factor=[1.0, 1.1, 1.25],
            long_factor=[1.0, 2.5, 8.0],
        ),
        rows=(29,),
    ),
    Case(
        "llama-rope-longrope-short",
        "llama",
        "longrope on one row within original_max_position_embeddings",
        rope(
            "longrope",
            factor=2.0,
            original_max_position_embeddings=64,
            short_factor=[1.0, 1.1, 1.25],
            long_factor=[1.0, 2.5, 8.0],
        ),
        rows=(29,),
    ),
    Case(
        "llama-bias",
        "llama",
        "attention_bias (q, k, v, o) and mlp_bias",
        dict(attention_bias=True, mlp_bias=True),
    ),
    Case("llama-tied", "llama", "tied embeddings, lm_head absent", dict(tie_word_embeddings=True)),
    Case(
        "llama-tied-stored-equal",
        "llama",
        "tied embeddings although an equal lm_head.weight is stored",
        dict(tie_word_embeddings=True),
        stored_head="equal",
    ),
    Case(
        "llama-tied-stored-different",
        "llama",
        "tie_word_embeddings is true but a different lm_head.weight is stored: it stays untied",
        dict(tie_word_embeddings=True),
        stored_head="different",
    ),
    Case(
        "llama-headdim",
        "llama",
        "head_dim other than hidden_size / heads, multi-head attention",
        dict(head_dim=20, num_key_value_heads=4),
    ),
    Case(
        "llama-odd",
        "llama",
        "sizes that no vector width divides; multi-query attention; f32",
        dict(hidden_size=40, intermediate_size=58, vocab_size=131, num_key_value_heads=1, head_dim=10),
        dtype="float32",
    ),
    Case("llama-f16", "llama", "float16 storage", dtype="float16"),
    Case(
        "llama-pad",
        "llama",
        "pad_token_id: the row of the embedding gets no gradient from the input side",
        dict(pad_token_id=5),
    ),
    Case(
        "llama-pad-tied",
        "llama",
        "pad_token_id with tied embeddings: the row's gradient comes from the output side alone",
        dict(pad_token_id=5, tie_word_embeddings=True),
    ),
    Case("llama-sharded", "llama", "several shards and an index", max_shard_size="20KB"),
]
MISTRAL = [
    Case("mistral-default", "mistral", "no window (null), f32 storage", WIDE, dtype="float32"),
    Case("mistral-window", "mistral", "sliding window shorter than the row", dict(sliding_window=8)),
    Case(
        "mistral-window-absent",
        "mistral",
        "sliding_window absent from config.json (it then means 4096, far more than these rows)",
        drop_config_keys=("sliding_window",),
    ),
    Case(
        "mistral-headdim",
        "mistral",
        "head_dim other than hidden_size / heads",
        dict(head_dim=16),
        config_style="v4",
    ),
]
QWEN2 = [
    Case("qwen2-default", "qwen2", "biases on q, k, v alone, f32 storage", WIDE, dtype="float32"),
    Case(
        "qwen2-window",
        "qwen2",
        "window on the layers from max_window_layers on",
        dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=1),
    ),
    Case(
        "qwen2-window-v4",
        "qwen2",
        "the same rule with layer_types absent from config.json",
        dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=2),
        config_style="v4",
    ),
    Case(
        "qwen2-window-off",
        "qwen2",
        "sliding_window is set but use_sliding_window is false",
        dict(use_sliding_window=False, max_window_layers=0),
        config_style="v4",
        patch_config=dict(sliding_window=6),
    ),
    Case("qwen2-tied", "qwen2", "tied embeddings", dict(tie_word_embeddings=True)),
]
QWEN3 = [
    Case(
        "qwen3-default",
        "qwen3",
        "norms of q and k per head, head_dim of its own, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case("qwen3-tied", "qwen3", "tied embeddings", dict(tie_word_embeddings=True)),
    Case(
        "qwen3-window",
        "qwen3",
        "window on the layers from max_window_layers on, attention_bias",
        dict(use_sliding_window=True, sliding_window=6, max_window_layers=1, attention_bias=True),
    ),
]
MIXTRAL = [
    Case(
        "mixtral-default", "mixtral", "one tensor per expert (w1, w2, w3), f32 storage", WIDE, dtype="float32"
    ),
    Case("mixtral-fused", "mixtral", "stacked experts as Transformers 5 keeps them", layout="fused"),
    Case(
        "mixtral-window-aux",
        "mixtral",
        "sliding window shorter than the row; auxiliary loss",
        dict(sliding_window=8, output_router_logits=True, router_aux_loss_coef=0.02),
    ),
    Case(
        "mixtral-v4",
        "mixtral",
        "config as Transformers 4 wrote it; top-2 of 5 experts",
        dict(num_local_experts=5),
        config_style="v4",
    ),
]
QWEN2_MOE = [
    Case(
        "qwen2_moe-default",
        "qwen2_moe",
        "shared expert and its gate, norm_topk_prob false, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case(
        "qwen2_moe-norm",
        "qwen2_moe",
        "norm_topk_prob true, no q, k, v biases",
        dict(norm_topk_prob=True, qkv_bias=False),
    ),
    Case(
        "qwen2_moe-sparse-step",
        "qwen2_moe",
        "decoder_sparse_step 2: layers 0 and 2 dense, layer 1 sparse",
        dict(num_hidden_layers=3, decoder_sparse_step=2, num_experts=4),
        config_style="v4",
    ),
    Case("qwen2_moe-mlp-only", "qwen2_moe", "mlp_only_layers [0]", dict(mlp_only_layers=[0])),
    Case(
        "qwen2_moe-window",
        "qwen2_moe",
        "windows on even layers below max_window_layers",
        dict(
            num_hidden_layers=4,
            num_experts=4,
            use_sliding_window=True,
            sliding_window=6,
            max_window_layers=2,
        ),
    ),
    Case(
        "qwen2_moe-aux",
        "qwen2_moe",
        "auxiliary loss, with one dense layer that has no router",
        dict(output_router_logits=True, router_aux_loss_coef=0.05, mlp_only_layers=[1]),
        layout="fused",
    ),
]
QWEN3_MOE = [
    Case(
        "qwen3_moe-default",
        "qwen3_moe",
        "norm_topk_prob true, one tensor per expert, f32 storage",
        LARGER | dict(moe_intermediate_size=16, num_experts=8),
        dtype="float32",
    ),
    Case("qwen3_moe-norm-false", "qwen3_moe", "norm_topk_prob false", dict(norm_topk_prob=False)),
    Case(
        "qwen3_moe-aux",
        "qwen3_moe",
        "auxiliary loss over ragged rows",
        dict(output_router_logits=True, router_aux_loss_coef=0.02),
    ),
    Case(
        "qwen3_moe-sparse-step",
        "qwen3_moe",
        "decoder_sparse_step 2 with mlp_only_layers [3]: only layer 1 is sparse",
        dict(num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3]),
    ),
    Case("qwen3_moe-fused", "qwen3_moe", "stacked experts as Transformers 5 keeps them", layout="fused"),
    Case(
        "qwen3_moe-v4",
        "qwen3_moe",
        "config as Transformers 4 wrote it: num_experts, rope_theta, torch_dtype; no head_dim",
        dict(head_dim=6),
        config_style="v4",
    ),
    Case("qwen3_moe-sharded", "qwen3_moe", "several shards and an index", max_shard_size="20KB"),
    Case(
        "qwen3_moe-odd",
        "qwen3_moe",
        "sizes that no vector width divides; 5 experts, top-3",
        dict(
            vocab_size=131,
            hidden_size=36,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=10,
            intermediate_size=42,
            moe_intermediate_size=13,
            num_experts=5,
            num_experts_per_tok=3,
        ),
        dtype="float32",
    ),
    Case(
        "qwen3_moe-tied",
        "qwen3_moe",
        "tied embeddings, all experts chosen (top-k = experts)",
        dict(tie_word_embeddings=True, num_experts=4, num_experts_per_tok=4),
    ),
    Case(
        "qwen3_moe-window",
        "qwen3_moe",
        "sliding window on all layers; yarn rope; attention_bias; float16 storage",
        dict(use_sliding_window=True, sliding_window=6, attention_bias=True, max_window_layers=28)
        | rope("yarn", 10000.0, factor=4.0, original_max_position_embeddings=32),
        dtype="float16",
    ),
]
OLMOE = [
    Case(
        "olmoe-default",
        "olmoe",
        "norms of q and k over the full width, top-3, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case(
        "olmoe-clip",
        "olmoe",
        "clip_qkv with grouped-query attention",
        dict(clip_qkv=0.8, num_key_value_heads=2),
    ),
    Case(
        "olmoe-aux",
        "olmoe",
        "auxiliary loss, norm_topk_prob, attention_bias; config as Transformers 4 wrote it",
        dict(output_router_logits=True, router_aux_loss_coef=0.01, norm_topk_prob=True, attention_bias=True),
        config_style="v4",
    ),
    Case(
        "olmoe-fused",
        "olmoe",
        "stacked experts as Transformers 5 keeps them; clip_qkv",
        dict(clip_qkv=1.1),
        layout="fused",
    ),
]
OLMO2 = [
    Case(
        "olmo2-default",
        "olmo2",
        "norms after the branches, norms of q and k over the full width, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case(
        "olmo2-tied-v4",
        "olmo2",
        "tied embeddings, attention_bias, llama3 rope; config as Transformers 4 wrote it",
        rope(
            "llama3",
            500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        )
        | dict(tie_word_embeddings=True, attention_bias=True),
        config_style="v4",
    ),
    Case(
        "olmo2-headdim",
        "olmo2",
        "head_dim other than hidden_size / heads, multi-head attention",
        dict(head_dim=16, num_key_value_heads=None),
    ),
]
SMOLLM3 = [
    Case(
        "smollm3-default",
        "smollm3",
        "the fourth layer is told no positions; tied by default, f32 storage",
        WIDE,
        dtype="float32",
        drop_config_keys=("tie_word_embeddings",),
    ),
    Case(
        "smollm3-window",
        "smollm3",
        "no_rope_layers given, those slide; mlp_bias, own lm_head",
        dict(
            num_hidden_layers=3,
            no_rope_layers=[1, 0, 1],
            use_sliding_window=True,
            sliding_window=6,
            mlp_bias=True,
            tie_word_embeddings=False,
        ),
    ),
    Case(  # the bias of keys that are not turned moves all scores of a query alike: it has no gradient
        "smollm3-bias",
        "smollm3",
        "attention_bias; every layer is told positions",
        dict(num_hidden_layers=2, no_rope_layers=[1, 1], attention_bias=True),
    ),
    Case(
        "smollm3-v4",
        "smollm3",
        "every second layer without positions, yarn; config as Transformers 4 wrote it, with null fields",
        rope("yarn", 20000.0, factor=4.0, original_max_position_embeddings=32)
        | dict(num_hidden_layers=3, no_rope_layer_interval=2),
        config_style="v4",
        patch_config=dict(no_rope_layers=None, sliding_window=None),
    ),
]
OLMO3_YARN = {
    "full_attention": {
        "rope_type": "yarn",
        "rope_theta": 20000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 8.0,
        "attention_factor": 1.2,
    },
    "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
}
OLMO3 = [
    Case(
        "olmo3-default",
        "olmo3",
        "three layers of four slide, each kind with its rope, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case(
        "olmo3-v4",
        "olmo3",
        "yarn on the full layers alone; config as Transformers 4 wrote it, without layer_types",
        dict(rope_parameters=OLMO3_YARN, head_dim=16, tie_word_embeddings=True),
        config_style="v4",
    ),
    Case(
        "olmo3-layer-types",
        "olmo3",
        "layer_types given; yarn on the full layers, linear on the sliding ones; attention_bias",
        dict(
            num_hidden_layers=3,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
            attention_bias=True,
            rope_parameters=OLMO3_YARN
            | {"sliding_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.5}},
        ),
    ),
]
LONGROPE = dict(short_factor=[1.0, 1.1, 1.25], long_factor=[1.0, 2.5, 8.0])
PHI3 = [
    Case("phi3-default", "phi3", "fused projections, f32 storage", dtype="float32"),
    Case(
        "phi3-window-tied",
        "phi3",
        "sliding window shorter than the row, tied embeddings; three quarters of a head are turned",
        dict(
            sliding_window=8,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75},
        ),
    ),
    Case(
        "phi3-longrope-long",
        "phi3",
        "longrope over three quarters of a head, on one row longer than original_max_position_embeddings",
        rope("longrope", partial_rotary_factor=0.75, **LONGROPE)
        | dict(original_max_position_embeddings=16),
        rows=(29,),
    ),
    Case(
        "phi3-longrope-v4",
        "phi3",
        "longrope on one row within original_max_position_embeddings; config as Transformers 4 wrote it",
        rope("longrope", partial_rotary_factor=0.75, **LONGROPE)
        | dict(original_max_position_embeddings=64, max_position_embeddings=256),
        rows=(29,),
        config_style="v4",
        legacy_rope_key="type",
    ),
]
GRANITE_CASES = [
    Case("granite-default", "granite", "all four multipliers, f32 storage", WIDE, dtype="float32"),
    Case(
        "granite-tied-v4",
        "granite",
        "tied embeddings, attention_bias and mlp_bias; config as Transformers 4 wrote it",
        dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
        config_style="v4",
    ),
    Case(
        "granite-absent",
        "granite",
        "multipliers absent from config.json (they then are 1, that of the scores too)",
        dict(embedding_multiplier=1.0, residual_multiplier=1.0, attention_multiplier=1.0, logits_scaling=1.0),
        drop_config_keys=(
            "embedding_multiplier",
            "residual_multiplier",
            "attention_multiplier",
            "logits_scaling",
        ),
    ),
    Case(
        "granitemoe-default",
        "granitemoe",
        "input_linear, output_linear, router.layer; all multipliers, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case("granitemoe-fused", "granitemoe", "the names that Transformers 5 has in memory", layout="fused"),
    Case(
        "granitemoe-aux-v4",
        "granitemoe",
        "auxiliary loss, tied embeddings, attention_bias; config as Transformers 4 wrote it",
        dict(
            output_router_logits=True,
            router_aux_loss_coef=0.02,
            tie_word_embeddings=True,
            attention_bias=True,
        ),
        config_style="v4",
    ),
]
GEMMA = [
    Case(
        "gemma2-default",
        "gemma2",
        "norms before and after the branches, softcaps, GeGLU, every second layer slides; tied by default, f32 "
        "storage",
        WIDE | dict(num_hidden_layers=3),
        dtype="float32",
        drop_config_keys=("tie_word_embeddings", "layer_types"),
    ),
    Case(
        "gemma2-headdim",
        "gemma2",
        "head_dim 10, gelu by the error function, no softcaps, attention_bias, own lm_head, layer_types, padding",
        dict(
            head_dim=10,
            num_key_value_heads=1,
            hidden_activation="gelu",
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
            attention_bias=True,
            tie_word_embeddings=False,
            layer_types=["full_attention", "sliding_attention"],
            pad_token_id=7,
        ),
    ),
    Case(
        "gemma2-v4",
        "gemma2",
        "linear rope; config as Transformers 4 wrote it, with hidden_act beside hidden_activation",
        rope("linear", 1000.0, factor=2.5),
        config_style="v4",
        drop_config_keys=("tie_word_embeddings",),
        patch_config=dict(hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid"),
    ),
    Case(
        "gemma3_text-default",
        "gemma3_text",
        "queries and keys normed, two of three layers slide with a rope of their own; tied by default, f32 "
        "storage",
        WIDE | dict(layer_types=["sliding_attention", "sliding_attention", "full_attention"]),
        dtype="float32",
        drop_config_keys=("tie_word_embeddings",),
    ),
    Case(
        "gemma3_text-v4",
        "gemma3_text",
        "sliding_window_pattern, rope_local_base_freq, linear rope on the full layers; config as Transformers 4 "
        "wrote it, with null fields",
        dict(
            sliding_window_pattern=2,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={
                "full_attention": {"rope_type": "linear", "rope_theta": 20000.0, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
        ),
        config_style="v4",
        drop_config_keys=("tie_word_embeddings", "_sliding_window_pattern"),
        patch_config=dict(
            sliding_window_pattern=2, final_logit_softcapping=None, cache_implementation="hybrid"
        ),
    ),
    Case(
        "gemma3_text-headdim",
        "gemma3_text",
        "head_dim 14, a softcap of logits, attention_bias, own lm_head, ropes that are not the default's",
        dict(
            head_dim=14,
            final_logit_softcapping=2.5,
            attention_bias=True,
            tie_word_embeddings=False,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
            rope_parameters={
                "full_attention": {
                    "rope_type": "yarn",
                    "rope_theta": 20000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                },
                "sliding_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.5},
            },
        ),
    ),
]
GPT_OSS = [
    Case(
        "gpt_oss-default",
        "gpt_oss",
        "sinks, biases, clamped interleaved experts, a window on every other layer, yarn without truncation",
    ),
    Case(
        "gpt_oss-clamped",
        "gpt_oss",
        "a limit that half of what it clamps meets, another alpha; top 3 of 7; f32 storage",
        WIDE | dict(swiglu_limit=0.6, swiglu_alpha=0.9, num_local_experts=7, num_experts_per_tok=3),
        dtype="float32",
    ),
    Case(
        "gpt_oss-aux-v4",
        "gpt_oss",
        "auxiliary loss, tied embeddings; config in the words of the released models",
        dict(
            output_router_logits=True,
            router_aux_loss_coef=0.02,
            tie_word_embeddings=True,
            num_hidden_layers=3,
            pad_token_id=5,
        ),
        config_style="v4",
        patch_config={"initial_context_length": 32, "experts_per_token": 2},
    ),
    Case(
        "gpt_oss-layer-types",
        "gpt_oss",
        "layer_types of its own, no attention bias, default rope; sharded",
        dict(
            layer_types=["full_attention", "sliding_attention", "sliding_attention"],
            num_hidden_layers=3,
            attention_bias=False,
            sliding_window=2,
        )
        | rope("default"),
        max_shard_size="20KB",
    ),
    Case(
        "gpt_oss-absent",
        "gpt_oss",
        "what config.json leaves out: yarn by 32 from 4,096, a window of 128, alpha and limit, biases",
        dict(
            sliding_window=128,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 4096,
            },
        ),
        drop_config_keys=(
            "attention_bias",
            "layer_types",
            "rope_parameters",
            "sliding_window",
            "swiglu_alpha",
            "swiglu_limit",
        ),
    ),
]
QUANTIZED = [
    Case(
        "llama-fp8",
        "llama",
        "FP8 projections with a scale for each 8 x 8; those that blocks do not fit are stored plain",
        quantization="fp8",
    ),
    Case(
        "qwen3_moe-fp8",
        "qwen3_moe",
        "FP8 experts, each a tensor with its scales",
        dict(moe_intermediate_size=16),
        quantization="fp8",
    ),
    Case(
        "gpt_oss-mxfp4",
        "gpt_oss",
        "MXFP4 experts as the released models store them",
        dict(hidden_size=64, intermediate_size=32, num_local_experts=4),
        quantization="mxfp4",
    ),
    Case(
        "deepseek_v3-fp8",
        "deepseek_v3",
        "FP8 projections and experts of latent attention, as DeepSeek-V3 is published; its bias stays f32",
        dict(
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=8,
            moe_intermediate_size=16,
        ),
        quantization="fp8",
    ),
]
MSCALES = dict(factor=8.0, original_max_position_embeddings=16, mscale=0.8, mscale_all_dim=1.2)
DEEPSEEK = [
    Case(
        "deepseek_v2-default",
        "deepseek_v2",
        "latent attention of queries, too; greedy routing; a dense layer first, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case(
        "deepseek_v2-groups",
        "deepseek_v2",
        "experts of the two best of four groups; no q_lora_rank; norm_topk_prob, which is overlooked; no dense layer",
        dict(
            topk_method="group_limited_greedy",
            n_group=4,
            topk_group=2,
            routed_scaling_factor=2.5,
            q_lora_rank=None,
            norm_topk_prob=True,
            first_k_dense_replace=0,
        ),
        max_shard_size="20KB",
    ),
    Case(
        "deepseek_v2-yarn-v4",
        "deepseek_v2",
        "yarn with both mscales, all biases, tied; config as Transformers 4 wrote it",
        rope("yarn", **MSCALES)
        | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, n_routed_experts=7),
        config_style="v4",
        legacy_rope_key="type",
        patch_config=dict(scoring_func="softmax", moe_layer_freq=1, aux_loss_alpha=0.001, seq_aux=True),
    ),
    Case(
        "deepseek_v3-default",
        "deepseek_v3",
        "sigmoids, correction bias, the two of four groups with the best two experts, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case(
        "deepseek_v3-equals",
        "deepseek_v3",
        "experts of equal scores, told apart by the bias alone; groups that leave out the best expert; stacked",
        dict(n_routed_experts=9, n_group=3, topk_group=2, q_lora_rank=None, n_shared_experts=1),
        equal_experts=True,
        layout="fused",
    ),
    Case(
        "deepseek_v3-halves-v4",
        "deepseek_v3",
        "halves turned together, yarn with both mscales, attention_bias, norm_topk_prob false; Transformers 4",
        rope("yarn", 20000.0, **MSCALES)
        | dict(rope_interleave=False, attention_bias=True, norm_topk_prob=False, routed_scaling_factor=1.0),
        config_style="v4",
        patch_config=dict(scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1, ep_size=1),
    ),
    Case(
        "deepseek_v3-mtp",
        "deepseek_v3",
        "one group; a layer for further tokens that passes through; sharded",
        dict(n_group=1, topk_group=1, num_nextn_predict_layers=1),
        mtp=True,
        max_shard_size="20KB",
    ),
    Case(
        "glm4_moe-default",
        "glm4_moe",
        "grouped-query attention, of whose heads half is turned; one group, f32 storage",
        WIDE,
        dtype="float32",
    ),
    Case(
        "glm4_moe-norm",
        "glm4_moe",
        "norms of queries and keys per head, attention_bias, groups, scaling",
        dict(use_qk_norm=True, attention_bias=True, n_group=2, topk_group=1, routed_scaling_factor=2.5),
    ),
    Case(
        "glm4_moe-v4",
        "glm4_moe",
        "a layer for further tokens, tied; config as Transformers 4 wrote it, half a head turned by default",
        dict(tie_word_embeddings=True, norm_topk_prob=False, n_routed_experts=7),
        config_style="v4",
        mtp=True,
        drop_config_keys=("partial_rotary_factor", "n_group", "topk_group"),
    ),
]
# The first two of the list are what a new model class is tried on first.
CASES = [
    *(QWEN3_MOE[0], *LLAMA, *MISTRAL, *QWEN2, *QWEN3, *MIXTRAL, *QWEN2_MOE, *QWEN3_MOE[1:], *OLMOE),
    *(*OLMO2, *SMOLLM3, *OLMO3, *PHI3, *GRANITE_CASES),
    *(*GEMMA, *GPT_OSS, *DEEPSEEK),
    *QUANTIZED,
]
