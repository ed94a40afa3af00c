"""Tokenizer directories, and what Transformers' AutoTokenizer makes of them: special tokens, chats as text, ids."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer

CHATML = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}"
    "{% if m.content is string %}{{ m.content }}{% elif m.content %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TRIMMING = CHATML.replace("{{ m.content }}", "{{ m.content | trim }}")
DROPPING = "{% for m in messages %}{{ m.role }}{% if m.content %}:{% endif %}{% endfor %}"
TOOLS = "tools={{ tools | length }};{{ messages | map(attribute='content') | join('|') }}"
KEYS = "{% for m in messages %}{{ m.keys() | list }}{% endfor %}"

CHAT = [{"role": "user", "content": "Hi "}, {"role": "assistant", "content": "Sure, I \n"}]
TOOL = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}]
ADDED = {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}

BASE = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}


def tokenizer_json() -> str:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer.to_str(pretty=True)


def chat(messages=CHAT, **arguments):
    return {"messages": messages, "arguments": arguments}


# name -> (files beside tokenizer.json, chats)
DIRECTORIES = {
    "template in the config": ({"tokenizer_config.json": BASE | {"chat_template": CHATML}}, [chat(), chat(add_generation_prompt=True)]),
    "added token objects": ({"tokenizer_config.json": BASE | {"eos_token": ADDED, "pad_token": None, "image_token": "<img>", "chat_template": CHATML}}, [chat()]),
    "bos and eos flags": ({"tokenizer_config.json": BASE | {"add_bos_token": False, "add_eos_token": True, "chat_template": CHATML}}, [chat()]),
    "file over config": ({"tokenizer_config.json": BASE | {"chat_template": "config"}, "chat_template.jinja": CHATML}, [chat()]),
    "a list of templates": (
        {"tokenizer_config.json": BASE | {"chat_template": [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": TOOLS}]}},
        [chat(), chat(tools=TOOL), chat(tools=[])],
    ),
    "additional templates": (
        {"tokenizer_config.json": BASE, "chat_template.jinja": CHATML, "additional_chat_templates/tool_use.jinja": TOOLS},
        [chat(), chat(tools=TOOL)],
    ),
    "no default": ({"tokenizer_config.json": BASE, "additional_chat_templates/rag.jinja": "x"}, [chat()]),
    "no template": ({"tokenizer_config.json": BASE}, [chat()]),
    "legacy map": (
        {"tokenizer_config.json": BASE | {"chat_template": CHATML}, "special_tokens_map.json": {"bos_token": "<pad>", "pad_token": {"content": "<pad>"}}},
        [chat()],
    ),
    "legacy map beside a decoder": (
        {
            "tokenizer_config.json": BASE | {"chat_template": CHATML, "added_tokens_decoder": {"256": ADDED | {"content": "<s>", "special": True}}},
            "special_tokens_map.json": {"bos_token": "<pad>"},
        },
        [chat()],
    ),
    "own names": (
        {"tokenizer_config.json": BASE | {"extra_special_tokens": {"video_token": "<|user|>"}, "chat_template": "{{ video_token }}{{ messages | length }}"}},
        [chat()],
    ),
    "model's own names": (
        {"tokenizer_config.json": BASE | {"model_specific_special_tokens": {"boi_token": "<|user|>", "eoi": "</s>"}, "chat_template": "{{ boi_token }}{{ eoi }}{{ messages | length }}"}},
        [chat()],
    ),
    "legacy map of nulls": (
        {"tokenizer_config.json": BASE | {"pad_token": "<pad>", "chat_template": "{{ pad_token is defined }}{{ bos_token }}"}, "special_tokens_map.json": {"pad_token": None}},
        [chat()],
    ),
    "continued": (
        {"tokenizer_config.json": BASE | {"chat_template": CHATML}},
        [
            chat(continue_final_message=True),
            chat(continue_final_message=True, add_generation_prompt=True),
            chat([{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b "}]}], continue_final_message=True),
            chat([{"role": "assistant", "content": "x", "reasoning_content": "so "}], continue_final_message="reasoning_content"),
            chat([{"role": "assistant", "content": "x", "thinking": "so "}], continue_final_message="thinking"),
            chat([{"role": "assistant", "content": None}], continue_final_message=True),
            chat([{"role": "assistant", "content": []}], continue_final_message=True),
            chat(CHAT, continue_final_message="role"),
        ],
    ),
    "continued and trimmed": ({"tokenizer_config.json": BASE | {"chat_template": TRIMMING}}, [chat(continue_final_message=True)]),
    "continued and dropped": ({"tokenizer_config.json": BASE | {"chat_template": DROPPING}}, [chat(continue_final_message=True)]),
    "keys": (
        {"tokenizer_config.json": BASE | {"chat_template": KEYS}},
        [
            chat([{"role": "assistant", "content": None, "tool_calls": None, "x": 1}]),
            chat([{"role": "assistant", "reasoning": "r", "content": "c"}]),
            chat([{"role": "assistant", "thinking": None, "reasoning_content": "r", "content": "c"}]),
            chat([{"role": "assistant", "content": "c", "thinking": "t", "reasoning_content": "r"}]),
        ],
    ),
    "kwargs": (
        {"tokenizer_config.json": BASE | {"chat_template": "{{ bos_token }}{{ flag }}{{ documents }}{{ tools is none }}"}},
        [chat(flag=[1, "a"], bos_token="[B]"), chat(documents=[{"title": "t", "text": "x"}], flag=None)],
    ),
    "empty chat": ({"tokenizer_config.json": BASE | {"chat_template": CHATML}}, [chat([])]),
}


def run(files: dict, chats: list[dict], base: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        contents = {name: text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for name, text in files.items()}
        for name, text in (contents | {"tokenizer.json": base}).items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        out = {"files": contents, "special_tokens": tokenizer.special_tokens_map, "ids": tokenizer("ab").input_ids, "chats": []}
        for item in chats:
            item = json.loads(json.dumps(item))
            result = json.loads(json.dumps(item))
            try:
                result["text"] = tokenizer.apply_chat_template(item["messages"], tokenize=False, **item["arguments"])
                ids = tokenizer.apply_chat_template(result["messages"], tokenize=True, return_dict=True, **item["arguments"])
                result["ids"] = ids["input_ids"]
            except Exception as error:
                result["error"] = str(error).split("Final message to continue")[0]
            out["chats"].append(result)
        return out


def pretrained() -> dict:
    base = tokenizer_json()
    cases = [{"name": name} | run(files, chats, base) for name, (files, chats) in DIRECTORIES.items()]
    return {"tokenizer.json": base, "cases": cases}
