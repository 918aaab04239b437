#!/usr/bin/env python3
"""Writes eval/detectors/han_variants.inc: pairs of a traditional and its simplified character.

    python scripts/make_han_variants.py > eval/detectors/han_variants.inc

Pairs come from ICU's transliteration (the `uconv` program), over the common characters of Big5 (level 1).
A traditional character counts when GB 2312 lacks it. Its simplified form marks simplified text only when
Big5 lacks it in turn; forms such as 后, 里 and 台, which traditional text uses too, go to a second list.
"""
import subprocess
import textwrap


def encodable(character, charset):
    try:
        character.encode(charset)
        return True
    except UnicodeEncodeError:
        return False


def common_traditional():
    for lead in range(0xA4, 0xC7):
        for trail in [*range(0x40, 0x7F), *range(0xA1, 0xFF)]:
            try:
                yield bytes([lead, trail]).decode("big5")
            except UnicodeDecodeError:
                pass


def literal(name, comment, pairs):
    lines = textwrap.wrap("".join(pairs), 44)
    body = "\n".join(f'    U"{line}"' for line in lines)
    return f"// {comment}\nconstexpr std::u32string_view {name} =\n{body};\n"


def main():
    traditional = [c for c in common_traditional() if not encodable(c, "gb2312")]
    simplified = subprocess.run(["uconv", "-f", "utf-8", "-t", "utf-8", "-x", "Hant-Hans"], check=True,
                                input="\n".join(traditional), capture_output=True, text=True).stdout.split("\n")
    pairs = [(t, s) for t, s in zip(traditional, simplified) if t != s and len(s) == 1]
    own = [t + s for t, s in pairs if not encodable(s, "big5")]
    shared = [t + s for t, s in pairs if encodable(s, "big5")]
    print("// Written by scripts/make_han_variants.py; do not edit.")
    print(literal("kVariants", "Each in one script only: traditional, simplified, ...", own))
    print(literal("kSharedVariants", "The second of each pair stands in traditional text too.", shared), end="")


if __name__ == "__main__":
    main()
