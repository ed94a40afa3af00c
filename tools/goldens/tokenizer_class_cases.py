"""Tokenizer directories of many kinds and what Transformers' AutoTokenizer makes of them: which ids, which special tokens.
Writes tests/data/tokenizer_classes.json (for tests/text/tokenizer_class_test.cpp). Needs transformers 5.23 and tokenizers.

usage: tokenizer_class_cases.py OUT.json [COUNT [SEED]]     the golden is COUNT=160 SEED=7
"""
import json
import os
import random
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer
from transformers.utils import logging

logging.set_verbosity_error()

CORPUS = ["Hello world, this is a small text. It's what I've seen, isn't it?", "def f(x):\n    return x + 1234\n\n\nprint(f(2))",
          "Größe, café, naïve – „Anführung“ 漢字 かな 🙂", "the quick brown fox jumps over the lazy dog  and  spaces   too",
          "user: hi there\nassistant: hello again\n"] * 4
TEXTS = ["Hello world", " leading and trailing ", "  two  spaces", "It's 1234 or 12 345, isn't it?", "a\n\n\nb\r\n\tc",
         "<s>hi</s> there", "<|im_start|>user\nhello<|im_end|>\n", "x<extra>y <extra> z", "say <tool> now", "café cafe\u0301 漢字 🙂",
         "", "</s>", "a</s> b", "<|endoftext|>end", "A<unk>B", "▁already", "a <|im_end|>  b", "<s> <s>x"]


def train(kind):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if kind == "pieces" else None, fuse_unk=kind == "pieces",
                                     byte_fallback=kind == "pieces"))
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special, alphabet = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                               decoders.Strip(" ", 1, 0)])
        special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
        alphabet = []
    trainer = trainers.BpeTrainer(vocab_size=420 if kind == "bytes" else 460, special_tokens=special, initial_alphabet=alphabet,
                                  show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    document = json.loads(tokenizer.to_str())
    kept = ["<unk>", "<s>", "</s>"] if kind == "pieces" else special
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] in kept]
    return document


BASES = {kind: train(kind) for kind in ("bytes", "pieces")}
MODELS = ["llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "olmoe"]
CLASSES = [None, "PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer",
           "Qwen2TokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "NoSuchTokenizer"]


def make(rng):
    kind = rng.choice(list(BASES))
    document = json.loads(json.dumps(BASES[kind]))
    bos, eos = ("<s>", "</s>") if kind == "pieces" else ("<|im_start|>", "<|im_end|>")
    config = {}
    name = rng.choice(CLASSES)
    if name:
        config["tokenizer_class"] = name
    for key, choices in {"legacy": [True, False, None], "add_prefix_space": [True, False, None], "add_bos_token": [True, False],
                         "add_eos_token": [True, False], "split_special_tokens": [True, False]}.items():
        if rng.random() < (0.12 if key.startswith("split") else 0.3):
            config[key] = rng.choice(choices)
    for key, value in {"bos_token": bos, "eos_token": eos, "unk_token": "<unk>", "pad_token": rng.choice([eos, "<pad>"])}.items():
        if rng.random() < 0.55:
            config[key] = value if rng.random() < 0.8 else {"__type": "AddedToken", "content": value, "lstrip": rng.random() < .3,
                                                           "rstrip": rng.random() < .3, "normalized": rng.random() < .5,
                                                           "single_word": False}
    if rng.random() < 0.08:
        config["eos_token"] = "<no_such_eos>"
    if rng.random() < 0.3:
        config[rng.choice(["extra_special_tokens", "additional_special_tokens"])] = rng.choice([["<tool>"], ["<tool>", "<extra>"]])
    elif rng.random() < 0.1:
        config["extra_special_tokens"] = {"tool_token": "<tool>"}
    if rng.random() < 0.4:
        document["post_processor"] = json.loads(processors.TemplateProcessing(
            single=f"{bos} $A" + rng.choice(["", f" {eos}"]), pair="$A $B",
            special_tokens=[(bos, 1), (eos, 2)]).__getstate__())
    if rng.random() < 0.3:
        document["added_tokens"].append({"id": len(document["model"]["vocab"]), "content": "<extra>", "single_word": False,
                                         "lstrip": rng.random() < .3, "rstrip": rng.random() < .3,
                                         "normalized": rng.random() < .5, "special": rng.random() < .5})
    files = {}
    size = len(document["model"]["vocab"])
    if rng.random() < 0.35:
        listed = rng.sample(document["added_tokens"], rng.randrange(1, len(document["added_tokens"]) + 1))
        config["added_tokens_decoder"] = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in listed}
        if rng.random() < 0.5:
            config["added_tokens_decoder"][str(size + rng.randrange(3))] = {
                "content": "<tool>", "lstrip": rng.random() < .5, "rstrip": False, "normalized": rng.random() < .5,
                "single_word": rng.random() < .3, "special": rng.random() < .5}
    if rng.random() < 0.3:
        files["added_tokens.json"] = rng.choice([{"<tool>": size + 1}, {"<extra>": size, "<tool>": size + 1}, {"<tool>": size}])
    if rng.random() < 0.3:
        files["special_tokens_map.json"] = rng.choice([
            {"eos_token": eos}, {"bos_token": {"content": bos, "lstrip": False, "normalized": True, "rstrip": True,
                                               "single_word": False}},
            {"additional_special_tokens": ["<tool>"]}, {"pad_token": "<pad>", "eos_token": "<|endoftext|>"}])
    files["tokenizer_config.json"] = config
    files["config.json"] = {"model_type": rng.choice(MODELS)}
    return document, files


def run(document, files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {**files, "tokenizer.json": document}.items():
            with open(f"{folder}/{name}", "w") as out:
                json.dump(content, out, ensure_ascii=False)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return {"class": type(tokenizer).__name__, "special_tokens": dict(tokenizer.special_tokens_map),
            "ids": [tokenizer(text)["input_ids"] for text in TEXTS],
            "plain_ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]}


def share(case, key, pool):
    """Puts the number of its value in the pool in the value's place."""
    if case[key] not in pool:
        pool.append(case[key])
    case[key] = pool.index(case[key])


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 160
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 7)
    cases, refused = [], 0
    while len(cases) < count:
        document, files = make(rng)
        try:
            result = run(document, files)
        except Exception as error:  # a directory that Transformers does not load says nothing
            refused += 1
            print("refused:", type(error).__name__, str(error)[:100], file=sys.stderr)
            continue
        kind = "pieces" if document["model"]["unk_token"] else "bytes"
        changes = {k: document[k] for k in ("added_tokens", "post_processor")}
        cases.append({"base": kind, "changes": changes, "files": files, **result})
    pools = {"encodings": [], "added_tokens": []}  # most cases share them
    for case in cases:
        share(case, "ids", pools["encodings"])
        share(case, "plain_ids", pools["encodings"])
        share(case["changes"], "added_tokens", pools["added_tokens"])
    with open(sys.argv[1], "w") as out:
        json.dump({"bases": BASES, "texts": TEXTS, **pools, "cases": cases}, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")
    print(f"{len(cases)} cases, {refused} that Transformers refuses")


main()
