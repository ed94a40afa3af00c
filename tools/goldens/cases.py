"""The table of model goldens: which tiny checkpoints exist, and what each of them is there to catch."""

from __future__ import annotations

from cases_dense import GEMMA, GRANITE_CASES, LLAMA, MISTRAL, OLMO2, OLMO3, PHI3, QWEN2, QWEN3, SMOLLM3
from cases_mixture import DEEPSEEK, GPT_OSS, MIXTRAL, OLMOE, QUANTIZED, QWEN2_MOE, QWEN3_MOE

# The first two of the list are what a new model class is tried on first.
CASES = [
    *(QWEN3_MOE[0], *LLAMA, *MISTRAL, *QWEN2, *QWEN3, *MIXTRAL, *QWEN2_MOE, *QWEN3_MOE[1:], *OLMOE),
    *(*OLMO2, *SMOLLM3, *OLMO3, *PHI3, *GRANITE_CASES),
    *(*GEMMA, *GPT_OSS, *DEEPSEEK),
    *QUANTIZED,
]
