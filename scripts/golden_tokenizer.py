#!/usr/bin/env python3
"""Writes tests/data/text: small BPE tokenizers of several shapes and what `tokenizers` makes of 100
strings with each. Needs `tokenizers` and `jinja2`; run again only to change the cases.

    scripts/golden_tokenizer.py [OUT]
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).parent))
import parity_tokenizer as parity

ROOT = Path(__file__).resolve().parent.parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CORPUS = (["The quick brown fox jumps over the lazy dog. It's 1984, isn't it? They've 3.14 apples; we'll see.",
           "Taiwan has been called many things since ancient times; the towns of the island have names.",
           "台湾的城市有自己的名字。中国的历史很长，城市很多。他们说什么？", "for (int i = 0; i < 10; ++i) {\n\treturn x;\n}",
           "Größe, naïve café, façade; Привет мир, κόσμος"] * 20)


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


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/text"
    rng = random.Random(7)
    assigned, _ = parity.code_points()
    words = sorted({word for line in CORPUS for word in line.split()})
    special = ["<|endoftext|>", "<|im_start|>", " <mask> ", " <end>\n x", "<both>  ", " Word ", "SWord", "Words", "cafe\u0301",
               "Café", "CAFÉ", "<|im", "   "]
    for name in ("smollm", "llama3", "gpt2", "mixed"):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        data = build(name)
        (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), "utf-8")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        texts = ["", " ", "a"] + CORPUS[:5] + [
            parity.random_string(rng, assigned, words, special) for _ in range(92)]
        with open(folder / "golden.jsonl", "w", encoding="utf-8") as file:
            for text in texts:
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                row = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                       "plain": tokenizer.decode(ids, skip_special_tokens=True)}
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
