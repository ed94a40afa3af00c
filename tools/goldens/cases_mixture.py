"""Model goldens of families with mixtures of experts, and of quantised checkpoints."""

from __future__ import annotations

from case import LARGER, WIDE, Case, rope

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
