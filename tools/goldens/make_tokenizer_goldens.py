#!/usr/bin/env python3
"""Writes tests/data/tokenizers: small tokenizers with the components of the families in the field, and what the
`tokenizers` library makes of some hundred texts with each.

    texts.json              the texts that every tokenizer encodes
    NAME/tokenizer.json     a tokenizer with a vocabulary of some hundred tokens
    NAME/expected.json      "own": more texts; "encoded": per text, texts.json first, [ids, ids without special tokens
                            (null: the same), byte offsets as [begin, end, begin, end, ...] (null: not kept)];
                            "decoded": [ids, text, text without special tokens]

Training breaks ties at random, so a tokenizer.json that is there already is kept; delete it to train it anew.

usage: make_tokenizer_goldens.py OUTPUT_FOLDER     (needs: tokenizers)
"""
import json
import pathlib
import random
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = O200K.replace(CONTRACTIONS + "?", "").replace(r"\p{N}{1,3}", r"\p{N}")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        + CONTRACTIONS + r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*" + CONTRACTIONS
        + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
]
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

CORPUS = """
The quick brown fox jumps over the lazy dog; it's the dog's day, and they've said they'll wait: I'm sure he'd agree.
In 1999, 2024 and 31415 the numbers were written 1,234,567.89 or 3.14e-10, and the prices 12$, 12€ and £99 each.
def main(argv):\n    for i in range(10):\n\tprint(f"{i:>4} {argv[i]}")\n    return {"key": [1, 2, 3]}\n\n\nif __name__ == "__main__":\n
Über den Wolken muß die Freiheit wohl grenzenlos sein. Größe, Straße, Äpfel, naïve café, déjà vu, mañana, São Paulo.
Съешь же ещё этих мягких французских булок, да выпей чаю. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. שלום עולם مرحبا بالعالم
我能吞下玻璃而不伤身体。人工智能的发展非常迅速，今天是二〇二四年。いろはにほへと ちりぬるを。カタカナとひらがなを使います。
안녕하세요 세계, 모든 사람은 교육을 받을 권리를 가진다. สวัสดีชาวโลก मैं काँच खा सकता हूँ। Tôi có thể ăn thủy tinh mà không hại gì.
HelloWorld camelCase XMLHttpRequest snake_case SCREAMING_CASE iPhone McDonald's O'Neill DON'T WE'RE I'LL
https://example.org/path?query=value&other=1#fragment user@example.com C:\\\\Users\\\\name //comment /* block */ </div><br/>
😀😃 👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️ ☃︎ ∑∫√∞≠≤ ½ ² Ⅷ ① №  …  — – “quotes” ‘single’ «guillemets»
""".strip()
LINES = [line for line in CORPUS.split("\n") if line]

EXOTIC = ("aAzZ09 _-'\"\n\r\t.,!?;:/\\()[]{}<>|&%$#@+*=^~`sStTmMdDlLvVrReE"
          "éÉßſıİñüÀÿ½²³¹Ⅷ①٣०๓߁٠१"
          "\u0300\u0301\u0308\u0316\u0323\u0327\u0334\u0345\u093c\u0e31\u0e38\u3099\u20dd"
          "Å\u212b\u2126\u1e9b\u0323ﬁﬀ㌀ｶﾞ\uff21\u3000\u1100\u1161\u11a8가각힣"
          "漢字一丁龥㐀𠀀𪜶𮯰𱍐ひカー々〇ไทยกำनमस्तेعربيלעابیёЖΩσςΣǅǄǆ"
          "\u0085\u00a0\u1680\u180e\u2000\u2003\u2009\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\ufeff"
          "\x00\x01\x07\x0b\x0c\x1b\x1c\x1f\x7f\u0080\u009f"
          "😀👩👧🇩🇪👍🏽❤\ufe0f☃🫠🫨🩷\U0001f6dc→∑€£∞№™…—“”«»·¿¡。、！？，；：（）「」▁Ġ�\ufffe\U0010ffff\ue000"
          "\u0897\u1c89\ua7cb\U00011380\U000105c0\U0001e4d0\U00011f02")
PIECES = ["the", " the", "'s", "'S", "'ſ", "'re", "'LL", "'ve", " don't", "HTTP", "Server", "iPhone", "  ", "    ", "\n\n",
          "\r\n", " \n", "\t\t", " \t ", "123", "2024", "3.14", "e\u0301", "é", "ế", "ệ", "Å", "중국", "日本語", "…",
          "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "नमस्ते", "สวัสดี", "مرحبا", "שלום", "x=1;", "->", "://", "</s>", "<s>", "<unk>", "<|", "|>",
          "<0x41>", "▁", "▁▁", "</w>", "Ġ"]
FIXED = [
    "", " ", "  ", "a", " a", "a ", " a ", "\n", "\n\n", "\r\n", "\r\n\r\n", "a\nb", "a\r\nb\r\n", " \n ", "\t", "\t\ta",
    "Hello world", "Hello, world!", " Hello  world  ", "It's we're I'LL they'Ve don'T 'sa 'ſ 'ſa he'd've", "DON’T don’t",
    "1", "12", "123", "1234", "12345678901234567890", "1,234,567.89", "٣٤٥ ०१२ ๓๔ ⅧⅨ ½¼ ² x²+y³=z⁴", "v1.2.3-rc4",
    "def f(x):\n    return x  # comment\n\n\n", "\tif (a == b) {\n\t\treturn;\n\t}\n", "{\"a\": [1, 2.5, null, true]}",
    "https://example.org/a/b?c=d&e=%20#f", "//// //\n///\r\n", "....\n\n...", "!!!\n?", "a/b/c\n/d", "<<<>>>===",
    "é e\u0301 ê\u0301 ế e\u0302\u0301 e\u0301\u0302 Å A\u030a \u212b ﬁ ﬀ ſ ẞ ß", "\u0301\u0302abc", "a\u0316\u0301 a\u0301\u0316",
    "q\u0307\u0323 q\u0323\u0307 d\u0323\u0307 \u1e0b\u0323", "\u1100\u1161\u11a8 가\u11a8 각 \u1100\u1161 한국어 안녕하세요", "か\u3099 が ｶﾞ ㌀ ㍿",
    "漢字とひらがなとカタカナ。人工智能，机器学习！", "中文English混合123测试", "ไทยภาษาสวัสดีครับ กำ", "नमस्ते दुनिया क्षत्रिय", "مرحبا بالعالم ١٢٣ السَّلامُ",
    "שָׁלוֹם עוֹלָם", "Привет, мир! Ёлка й и\u0306", "Γειά σου Κόσμε ΣΊΣΥΦΟΣ", "Tiếng Việt có dấu", "ǅ Ǆ ǆ ŉ İi ıI",
    "😀", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷🇯🇵", "👍🏽👍🏿", "❤️❤", "☃︎☃️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "a😀b 😀 c", "🫠🫨🩷",
    "\u0085", "a\u0085b", "a\u00a0b \u00a0c", "\u2028\u2029", "a\u2028b", "\u3000全角\u3000", "a\u200bb\u200dc\ufeffd", "\u180e a\u180eb",
    "\u1680\u2000\u2003\u202f\u205f", "a \u00a0 \u2003b", "\x00", "a\x00b\x01\x02", "\x1b[31mred\x1b[0m", "\x0b\x0c\x1c\x1d\x1e\x1f\x7f",
    "�", "\ufffe\uffff\U0010ffff\ue000", "▁▁a▁b ▁ c▁", "ĠHello Ċ Ġ", "<0x41><0xE4>", "<unk>", "<s>", "</s>", "a<s>b</s>c", "<s> a </s> b",
    " <s>", "<s> ", "<S>", "<|endoftext|>", "a<|endoftext|>b", "<|im_start|>user\nHi<|im_end|>\n", "<|im_start", "|im_end|>", "<<s>>",
    "A" * 40, "aB" * 30, " ".join("abcdefg"), "ab " * 40, "\u00e9" * 50, "e\u0301" * 40, "漢" * 60, "1" * 50, " " * 70, "\n" * 40, "\t" * 40,
    " \n" * 30, "\r\n" * 25, "😀" * 25, "." * 70, "'" * 20, "'s" * 20, "-=" * 30, "\u00a0" * 30, "\x00" * 30,
    "a" * 1500, " " * 1200, "ab" * 600, "1" * 700, "漢字" * 200, "é" * 400,
]


def random_text(rng, specials):
    kind = rng.random()
    if kind < 0.35:
        return "".join(rng.choice(EXOTIC) for _ in range(rng.randint(1, 24)))
    if kind < 0.7:
        parts = PIECES + specials * 2
        return "".join(rng.choice(parts) if rng.random() < 0.7 else rng.choice(EXOTIC) for _ in range(rng.randint(1, 12)))
    if kind < 0.85:
        line = rng.choice(LINES)
        start = rng.randrange(len(line))
        return line[start:start + rng.randint(1, 60)]
    codes = []
    while len(codes) < rng.randint(1, 10):
        code = rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x110000)])
        if not 0xD800 <= code < 0xE000:
            codes.append(chr(code))
    return "".join(codes)


def added(id, content, **options):
    token = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    token.update(options)
    return token


def train(normalizer, pre_tokenizer, size, reserved=(), alphabet=(), characters=1000, **model_options):
    """A vocabulary and merges. `reserved` tokens take the first ids; beyond the most frequent characters the rest stay
    unknown."""
    suffix = model_options.get("end_of_word_suffix")
    tokenizer = Tokenizer(models.BPE(**model_options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer_options = {"end_of_word_suffix": suffix} if suffix else {}
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=list(reserved),
                                  initial_alphabet=sorted(alphabet), limit_alphabet=characters, **trainer_options)
    tokenizer.train_from_iterator([CORPUS, *LINES] * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def document(model, added_tokens=(), normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None):
    defaults = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                    fuse_unk=False, byte_fallback=False, ignore_merges=False)
    return dict(version="1.0", truncation=None, padding=None, added_tokens=list(added_tokens), normalizer=normalizer,
                pre_tokenizer=pre_tokenizer, post_processor=post_processor, decoder=decoder,
                model={**defaults, **model})


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return dict(type="Split", pattern={kind: pattern}, behavior=behavior, invert=invert)


def byte_level(add_prefix_space=False, trim_offsets=True, use_regex=False):
    return dict(type="ByteLevel", add_prefix_space=add_prefix_space, trim_offsets=trim_offsets, use_regex=use_regex)


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def template(before=(), behind=()):
    special = {token: dict(id=token, ids=[id], tokens=[token]) for token, id in [*before, *behind]}

    def tokens(of):
        return [{"SpecialToken": {"id": token, "type_id": 0}} for token, _ in of]

    single = [*tokens(before), {"Sequence": {"id": "A", "type_id": 0}}, *tokens(behind)]
    pair = single + [*tokens(before), {"Sequence": {"id": "B", "type_id": 1}}, *tokens(behind)]
    return dict(type="TemplateProcessing", single=single, pair=pair, special_tokens=special)


def as_component(module, component):
    """A component of tokenizer.json as the library's object."""
    if component is None:
        return None
    holder = document(dict(vocab={"a": 0}, merges=[]), **{module: component})
    return getattr(Tokenizer.from_str(json.dumps(holder)), module)


def byte_bpe(pre_tokenizer, tokens, size=480, normalizer=None, post_processor=None, merges_as_text=False, **options):
    vocab, merges = train(as_component("normalizer", normalizer), as_component("pre_tokenizer", pre_tokenizer), size,
                          alphabet=pre_tokenizers.ByteLevel.alphabet())
    if merges_as_text:
        merges = [" ".join(pair) for pair in merges]
    extra = [added(len(vocab) + i, **({"content": t} if isinstance(t, str) else t)) for i, t in enumerate(tokens)]
    ids = {t["content"]: t["id"] for t in extra}
    if callable(post_processor):
        post_processor = post_processor(ids)
    return document(dict(vocab=vocab, merges=merges, **options), extra, normalizer, pre_tokenizer, post_processor,
                    byte_level(True, True, True))


def sentence_piece(tokens, size=600, bytes_from=3, runs=("▁", "\n"), missing_bytes=(), **options):
    """Vocabulary, merges and added tokens of a SentencePiece BPE with byte fallback, cut at spaces in training."""
    reserved = [t if isinstance(t, str) else t["content"] for t in tokens]
    byte_tokens = [f"<0x{b:02X}>" for b in range(256) if b not in missing_bytes]
    vocab, merges = train(None, pre_tokenizers.Metaspace("▁", "always", True), size,
                          reserved[:bytes_from] + byte_tokens + reserved[bytes_from:], characters=110)
    for run in runs:
        for length in (1, 2, 4, 8):
            vocab.setdefault(run * length, len(vocab))
            if length > 1:
                merges.append([run * (length // 2)] * 2)
    extra = [added(vocab[t if isinstance(t, str) else t["content"]], **({"content": t} if isinstance(t, str) else t))
             for t in tokens]
    return dict(vocab=vocab, merges=merges, **options), extra


def make_tokenizers():
    made = {}
    made["llama3"] = byte_bpe(
        sequence("pretokenizers", split(LLAMA3), byte_level()),
        ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>"], ignore_merges=True,
        post_processor=lambda ids: sequence("processors", byte_level(True, False, True),
                                            template([("<|begin_of_text|>", ids["<|begin_of_text|>"])])))
    made["qwen2"] = byte_bpe(
        sequence("pretokenizers", split(QWEN2), byte_level(False, False)),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", dict(content="<tool_call>", special=False)],
        normalizer=dict(type="NFC"), post_processor=byte_level(False, False), merges_as_text=True)
    made["tekken"] = byte_bpe(
        sequence("pretokenizers", split(TEKKEN), byte_level()), ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
        ignore_merges=True, post_processor=lambda ids: template([("<s>", ids["<s>"])]))
    made["gpt_oss"] = byte_bpe(
        sequence("pretokenizers", split(O200K), byte_level()),
        ["<|startoftext|>", "<|endoftext|>", "<|start|>", "<|end|>", "<|message|>"])
    made["deepseek"] = byte_bpe(
        sequence("pretokenizers", *[split(p) for p in DEEPSEEK], byte_level()),
        ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", dict(content="<think>", special=False, normalized=True)],
        normalizer=sequence("normalizers"),
        post_processor=lambda ids: template([("<｜begin▁of▁sentence｜>", ids["<｜begin▁of▁sentence｜>"])]))
    made["gpt2"] = byte_bpe(
        byte_level(False, True, True), [dict(content="<|endoftext|>", normalized=True)], merges_as_text=True,
        post_processor=byte_level(True, True, True), unk_token="<|endoftext|>")
    made["roberta"] = byte_bpe(
        byte_level(True, True, True), ["<s>", "</s>", dict(content="<mask>", lstrip=True)],
        post_processor=lambda ids: dict(type="RobertaProcessing", sep=["</s>", ids["</s>"]], cls=["<s>", ids["<s>"]],
                                        trim_offsets=True, add_prefix_space=True))
    made["cl100k"] = byte_bpe(
        sequence("pretokenizers", split(CL100K, "Removed", True), byte_level()), ["<|endoftext|>", "<|im_sep|>"])
    made["kimi"] = byte_bpe(sequence("pretokenizers", split(KIMI), byte_level()), ["[BOS]", "<|im_user|>"])
    made["falcon"] = byte_bpe(
        sequence("pretokenizers", dict(type="Punctuation", behavior="Contiguous"), byte_level(False, True, True),
                 dict(type="Digits", individual_digits=False), split("[0-9][0-9][0-9]")),
        [">>TITLE<<", "<|endoftext|>"], merges_as_text=True)
    made["bloom"] = byte_bpe(
        sequence("pretokenizers", split(BLOOM), byte_level()), ["<unk>", "<s>", "</s>", "<pad>"],
        post_processor=byte_level(True, False, False))

    clip_pre = sequence("pretokenizers", split(CLIP, "Removed", True), byte_level(False, True, True))
    clip_norm = sequence("normalizers", dict(type="NFC"), dict(type="Replace", pattern={"Regex": r"\s+"}, content=" "),
                         dict(type="Lowercase"))
    vocab, merges = train(as_component("normalizer", clip_norm), as_component("pre_tokenizer", clip_pre), 500,
                          ["<|endoftext|>"], end_of_word_suffix="</w>", alphabet=pre_tokenizers.ByteLevel.alphabet())
    start, end = len(vocab), vocab["<|endoftext|>"]
    made["clip"] = document(
        dict(vocab=vocab, merges=merges, unk_token="<|endoftext|>", continuing_subword_prefix="",
             end_of_word_suffix="</w>"),
        [added(end, "<|endoftext|>"), added(start, "<|startoftext|>", normalized=True)], clip_norm,
        clip_pre,
        dict(type="RobertaProcessing", sep=["<|endoftext|>", end], cls=["<|startoftext|>", start], trim_offsets=False,
             add_prefix_space=False), byte_level(True, True, True))

    llama_decoder = sequence(
        "decoders", dict(type="Replace", pattern={"String": "▁"}, content=" "), dict(type="ByteFallback"), dict(type="Fuse"),
        dict(type="Strip", content=" ", start=1, stop=0))
    to_meta = dict(type="Replace", pattern={"String": " "}, content="▁")
    options = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    model, extra = sentence_piece([dict(content="<unk>", normalized=True), "<s>", "</s>"], **options)
    bos = template([("<s>", 1)])
    made["llama2"] = document(
        model, extra, sequence("normalizers", dict(type="Prepend", prepend="▁"), to_meta), None, bos, llama_decoder)
    model, extra = sentence_piece(["<unk>", "<s>", "</s>"], **options)
    made["mistral"] = document(
        {**model, "merges": [" ".join(pair) for pair in model["merges"]]}, extra, None,
        dict(type="Metaspace", replacement="▁", prepend_scheme="first", split=False), bos, llama_decoder)
    model, extra = sentence_piece(["<pad>", "<eos>", "<bos>", "<unk>", dict(content="<start_of_turn>", special=False)],
                                  runs=("▁", "\n", "\t"), bytes_from=4, **options)
    made["gemma"] = document(
        model, extra, to_meta, split(" ", "MergedWithPrevious", False, "String"), template([("<bos>", 2)]),
        sequence("decoders", *llama_decoder["decoders"][:3]))
    # Not every byte has a token, unknown characters are not joined, and spaces cut.
    model, extra = sentence_piece(["<unk>", "<s>", "</s>"], missing_bytes=range(0x80, 0x100, 3), **{**options, "fuse_unk": False})
    made["metaspace"] = document(
        model, extra, dict(type="NFKC"), dict(type="Metaspace", replacement="▁", add_prefix_space=True), template((), [("</s>", 2)]),
        dict(type="Metaspace", replacement="▁", add_prefix_space=True))

    # Added tokens of every kind over a normalizer that changes much, and pieces cut by classes.
    normalizer = sequence("normalizers", dict(type="NFKD"), dict(type="StripAccents"), dict(type="Lowercase"),
                          dict(type="Strip", strip_left=True, strip_right=False),
                          dict(type="Replace", pattern={"Regex": "[\"“”«»]+"}, content="''"))
    pre = sequence("pretokenizers", dict(type="WhitespaceSplit"), dict(type="Digits", individual_digits=True),
                   dict(type="Punctuation"))
    vocab, merges = train(as_component("normalizer", normalizer), as_component("pre_tokenizer", pre), 420)
    vocab["[UNK]"] = len(vocab)
    odd = [dict(content="[MASK]", lstrip=True), dict(content="<R>", rstrip=True), dict(content="<LR>", lstrip=True, rstrip=True),
           dict(content="word", single_word=True, special=False), dict(content="Day", normalized=True, special=False),
           dict(content="Day Trip", normalized=True, special=False), dict(content="É", normalized=True, special=True),
           dict(content="<a>", special=False), dict(content="<a><b>"), dict(content="b><c", single_word=True, lstrip=True),
           dict(content="the", normalized=True, single_word=True, special=False, rstrip=True), dict(content="  ", special=False),
           dict(content="½", normalized=True), dict(content="...", normalized=True, special=False), dict(content="名詞", single_word=True)]
    ids = dict(vocab)
    for token in odd:
        ids.setdefault(token["content"], len(ids))
    made["odd"] = document(
        dict(vocab=vocab, merges=merges, unk_token="[UNK]", fuse_unk=False),
        [added(ids["[UNK]"], "[UNK]")] + [added(ids[t["content"]], **t) for t in odd], normalizer, pre,
        dict(type="BertProcessing", sep=["[UNK]", ids["[UNK]"]], cls=["[MASK]", ids["[MASK]"]]), None)
    vocab, merges = train(None, pre_tokenizers.Whitespace(), 420, characters=90, end_of_word_suffix="</w>")
    made["gpt1"] = document(
        dict(vocab=vocab, merges=merges, end_of_word_suffix="</w>"), [added(len(vocab), "<eos>")], None,
        dict(type="Whitespace"), None, dict(type="BPEDecoder", suffix="</w>"))
    made["pieces"] = document(
        dict(vocab=vocab, merges=merges, end_of_word_suffix="</w>"), [added(len(vocab), "<eos>")], None,
        sequence("pretokenizers", dict(type="CharDelimiterSplit", delimiter="-"), dict(type="BertPreTokenizer"),
                 dict(type="FixedLength", length=6)), None, dict(type="BPEDecoder", suffix="</w>"))
    return made


def byte_offsets(text, offsets):
    starts = [0]
    for c in text:
        starts.append(starts[-1] + len(c.encode()))
    return [starts[at] for pair in offsets for at in pair]


def expected(tokenizer, tokens, texts, own, rng):
    encoded = []
    for i, text in enumerate(texts + own):
        with_special = tokenizer.encode(text)
        bare = tokenizer.encode(text, add_special_tokens=False)
        keep_offsets = len(text) < 60 and i % 3 != 1
        encoded.append([with_special.ids, None if bare.ids == with_special.ids else bare.ids,
                        byte_offsets(text, with_special.offsets) if keep_offsets else None])
    limit = max(tokenizer.get_vocab().values()) + 1
    ids = [[], [0], [limit, 1, limit + 7]]
    ids += [encoded[rng.randrange(len(encoded))][0][:40] for _ in range(40)]
    ids += [[rng.randrange(limit) for _ in range(rng.randint(1, 8))] for _ in range(80)]  # often no valid UTF-8
    ids += [[rng.choice(tokens) if rng.random() < 0.4 else rng.randrange(limit) for _ in range(6)] for _ in range(30)]
    low = min(limit, 300)
    ids += [[rng.randrange(low) for _ in range(rng.randint(1, 6))] for _ in range(60)]
    decoded = [[i, tokenizer.decode(i, skip_special_tokens=False), tokenizer.decode(i, skip_special_tokens=True)] for i in ids]
    return dict(own=own, encoded=encoded, decoded=decoded)


def main():
    folder = pathlib.Path(sys.argv[1])
    rng = random.Random(20240611)
    texts = FIXED + [random_text(rng, []) for _ in range(80)]
    dump = dict(ensure_ascii=False, separators=(",", ":"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "texts.json").write_text(json.dumps(texts, **dump) + "\n", encoding="utf-8")
    for name, content in make_tokenizers().items():
        target = folder / name
        target.mkdir(exist_ok=True)
        path = target / "tokenizer.json"
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(content, **dump) + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_str(json.dumps(content))
        specials = [t["content"] for t in content["added_tokens"]]
        own = [random_text(rng, specials) for _ in range(40)]
        own += ["".join(rng.choice(["", " ", "  ", "\n", "a", "é", "_", "1", "\u00a0"]) + rng.choice(specials)
                        for _ in range(4)) + rng.choice(["", " ", "x"]) for _ in range(25)]
        result = expected(tokenizer, [t["id"] for t in content["added_tokens"]], texts, own, rng)
        (target / "expected.json").write_text(json.dumps(result, **dump) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
