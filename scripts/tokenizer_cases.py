"""Small tokenizers, one or more for each component that `tokenizers` 0.22 has, trained on a few lines.
golden_tokenizer.py and parity_tokenizer.py run them."""

import base64
import json
import tempfile
from pathlib import Path

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers as norm, pre_tokenizers as pre,
                        processors, trainers)

CORPUS = (["The quick brown fox jumps over the lazy dog. It's 1984, isn't it? They've 3.14 apples; we'll see.",
           "Taiwan has been called many things since ancient times; the towns of the island have names.",
           "台湾的城市有自己的名字。中国的历史很长，城市很多。他们说什么？", "臺灣的城市有自己的名字。中國的歷史很長。",
           "for (int i = 0; i < 10; ++i) {\n\treturn x;\n}", "Größe, naïve café, façade; Привет мир, κόσμος"] * 20)
SPACE = "▁"
# Rules of a character map as SentencePiece writes them: from, a tab, to (hexadecimal).
CHARACTER_MAP = {"\u3000": " ", "\t": " ", "\r": " ", "\n": " ", "ﬁ": "fi", "①": "1", "Ａ": "A", "\u200b": "",
                 "\u00ad": "", "①\u0301": "x", "e\u0301": "é", "…": "...", "か\u3099": "が", "㍿": "株式会社",
                 "\u0300": "", "\u212b": "\u00c5", "½": "1⁄2"}


def added(*tokens, special=()):
    return [AddedToken(t, special=False, normalized=False) for t in tokens] + [
        AddedToken(t, special=True, normalized=False) for t in special]


def template(before=(), after=(), tokenizer=None):
    pieces = [*before, "$A", *after]
    return processors.TemplateProcessing(
        single=" ".join(pieces), pair=" ".join(pieces + ["$B:1"]),
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in {*before, *after}])


def train(model, pre_tokenizer, trainer, normalizer=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def bpe(size=420, special=(), alphabet=(), pre_tokenizer=None, normalizer=None, trainer=None, **options):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), initial_alphabet=list(alphabet),
                                  show_progress=False, **(trainer or {}))
    return train(models.BPE(**options), pre_tokenizer or pre.ByteLevel(False), trainer, normalizer)


def with_model(tokenizer, **changes):
    """The same with some settings of the model changed in its JSON, and no added tokens yet."""
    data = dict(json.loads(tokenizer.to_str()), added_tokens=[])
    data["model"].update(changes)
    return Tokenizer.from_str(json.dumps(data))


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def llama2():
    t = bpe(600, ["<unk>", "<s>", "</s>", *BYTES], pre_tokenizer=pre.Metaspace(), unk_token="<unk>")
    t = with_model(t, byte_fallback=True, fuse_unk=True)
    t.pre_tokenizer = None
    t.normalizer = norm.Sequence([norm.Prepend(SPACE), norm.Replace(" ", SPACE)])
    t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.post_processor = template(["<s>"], (), t)
    t.add_tokens(added(special=["<unk>", "<s>", "</s>"]))
    return t


def gemma():
    t = bpe(700, ["<pad>", "<eos>", "<bos>", "<unk>", *BYTES, "\n", "\n\n", SPACE * 2, SPACE * 3, "<b>"],
            pre_tokenizer=pre.Metaspace(prepend_scheme="never"), unk_token="<unk>")
    t = with_model(t, byte_fallback=True, fuse_unk=True, ignore_merges=True)
    t.normalizer = norm.Replace(" ", SPACE)
    t.pre_tokenizer = pre.Split(" ", "merged_with_previous", False)
    t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    t.post_processor = template(["<bos>"], ["<eos>"], t)
    t.add_tokens(added("\n", "\n\n", SPACE * 2, SPACE * 3, "<b>", special=["<pad>", "<eos>", "<bos>", "<unk>"]))
    return t


def few_bytes():
    """Byte fallback with most bytes missing, unknown characters not fused."""
    t = bpe(300, ["<unk>", *BYTES[0xC0:0xF0], *BYTES[0x80:0xA0]], pre_tokenizer=pre.Metaspace(), unk_token="<unk>")
    t = with_model(t, byte_fallback=True, fuse_unk=False)
    t.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    return t


def roberta():
    t = bpe(500, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], pre.ByteLevel.alphabet(), pre.ByteLevel(True))
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, True)
    t.add_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False), *added(special=["<s>", "</s>"])])
    return t


def trimmed():
    t = bpe(450, ["<s>"], pre.ByteLevel.alphabet(), pre.ByteLevel(False))
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.Sequence([processors.ByteLevel(True, False, True), template(["<s>"], ["<s>"], t)])
    t.add_tokens([AddedToken(" in ", normalized=True), AddedToken("<x>", rstrip=True, lstrip=True)])
    return t


def clip():
    t = bpe(500, ["<|startoftext|>", "<|endoftext|>"], pre.ByteLevel.alphabet(),
            trainer={"end_of_word_suffix": "</w>"}, end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    t.normalizer = norm.Sequence([norm.NFC(), norm.Replace(Regex(r"\s+"), " "), norm.Lowercase()])
    t.pre_tokenizer = pre.Sequence([
        pre.Split(Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"),
                  "removed", True), pre.ByteLevel(False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0), False, False)
    return t


def gpt1():
    t = bpe(350, ["<unk>"], pre_tokenizer=pre.BertPreTokenizer(), normalizer=norm.BertNormalizer(),
            trainer={"end_of_word_suffix": "</w>"}, end_of_word_suffix="</w>", unk_token="<unk>")
    t.decoder = decoders.BPEDecoder("</w>")
    return t


def prefixed():
    """Sub-words marked at their beginning, unknown characters fused; no decoder."""
    t = bpe(350, ["[UNK]"], pre_tokenizer=pre.Sequence([pre.WhitespaceSplit(), pre.Punctuation("contiguous"),
                                                        pre.Digits(False)]),
            trainer={"continuing_subword_prefix": "##"}, continuing_subword_prefix="##", unk_token="[UNK]",
            fuse_unk=True)
    t.normalizer = norm.Sequence([norm.NFKC(), norm.Strip(True, False)])
    return t


def falcon():
    t = bpe(450, [">>TITLE<<"], pre.ByteLevel.alphabet())
    t.pre_tokenizer = pre.Sequence([pre.Punctuation("merged_with_previous"), pre.ByteLevel(False), pre.Digits(True),
                                    pre.Split(Regex("[0-9][0-9][0-9]"), "isolated", False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(False)
    return t


def byte_normalizer():
    t = bpe(450, (), pre.ByteLevel.alphabet())
    t.normalizer = norm.Sequence([norm.NFD(), norm.ByteLevel()])
    t.pre_tokenizer = pre.Split(Regex("Ġ?[^Ġ]+|Ġ+"), "isolated", False)
    t.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
    t.add_tokens([AddedToken("the lazy", normalized=True), AddedToken("Größe", normalized=True)])
    return t


def nested_classes():
    t = bpe(420, (), pre.ByteLevel.alphabet())
    t.pre_tokenizer = pre.Sequence([
        pre.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), "isolated", False),
        pre.Split(Regex(r"[\p{L}&&[^\p{Han}]]+|[a-z&&[aeiou]]|[^\p{L}]"), "merged_with_next", False),
        pre.ByteLevel(False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    return t


def unigram(size=300, special=("<unk>",), pre_tokenizer=None, normalizer=None):
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=list(special), unk_token="<unk>",
                                      show_progress=False)
    t = train(models.Unigram(), pre_tokenizer or pre.Metaspace(), trainer, normalizer)
    data = dict(json.loads(t.to_str()), added_tokens=[])
    # Scores of training change from run to run in their last digits.
    data["model"]["vocab"] = [[token, round(score, 4)] for token, score in data["model"]["vocab"]]
    return Tokenizer.from_str(json.dumps(data))


def sentence_piece(kind, folder, **options):
    """A SentencePiece model with a character map of its own; returns its file."""
    import sentencepiece

    rules = Path(folder) / "rules.tsv"
    codes = lambda text: " ".join(f"{ord(c):X}" for c in text)
    rules.write_text("".join(f"{codes(a)}\t{codes(b)}\n" for a, b in sorted(CHARACTER_MAP.items())), "utf-8")
    text = Path(folder) / "corpus.txt"
    text.write_text("\n".join(CORPUS), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(Path(folder) / "m"), model_type=kind, normalization_rule_tsv=str(rules),
        minloglevel=2, **options)
    return Path(folder) / "m.model"


def character_map():
    """SentencePiece keeps the compiled map in its model: field 3 (normalizer_spec), field 2 of it."""
    with tempfile.TemporaryDirectory() as folder:
        data = sentence_piece("unigram", folder, vocab_size=200, hard_vocab_limit=False).read_bytes()

    def field(data, wanted):
        at = 0

        def number():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value

        while at < len(data):
            key = number()
            if key & 7 == 0:
                number()
            elif key & 7 == 5:
                at += 4
            else:
                size = number()
                if key >> 3 == wanted:
                    return data[at:at + size]
                at += size
        raise ValueError("no such field")

    return field(field(data, 3), 2)


def precompiled():
    data = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(character_map()).decode()}
    t = Tokenizer(models.Unigram())
    whole = json.loads(t.to_str())
    whole["normalizer"] = data
    return Tokenizer.from_str(json.dumps(whole)).normalizer


def t5():
    t = unigram(300, ["<pad>", "</s>", "<unk>"])
    t.normalizer = precompiled()
    t.pre_tokenizer = pre.Metaspace(prepend_scheme="always")
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.post_processor = template((), ["</s>"], t)
    t.add_tokens([AddedToken("<extra_id_0>", lstrip=True, rstrip=True, special=True, normalized=False),
                  *added(special=["</s>", "<unk>"])])
    return t


def albert():
    t = unigram(300, ["[CLS]", "[SEP]", "<unk>"])
    t.normalizer = norm.Sequence([norm.Replace("``", '"'), norm.Replace("''", '"'), norm.NFKD(), norm.StripAccents(),
                                  norm.Lowercase(), precompiled(), norm.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre.Sequence([pre.WhitespaceSplit(), pre.Metaspace(prepend_scheme="first")])
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    t.post_processor = template(["[CLS]"], ["[SEP]"], t)
    t.add_tokens([AddedToken("Fox", normalized=True), AddedToken("dog", normalized=True, single_word=True)])
    return t


def unigram_bytes():
    t = with_model(unigram(560, ["<unk>", *BYTES]), byte_fallback=True)
    t.normalizer = norm.Sequence([norm.Nmt(), norm.NFKC(), norm.Strip(False, True)])
    t.pre_tokenizer = pre.Sequence([pre.UnicodeScripts(), pre.Metaspace(prepend_scheme="never", split=True)])
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    return t


def bert(lowercase=True):
    trainer = trainers.WordPieceTrainer(vocab_size=320, show_progress=False,
                                        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    t = train(models.WordPiece(unk_token="[UNK]"), pre.BertPreTokenizer(), trainer, norm.BertNormalizer(True, True, None, lowercase))
    t.decoder = decoders.WordPiece()
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.add_tokens([AddedToken("[MASK]", lstrip=True, special=True, normalized=False), AddedToken("Taiwan", normalized=True),
                  *added(special=["[CLS]", "[SEP]", "[PAD]", "[UNK]"])])
    return t


def bert_cased():
    t = with_model(bert(False), max_input_chars_per_word=6)
    t.normalizer = norm.BertNormalizer(False, False, True, False)
    t.pre_tokenizer = pre.Whitespace()
    t.decoder = decoders.WordPiece(cleanup=False)
    return t


def word_level():
    trainer = trainers.WordLevelTrainer(vocab_size=120, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    t = train(models.WordLevel(unk_token="[UNK]"), pre.Whitespace(), trainer)
    t.post_processor = template(["[CLS]"], ["[CLS]"], t)
    return t


def ctc():
    vocabulary = {c: i for i, c in enumerate(["<pad>", "<unk>", "|", *"ETAOIN'", "n't", "."])}
    t = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    t.normalizer = norm.Replace(" ", "|")
    t.pre_tokenizer = pre.Sequence([pre.CharDelimiterSplit("-"), pre.FixedLength(1)])
    t.decoder = decoders.CTC()
    return t


def fixed_length():
    t = unigram(260)
    t.pre_tokenizer = pre.Sequence([pre.Metaspace(replacement="_", prepend_scheme="always"), pre.FixedLength(3)])
    t.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex("_+"), " "), decoders.Strip(" ", 2, 0)])
    return t


CASES = {f.__name__: f for f in (
    llama2, gemma, few_bytes, roberta, trimmed, clip, gpt1, prefixed, falcon, byte_normalizer, nested_classes, t5,
    albert, unigram_bytes, bert, bert_cased, word_level, ctc, fixed_length)}
