#!/usr/bin/env python3
"""Writes tests/data/text: small tokenizers and what `tokenizers`, `sentencepiece` and `tiktoken` make of
strings with each. Needs these and `jinja2`; run again only to change the cases.

    scripts/golden_tokenizer.py [OUT]
"""

import base64
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

import sentencepiece
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).parent))
import parity_tokenizer as parity
import tokenizer_cases as cases

ROOT = Path(__file__).resolve().parent.parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# Kimi-K2's tokenization_kimi.py and Qwen's tokenization_qwen.py.
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CORPUS = (["The quick brown fox jumps over the lazy dog. It's 1984, isn't it? They've 3.14 apples; we'll see.",
           "Taiwan has been called many things since ancient times; the towns of the island have names.",
           "台湾的城市有自己的名字。中国的历史很长，城市很多。他们说什么？", "for (int i = 0; i < 10; ++i) {\n\treturn x;\n}",
           "Größe, naïve café, façade; Привет мир, κόσμος"] * 20)
SPECIAL = ["<|endoftext|>", "<|im_start|>", " <mask> ", " <end>\n x", "<both>  ", " Word ", "SWord", "Words", "cafe\u0301",
           "Café", "CAFÉ", "<|im", "   ", "<s>", "</s>", "<unk>", " [MASK]", "[CLS]", "Taiwan", "<extra_id_0>", "<x>", " in ",
           "fox", "dogs", "``", "[BOS]", "<|reserved_token_370|>", "<|extra_3|>", "▁▁", "<b>", "<0x41>"]
STRINGS = ["", " ", "a", "  two  spaces ", "\t\n\r\n", "I'm ﬁne…", "①\u0301 e\u0301 か\u3099 ㍿", "\u200b\u00ad", "ΑΣ İSTANBUL ẞ",
           "👩‍👩‍👧‍👦 🇹🇼 👍🏽", "漢字カタカナひらがなーabc한글", "(a|b)[c], 1234567 ½²Ⅷ٣", "臺灣 do not n't 's", "x\x00\x07\x7f\x85y", "ÅÅA\u030a",
           "﻿bom", "عربي नमस्ते ไทย", "ONE|TWO--T.N'T", "\n\x85", "a\u1734 1", "x<mask>变<s>𧺯", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "café"]


def ordinary():
    return [AddedToken("<|endoftext|>", special=True, normalized=False),
            AddedToken("<|im_start|>", special=True, normalized=False),
            AddedToken("<|im_end|>", special=True, normalized=False)]


def exotic():
    return ordinary() + [
        AddedToken("<mask>", lstrip=True, special=True, normalized=False),
        AddedToken("<end>", rstrip=True, special=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
        AddedToken("Word", single_word=True, normalized=True),
        AddedToken("<|im", normalized=False),
        AddedToken("Café", normalized=True),
        AddedToken("  ", normalized=False),
    ]


def build(name):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3", fuse_unk=name == "mixed"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=name == "mixed", use_regex=name != "llama3")
    if name == "smollm":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level])
        tokenizer.decoder = decoders.ByteLevel()
    elif name == "llama3":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(LLAMA3), "isolated", False), byte_level])
        tokenizer.decoder = decoders.ByteLevel()
    elif name == "gpt2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = byte_level
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKD(), normalizers.Lowercase(), normalizers.Strip(),
             normalizers.Replace("ss", "ß"), normalizers.Replace(Regex(r"[\r\n]+"), "\n"), normalizers.Prepend("_")])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(",", "merged_with_previous", False),
             pre_tokenizers.Split("(", "merged_with_next", False),
             pre_tokenizers.Split(Regex(r"[\p{So}|]"), "removed", False),
             pre_tokenizers.Split(Regex(r"\w+|\S\b"), "contiguous", True),
             pre_tokenizers.Digits(False), byte_level])
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
    special = ["<unk>"] if name == "mixed" else []
    # "mixed" has no full byte alphabet, so that unknown bytes occur.
    alphabet = [] if name == "mixed" else pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=special, show_progress=False))
    data = json.loads(tokenizer.to_str())
    if name == "mixed":
        data["model"]["unk_token"] = "<unk>"
    if name == "gpt2":  # the older way of writing merges
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens(ordinary() if name in ("smollm", "llama3") else exotic())
    added = json.loads(tokenizer.to_str())["added_tokens"]
    return dict(data, added_tokens=added)


def write(folder, texts, row):
    with open(folder / "golden.jsonl", "w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text, **row(text)}, separators=(",", ":")) + "\n")


def of_tokenizers(folder, texts):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def row(text):
        plain, special = tokenizer.encode(text, add_special_tokens=False), tokenizer.encode(text)
        return {"ids": plain.ids, "offsets": parity.in_bytes(text, plain.offsets), "special": special.ids,
                "decoded": tokenizer.decode(plain.ids, skip_special_tokens=False),
                "plain": tokenizer.decode(special.ids, skip_special_tokens=True)}

    write(folder, texts, row)


def of_sentencepiece(folder, kind, texts, **options):
    flags = {"vocab_size": 340, "hard_vocab_limit": False, "user_defined_symbols": ["<b>", "▁▁"], **options}
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(cases.sentence_piece(kind, work, **flags), folder / "tokenizer.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    size = processor.get_piece_size()
    special = {processor.id_to_piece(i): i for i in range(size) if processor.is_control(i) or processor.is_unknown(i)}
    before, after = [processor.bos_id()], []
    if kind == "unigram":  # a token of its own, and eos in place of bos
        special["<|im_start|>"], before, after = size, [], [processor.eos_id()]
        config = {"add_bos_token": False, "add_eos_token": True, "added_tokens_decoder": {
            str(special[content]): {"content": content, "special": True} for content in ("</s>", "<|im_start|>")}}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    cut = re.compile("(" + "|".join(map(re.escape, special)) + ")")

    def row(text):
        ids = [i for part in cut.split(text) if part
               for i in ([special[part]] if part in special else processor.encode(part))]
        contents, decoded = {i: content for content, i in special.items()}, ""
        for is_special, run in itertools.groupby(ids, contents.__contains__):
            decoded += "".join(map(contents.get, run)) if is_special else processor.decode(list(run))
        return {"ids": ids, "special": before + ids + after, "decoded": decoded}

    write(folder, texts, row)


def of_tiktoken(folder, file, pattern, texts):
    tokenizer = cases.bpe(380, (), pre_tokenizers.ByteLevel.alphabet())
    letters = {letter: byte for byte, letter in parity.byte_alphabet().items()}
    ranks = {bytes(letters[c] for c in token): i for token, i in tokenizer.get_vocab().items()}
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in sorted(ranks.items(), key=lambda r: r[1])]
    (folder / file).write_text("\n".join(lines) + "\n")
    if file == "qwen.tiktoken":
        names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]
    else:
        names = [f"<|reserved_token_{len(ranks) + i}|>" for i in range(256)]
        named = {0: "[BOS]", 1: "[EOS]", 2: "<|im_end|>", 7: "<|im_start|>"}
        for i, content in named.items():
            names[i] = content
        config = {"added_tokens_decoder": {str(len(ranks) + i): {"content": c, "special": True} for i, c in named.items()}}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    special = {content: len(ranks) + i for i, content in enumerate(names)}
    reference = tiktoken.Encoding("golden", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)

    def row(text):
        normal = normalizers.NFC().normalize_str(text) if file == "qwen.tiktoken" else text
        ids = reference.encode(normal, allowed_special="all")
        return {"ids": ids, "special": ids, "decoded": reference.decode(ids)}

    write(folder, texts, row)


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/text"
    rng = random.Random(7)
    assigned, _ = parity.code_points()
    words = sorted({word for line in CORPUS for word in line.split()})

    def folder(name):
        (out / name).mkdir(parents=True, exist_ok=True)
        return out / name

    def texts(count):
        return STRINGS + CORPUS[:5] + [parity.random_string(rng, assigned, words, SPECIAL) for _ in range(count)]

    for name in ("smollm", "llama3", "gpt2", "mixed"):
        text = json.dumps(build(name), ensure_ascii=False)
        (folder(name) / "tokenizer.json").write_text(text, "utf-8")
        of_tokenizers(out / name, texts(75))
    for name, case in cases.CASES.items():
        (folder(name) / "tokenizer.json").write_text(case().to_str(), "utf-8")
        of_tokenizers(out / name, texts(15))
    of_sentencepiece(folder("sentencepiece_bpe"), "bpe", texts(15), byte_fallback=True, vocab_size=600)
    of_sentencepiece(folder("sentencepiece_unigram"), "unigram", texts(15))
    of_tiktoken(folder("kimi"), "tiktoken.model", KIMI, texts(15))
    of_tiktoken(folder("qwen"), "qwen.tiktoken", QWEN, texts(15))


if __name__ == "__main__":
    main()
