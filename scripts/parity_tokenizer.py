#!/usr/bin/env python3
"""Compares `resurface tokenize` with Hugging Face's `tokenizers`: ids, offsets, special tokens, decoding.

    scripts/parity_tokenizer.py MODEL_FOLDER ... [--built] [--binary build/cpu/resurface] [--text FILE ...]

Strings: lines of --text files (the repository's own text by default) and random ones made from every
plane of Unicode, Chinese, emoji, control characters, white space, numbers, words and special tokens.
Prints counts; exits 1 when any string differs.

Random characters are those that Unicode 14 assigns (Python 3.11's unicodedata), private use and
non-characters. PCRE2 10.42 knows Unicode 14, the regexes of `tokenizers` know 16: a character too new for
one of them is treated otherwise by it. Those are left out; --new-characters counts them as well, without
failing.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer, normalizers

ROOT = Path(__file__).resolve().parent.parent
CHINESE = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装台湾，。！？、；：「」『』（）《》"
EMOJI = ["😀", "🎉", "👩‍👩‍👧‍👦", "🇹🇼", "🇺🇳", "❤️", "👍🏽", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "☃", "🫠"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\u00a0", "\u3000", "\u2028", "\u2029", "\x0b",
          "\x0c", "\x85", "\u1680", "\u180e", "\u200b", "\u202f", "\ufeff", "\u2000"]
PIECES = ["'s", "'S", "'re", "'LL", "’s", "'ſ", "don't", "I'VE", "1234567", "3.14", "1,000", "½", "Ⅷ", "٣٤٥", "१२",
          "e\u0301", "é", "Å", "Å", "ﬁ", "ß", "ẞ", "İ", "ı", "Σ", "ς", "ǅ", "한", "\u1112\u1161\u11ab", "가", "か\u3099",
          "ـ", "لا", "عربي", "नमस्ते", "ไทย", "κόσμος", "Привет", "a\u0300\u0316", "\u0344", "ḍ̇", "_", "__init__", "==",
          "//", "...", "!?", "$", "€", "{}", "<|", "|>", "<", "\\n", "http://", "@", "#", "camelCase", "UPPER", "\x00"]


def code_points():
    """Assigned in Unicode 14, private use, and non-characters, which stay unassigned for ever."""
    assigned, newer = [], []
    nfkd = normalizers.NFKD()

    def same(c):  # in decomposition and in order among combining marks
        text = f"\u0345{chr(c)}\u0316"
        return nfkd.normalize_str(text) == unicodedata.normalize("NFKD", text)

    for plane in range(17):
        for low in range(0x10000):
            c = plane << 16 | low
            if 0xD800 <= c <= 0xDFFF:
                continue
            known = unicodedata.category(chr(c)) != "Cn" or low >= 0xFFFE or 0xFDD0 <= c <= 0xFDEF
            if known and same(c):
                assigned.append(c)
            else:
                newer.append(c)
    return assigned, newer


def random_string(rng, points, words, special):
    def one():
        kind = rng.random()
        if kind < 0.25:
            return rng.choice(words)
        if kind < 0.42:
            return rng.choice(SPACES)
        if kind < 0.54:
            return "".join(rng.choices(CHINESE, k=rng.randint(1, 8)))
        if kind < 0.66:
            return rng.choice(PIECES)
        if kind < 0.72:
            return str(rng.randint(0, 10 ** rng.randint(1, 12)))
        if kind < 0.77:
            return chr(rng.randint(0, 0x9F))
        if kind < 0.82:
            return rng.choice(EMOJI)
        if kind < 0.87:
            return rng.choice(special)
        if kind < 0.95:
            return chr(rng.choice(points))
        start = rng.randrange(len(points) - 20)  # neighbours: one script
        return "".join(chr(rng.choice(points[start:start + 20])) for _ in range(rng.randint(1, 5)))

    return "".join(one() for _ in range(rng.randint(0, 14)))


def in_bytes(text, offsets):
    """Character offsets, as Python's `tokenizers` gives them, to byte offsets."""
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[begin], at[end]] for begin, end in offsets]


def in_characters(text, offsets):
    """Byte offsets to those of the characters that they touch."""
    if text.isascii():
        return [tuple(span) for span in offsets]
    of = [i for i, c in enumerate(text) for _ in range(len(c.encode()))] + [len(text)]
    return [(of[begin], of[end - 1] + 1 if end > begin else of[begin]) for begin, end in offsets]


def byte_alphabet():
    """GPT-2's: byte to letter."""
    same = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in same]
    return {byte: chr(byte) for byte in same} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def bytes_without_token(reference):
    """Bytes that a byte-level tokenizer lacks a token for (SmolLM2 has none for 0x1D) and leaves out. `tokenizers` then
    adds up the lengths of the tokens that are there, so that all offsets behind such a byte lie too far to the left;
    ours do not, and these strings' offsets are not compared."""
    state = json.loads(reference.to_str())
    if '"ByteLevel"' not in json.dumps(state["pre_tokenizer"]) or state["model"].get("unk_token"):
        return set()
    vocabulary = state["model"].get("vocab", {})
    return {byte for byte, letter in byte_alphabet().items() if letter not in vocabulary}


def run(binary, model, lines, *flags):
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as got:
        given.writelines(json.dumps(line) + "\n" for line in lines)
        given.seek(0)
        subprocess.run([binary, "tokenize", "--model", model, *flags], stdin=given, stdout=got, check=True)
        got.seek(0)
        out = [json.loads(line) for line in got]
    if len(out) != len(lines):
        sys.exit(f"{binary} answered {len(out)} lines to {len(lines)}")
    return out


def compare(kind, given, ours, theirs):
    wrong = [i for i in range(len(given)) if ours[i] != theirs[i]]
    print(f"  {kind}: {len(given)} compared, {len(wrong)} differ")
    for i in wrong[:3]:
        print(f"    {given[i]!r}\n      ours   {ours[i]}\n      theirs {theirs[i]}")
    return not wrong


def check(model, args, count, real, points):
    """One tokenizer; whether nothing differs, and how many strings were compared."""
    assigned, newer = points
    reference = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    reference.no_truncation()  # some files ask for these; a model's caller decides
    reference.no_padding()
    special = [token.content for token in reference.get_added_tokens_decoder().values()] or ["<none>"]
    special += [token[:-1] for token in special]
    words = sorted({word for line in real for word in line.split()}) or ["word"]
    rng = random.Random(args.seed)
    strings = real + [random_string(rng, assigned, words, special) for _ in range(count)]
    low = [chr(c) for c in assigned if c < 0x3000]
    strings += low + [f"a{c} 1" for c in low]

    expected = reference.encode_batch(strings, add_special_tokens=False)
    ids = [e.ids for e in expected]
    print(f"{model}: {len(real)} real and {len(strings) - len(real)} made strings, {sum(map(len, ids))} tokens")
    ours = run(args.binary, model, strings, "--offsets")
    good = compare("ids", strings, [row["ids"] for row in ours], ids)
    without = bytes_without_token(reference)
    whole = [i for i, text in enumerate(strings) if not without or without.isdisjoint(text.encode())]
    good &= compare("offsets", [strings[i] for i in whole],
                    [in_characters(strings[i], ours[i]["offsets"]) for i in whole], [expected[i].offsets for i in whole])
    some = strings[:: max(1, len(strings) // 20_000)]
    good &= compare("ids with special tokens", some, run(args.binary, model, some, "--special"),
                    [e.ids for e in reference.encode_batch(some)])

    id_lists = ids[:: max(1, len(ids) // args.decode)]
    size = reference.get_vocab_size()
    id_lists += [[rng.randrange(size) for _ in range(rng.randint(1, 12))] for _ in range(args.decode)]
    for skip, flags in ((False, ()), (True, ("--skip-special",))):
        texts = reference.decode_batch(id_lists, skip_special_tokens=skip)
        good &= compare(" ".join(("decode", *flags)), id_lists, run(args.binary, model, id_lists, "--decode", *flags), texts)

    if args.new_characters:
        fresh = [random_string(rng, newer, words, special) for _ in range(count // 10)]
        ids = [e.ids for e in reference.encode_batch(fresh, add_special_tokens=False)]
        compare("newer characters (not counted)", fresh, run(args.binary, model, fresh), ids)
    return good, len(strings)


def models_of(names, work):
    """Folders with a tokenizer.json: those named, files named (laid into a folder each), and below
    folders that have none."""
    for name in map(Path, names):
        if name.is_dir() and not (name / "tokenizer.json").exists():
            files = [*name.rglob("*tokenizer*.json")]
        else:
            files = [name / "tokenizer.json" if name.is_dir() else name]
        for file in sorted(files):
            try:
                data = json.loads(file.read_text("utf-8"))
            except ValueError:
                continue
            if not isinstance(data, dict) or "model" not in data or "added_tokens" not in data:
                continue
            if file.name == "tokenizer.json":
                yield str(file.parent)
                continue
            folder = Path(work) / file.stem
            folder.mkdir()
            (folder / "tokenizer.json").symlink_to(file.resolve())
            yield str(folder)


def built(work):
    import tokenizer_cases

    for name, case in tokenizer_cases.CASES.items():
        try:
            text = case().to_str()
        except ModuleNotFoundError as missing:
            print(f"{name}: left out ({missing})")
            continue
        folder = Path(work) / name
        folder.mkdir()
        (folder / "tokenizer.json").write_text(text, "utf-8")
        yield str(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="*", help="folders with tokenizer.json, such files, or folders to search")
    parser.add_argument("--built", action="store_true", help="also those of tokenizer_cases.py, on a tenth of the strings")
    parser.add_argument("--binary", default=str(ROOT / "build/cpu/resurface"))
    parser.add_argument("--text", type=Path, nargs="*", help="text files whose lines are compared too")
    parser.add_argument("--count", type=int, default=200_000, help="random strings a tokenizer")
    parser.add_argument("--decode", type=int, default=50_000, help="lists of ids of each kind to decode")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--new-characters", action="store_true", help="also count strings with newer characters")
    args = parser.parse_args()

    files = args.text
    if files is None:
        tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True).stdout.split("\n")
        endings = (".md", ".h", ".cpp", ".py", ".jsonl", ".txt")
        files = [ROOT / name for name in tracked if name.endswith(endings) and "tests/data/text" not in name]
    real = sorted({line for file in files for line in file.read_text("utf-8").splitlines(keepends=True)})
    points = code_points()
    results = []
    with tempfile.TemporaryDirectory() as work:
        results += [check(model, args, args.count, real, points) for model in models_of(args.model, work)]
        if args.built:  # a tenth of the strings each, as they are many
            results += [check(model, args, args.count // 10, real[::10], points) for model in built(work)]
    good = bool(results) and all(fine for fine, _ in results)
    total = sum(strings for _, strings in results)
    print(f"{len(results)} tokenizers, {total} strings: {'all equal' if good else 'NOT all equal'}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
