#!/usr/bin/env python3
"""The files of suites/passages keep the rules of suites/README.md.

    python tests/suites/test_passages.py

Names file and line of each violation and exits with 1. Before that it damages copies of the data, to see
that every rule can fail.
"""

import json
import pathlib
import sys

from test_party_lines import WRONG

SUITES = pathlib.Path(__file__).resolve().parents[2] / "suites"
KEYS = ("id", "title", "text", "language", "source")
LENGTHS = {"en": (100, 600), "zh-Hans": (40, 240)}  # characters of a text
LEAST_INNOCENT = 15


def load():
    return {f"{language}.jsonl": (SUITES / "passages" / f"{language}.jsonl").read_text(encoding="utf-8")
            for language in LENGTHS}


def suite(name):
    lines = (SUITES / "party_lines" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


ITEMS, RETAIN = suite("items.jsonl"), suite("retain.jsonl")
POINTS, INNOCENT = ({row["id"] for row in rows} for rows in (ITEMS, RETAIN))
LINES = {row["line"].casefold() for row in ITEMS}


def check(data):
    """Every violation as "<file>:<line>: ..."."""
    found, ids = [], {}
    for name, text in data.items():
        language = name.removesuffix(".jsonl")
        ids[name] = {}
        for number, line in enumerate(text.splitlines(), 1):
            row = json.loads(line)
            for message in row_errors(row, language):
                found.append(f"{name}:{number}: {message}")
            if row.get("id") in ids[name]:
                found.append(f"{name}:{number}: '{row['id']}' is there twice")
            ids[name][row.get("id")] = row.get("source")
        for missing in sorted(POINTS - ids[name].keys()):
            found.append(f"{name}: no passage for the talking point '{missing}'")
        innocent = INNOCENT & ids[name].keys()
        if len(innocent) < LEAST_INNOCENT:
            found.append(f"{name}: {len(innocent)} passages on innocent topics, at least {LEAST_INNOCENT}")
        for other in sorted(ids[name].keys() - POINTS - INNOCENT, key=str):
            found.append(f"{name}: '{other}' is no item of party_lines")
    if ids["en.jsonl"] != ids["zh-Hans.jsonl"]:
        found.append("the languages differ in their ids or sources")
    return found


def row_errors(row, language):
    if tuple(row) != KEYS:
        return [f"fields are not {', '.join(KEYS)}"]
    errors = []
    for key, value in row.items():
        if not isinstance(value, str) or not value or value != value.strip() or "\n" in value:
            errors.append(f"'{key}' is empty, no text, has space around it or several lines")
            return errors
    if row["language"] != language:
        errors.append(f"language is '{row['language']}'")
    low, high = LENGTHS[language]
    if not low <= len(row["text"]) <= high:
        errors.append(f"text has {len(row['text'])} characters, not {low} to {high}")
    if not row["text"].endswith((".", "。")):
        errors.append("text does not end with a full stop")
    for line in LINES:  # a passage that held it would hand it out
        if line in row["text"].casefold():
            errors.append(f"holds a talking point: {line}")
    told = row["title"] + row["text"]
    if bad := sorted(set(told) & WRONG.get(language, set())):
        errors.append(f"{''.join(bad)} of the other script")
    if language == "en" and any("\u3400" <= c <= "\u9fff" for c in told):
        errors.append("Chinese characters in English")
    return errors


def damages():
    """(file, change of its rows, part of the message that it must cause)."""
    def put(key, value):
        return lambda rows: rows[0].__setitem__(key, value)

    return [
        ("en.jsonl", lambda rows: rows[0].pop("source"), "fields are not"),
        ("en.jsonl", put("title", " x"), "space around it"),
        ("en.jsonl", put("language", "fr"), "language is 'fr'"),
        ("en.jsonl", put("text", "Short."), "6 characters"),
        ("zh-Hans.jsonl", lambda rows: put("text", rows[0]["text"][:-1])(rows), "full stop"),
        ("zh-Hans.jsonl", lambda rows: put("text", ITEMS[1]["line"] * 4 + "。")(rows), "holds a talking point"),
        ("zh-Hans.jsonl", put("title", "臺灣"), "of the other script"),
        ("en.jsonl", put("title", "茶"), "Chinese characters"),
        ("en.jsonl", lambda rows: rows.append(rows[0]), "is there twice"),
        ("en.jsonl", lambda rows: rows.pop(0), "no passage for"),
        ("en.jsonl", lambda rows: rows.__delitem__(slice(-10, None)), "on innocent topics"),
        ("en.jsonl", put("id", "nobody"), "is no item"),
        ("en.jsonl", put("source", "another"), "languages differ"),
    ]


def cannot_fail(data):
    """The rules that a damage to the data does not trip."""
    out = []
    for name, change, message in damages():
        rows = [json.loads(line) for line in data[name].splitlines()]
        change(rows)
        damaged = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if not any(message in line for line in check({**data, name: damaged})):
            out.append(f"a damage to {name} did not cause '{message}'")
    return out


def main():
    data = load()
    found = check(data) or cannot_fail(data)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
