"""Model goldens of families with dense feed-forward networks, and of Granite's mixture."""

from __future__ import annotations

from case import LARGER, WIDE, Case, rope

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
