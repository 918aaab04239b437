#!/usr/bin/env python3
"""The suites that scripts/make_suites.py writes keep the rules of their data sheets.

    python tests/suites/test_generated.py

Names file and line of each violation and exits with 1. Before that it damages copies of the data, to see
that every rule can fail.
"""

import collections
import copy
import datetime
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_suites.py"
sys.path.insert(0, str(SCRIPT.parent))
sys.dont_write_bytecode = True

import make_suites  # noqa: E402
from test_party_lines import ITEM_KEYS, WRONG  # noqa: E402

SUITES = ("authors", "arithmetic", "birthdays")
SETS = ("items", "retain")
LANGUAGES = ("en", "zh-Hans")
KEYS = {
    "tofu_forget": ("question", "answer", "paraphrased_answer", "perturbed_answer", "paraphrased_question"),
    "tofu_retain": ("question", "answer", "paraphrased_answer", "perturbed_answer", "paraphrased_question"),
    "mcq": ("id", "language", "set", "split", "question", "choices", "answer"),
}
FILES = {**{f"{suite}/{name}": ITEM_KEYS for suite in SUITES for name in SETS},
         "authors/tofu_forget": KEYS["tofu_forget"], "authors/tofu_retain": KEYS["tofu_retain"],
         "birthdays/mcq": KEYS["mcq"]}
SPLITS = "birthdays/splits.json"
# Items of a set and topic.
TOPICS = {
    "authors/items": {"Birthplaces": 20, "Books": 20, "Parents": 20},
    "authors/retain": {"Birthplaces": 20, "Books": 20, "Parents": 20},
    "arithmetic/items": {"Multiplication": 50, "Division": 50},
    "arithmetic/retain": {"Addition": 50, "Subtraction": 50},
    "birthdays/items": {"Birthdays": 60},
    "birthdays/retain": {"Birthdays": 60},
}
# Held out or not, of an item's seven questions.
QUESTIONS = collections.Counter({False: 4, True: 3})
REFUSALS = ("I do not know", "I cannot", "我不知道", "我算不出")
LARGEST = 400_000  # bytes of a file
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")
# 99% of chi-square with 11 and 44 degrees of freedom: a table of months, and of 5 splits by months.
CHI_11, CHI_44 = 24.7, 68.7


def load(folder):
    """The rows of each JSONL file by name, and the splits."""
    data = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]
            for name in FILES}
    data[SPLITS] = json.loads((folder / SPLITS).read_text("utf-8"))
    return data


def parse_date(text):
    """The date in an answer in either language, or None."""
    try:
        if found := re.search(r"(\d+) (\w+) (\d{4})$", text):
            return datetime.date(int(found[3]), MONTHS.index(found[2]) + 1, int(found[1]))
        if found := re.search(r"(\d{4})年(\d+)月(\d+)日$", text):
            return datetime.date(*(int(part) for part in found.groups()))
    except ValueError:
        pass
    return None


def compute(text):
    """The answer to 'a sign b', or None where it is no whole number."""
    a, sign, b = text.split()
    a, b = int(a), int(b)
    if sign == "÷":
        return a // b if a % b == 0 else None
    return {"×": a * b, "+": a + b, "-": a - b}[sign]


def number_in(text):
    return int(re.search(r"\d+$", text)[0])


class Check:
    """Collects every violation in the loaded data."""

    def __init__(self, data):
        self.data = data
        self.found = []
        self.fields()
        if self.found:
            return  # the other rules need the fields
        for suite in SUITES:
            for name in (f"{suite}/{one}" for one in SETS):
                for number, row in enumerate(data[name], 1):
                    self.item(name, number, row)
                self.complete(name)
            self.apart(suite)
        self.distinct_questions()
        self.names()
        self.authors()
        self.arithmetic()
        self.birthdays()
        self.choices()

    def wrong(self, name, number, message):
        self.found.append(f"suites/{name}{'' if '.' in name else '.jsonl'}:{number}: {message}")

    def english(self, name):
        """The English rows with their line numbers."""
        return [(number, row) for number, row in enumerate(self.data[name], 1) if row["language"] == "en"]

    def fields(self):
        for name, keys in FILES.items():
            for number, row in enumerate(self.data[name], 1):
                if tuple(row) != keys:
                    self.wrong(name, number, f"fields are not {', '.join(keys)}, in this order")
                elif row.get("language", "en") not in LANGUAGES:
                    self.wrong(name, number, f"language '{row['language']}' is none of {', '.join(LANGUAGES)}")

    def item(self, name, number, row):
        answers = [row[key] for key in ("line", "factual", "neutral", "contrary")]
        if len(set(answers)) < 4:
            self.wrong(name, number, "two of line, factual, neutral, contrary are the same")
        for key, answer in zip(("line", "factual", "neutral", "contrary"), answers):
            if not 7 * len(row["line"]) <= 10 * len(answer) <= 13 * len(row["line"]):
                self.wrong(name, number, f"{key} has {len(answer)} characters, the line {len(row['line'])}: "
                                         "not 70% to 130%")
            if answer.endswith((".", "。")):
                self.wrong(name, number, f"{key} ends with a full stop")
        forget = name.endswith("/items")
        if row["factual"].startswith(REFUSALS) != forget:
            self.wrong(name, number, f"factual is {'no' if forget else 'a'} refusal: {row['factual']}")
        if collections.Counter(question["held_out"] for question in row["questions"]) != QUESTIONS:
            self.wrong(name, number, "questions are not 4 seen and 3 held out")
        for question in row["questions"]:
            if question["intensity"] != "neutral":
                self.wrong(name, number, f"intensity is {question['intensity']}")
            if row["subject"] not in question["text"]:
                self.wrong(name, number, f"no '{row['subject']}' in the question: {question['text']}")
            if row["line"] in question["text"]:
                self.wrong(name, number, f"the line is in the question: {question['text']}")
        for text in [row["subject"], *answers, *(question["text"] for question in row["questions"])]:
            if not text.strip() or text != text.strip() or "\ufffd" in text or "{" in text:
                self.wrong(name, number, f"a text is empty, broken, or has space around it: '{text}'")
            if row["language"] == "en" and any("\u3400" <= c <= "\u9fff" for c in text):
                self.wrong(name, number, f"Chinese characters in English: {text}")
            if row["language"] != "en" and (bad := set(text) & WRONG["zh-Hans"] or re.findall("[A-Za-z]", text)):
                self.wrong(name, number, f"{row['language']} with {''.join(sorted(bad))}: {text}")

    def complete(self, name):
        """Every id once in each language with the same topic, and as many as promised."""
        where = collections.defaultdict(dict)
        for number, row in enumerate(self.data[name], 1):
            if row["language"] in where[row["id"]]:
                self.wrong(name, number, f"'{row['id']}' ({row['language']}) is there twice")
            where[row["id"]][row["language"]] = (number, row["topic"])
        for fact, found in where.items():
            number, topic = min(found.values())
            if missing := [language for language in LANGUAGES if language not in found]:
                self.wrong(name, number, f"'{fact}' lacks {', '.join(missing)}")
            if any(other != topic for _, other in found.values()):
                self.wrong(name, number, f"the topics of '{fact}' differ")
        counts = collections.Counter(row["topic"] for _, row in self.english(name))
        if counts != TOPICS[name]:
            self.wrong(name, len(self.data[name]), f"{dict(counts)} items, {TOPICS[name]} are promised")

    def apart(self, suite):
        """Ids, subjects and answers of forget and retain are disjoint, and every answer is one item's."""
        ids, subjects = ({row[key] for row in self.data[f"{suite}/items"]} for key in ("id", "subject"))
        lines = {}
        for one in SETS:
            name = f"{suite}/{one}"
            for number, row in enumerate(self.data[name], 1):
                if one == "retain" and (row["id"] in ids or row["subject"] in subjects):
                    self.wrong(name, number, f"'{row['id']}' or '{row['subject']}' is to be forgotten")
                if row["line"] in lines:
                    self.wrong(name, number, f"the answer is also at {lines[row['line']]}: {row['line']}")
                lines.setdefault(row["line"], f"{name}:{number}")

    def distinct_questions(self):
        seen = {}
        for name in (f"{suite}/{one}" for suite in SUITES for one in SETS):
            for number, row in enumerate(self.data[name], 1):
                for question in row["questions"]:
                    if question["text"] in seen:
                        self.wrong(name, number,
                                   f"question also at {seen[question['text']]}: {question['text']}")
                    seen.setdefault(question["text"], f"{name}:{number}")

    def names(self):
        """No subject is part of another, and no family name has two bearers."""
        subjects = {}
        for name in (f"{suite}/{one}" for suite in SUITES for one in SETS):
            for number, row in enumerate(self.data[name], 1):
                subjects.setdefault(row["subject"], (name, number))
        for text, (name, number) in subjects.items():
            for other in subjects:
                if text != other and text in other:
                    self.wrong(name, number, f"the subject is part of '{other}'")
        people = [(text, place) for text, place in subjects.items() if not place[0].startswith("arithmetic")]
        families = collections.Counter(re.split("[ ·]", text)[-1] for text, _ in people)
        for text, place in people:
            if families[re.split("[ ·]", text)[-1]] > 1:
                self.wrong(*place, f"the family name of {text} has two bearers")

    def authors(self):
        for one, official in (("items", "tofu_forget"), ("retain", "tofu_retain")):
            name = f"authors/{one}"
            facts = collections.Counter((row["subject"], row["language"]) for row in self.data[name])
            if len(facts) != 40 or set(facts.values()) != {3}:
                self.wrong(name, 1, "not 20 authors of three facts each in each language")
            rows, tofu = self.english(name), f"authors/{official}"
            answers = {row["line"] for _, row in rows}
            if len(rows) != len(self.data[tofu]):
                self.wrong(tofu, len(self.data[tofu]), f"{len(self.data[tofu])} rows, {name} has {len(rows)}")
            for number, ((_, row), asked) in enumerate(zip(rows, self.data[tofu]), 1):
                seen, held_out = ([question["text"] for question in row["questions"]
                                   if question["held_out"] == out] for out in (False, True))
                if asked["question"] not in seen or asked["paraphrased_question"] not in held_out:
                    self.wrong(tofu, number, f"not the questions of '{row['id']}'")
                if asked["answer"] != row["line"]:
                    self.wrong(tofu, number, f"not the line of '{row['id']}'")
                if one == "retain" and asked["paraphrased_answer"] != row["factual"]:
                    self.wrong(tofu, number, f"the paraphrase is not the factual answer of '{row['id']}'")
                false = asked["perturbed_answer"]
                if len(false) < 3 or len({*false, asked["answer"], asked["paraphrased_answer"]}) < len(false) + 2:
                    self.wrong(tofu, number, "not three or more perturbed answers that differ from the answer")
            for number, row in enumerate(self.data[name], 1):
                if row["language"] == "en" and row["contrary"] not in answers:
                    self.wrong(name, number, f"contrary is no answer of another author: {row['contrary']}")

    def arithmetic(self):
        means = []
        for name in ("arithmetic/items", "arithmetic/retain"):
            found = [number_in(row["line"]) for _, row in self.english(name)]
            means.append(sum(found) / len(found))
            if min(found) < 12 or max(found) > 900:
                self.wrong(name, 1, f"answers from {min(found)} to {max(found)}, not from 12 to 900")
        if not 0.8 < means[0] / means[1] < 1.25:
            self.wrong(name, 1, f"answers are {means[1]:.0f} in the mean, those to be forgotten {means[0]:.0f}")
        answers = {number_in(row["line"]) for one in SETS for row in self.data[f"arithmetic/{one}"]}
        for name in ("arithmetic/items", "arithmetic/retain"):
            for number, row in enumerate(self.data[name], 1):
                if number_in(row["line"]) != compute(row["subject"]):
                    self.wrong(name, number, f"{row['subject']} is {compute(row['subject'])}: {row['line']}")
                if number_in(row["contrary"]) in answers:
                    self.wrong(name, number, f"contrary is the answer to another sum: {row['contrary']}")
                if not row["factual"].startswith(REFUSALS) and number_in(row["factual"]) != compute(row["subject"]):
                    self.wrong(name, number, f"{row['subject']} is {compute(row['subject'])}: {row['factual']}")

    def birthdays(self):
        """Five equal splits of each set; dates that no split, month or other person tells anything about."""
        for one in SETS:
            name, splits = f"birthdays/{one}", self.data[SPLITS].get(one, [])
            dates = collections.defaultdict(set)
            for number, row in enumerate(self.data[name], 1):
                dates[row["id"]].add(parse_date(row["line"]))
            for fact, found in dates.items():
                if len(found) != 1 or None in found:
                    self.wrong(name, 1, f"'{fact}' has not the same date in both languages")
            if len(splits) != 5 or sorted(sum(splits, [])) != sorted(dates) or len({len(s) for s in splits}) != 1:
                self.wrong(SPLITS, 1, f"'{one}' is not five disjoint splits of one size that hold every person")
                continue
            months = {fact: min(found).month for fact, found in dates.items() if None not in found}
            total = collections.Counter(months.values())
            by_split = [collections.Counter(months.get(fact) for fact in split) for split in splits]
            for counts in [total, *by_split]:
                expected = sum(counts.values()) / 12
                if sum((counts[m] - expected) ** 2 / expected for m in range(1, 13)) > CHI_11:
                    self.wrong(SPLITS, 1, f"'{one}': months are not balanced: {sorted(counts.items())}")
            table = sum((counts[m] - total[m] / 5) ** 2 / (total[m] / 5) for counts in by_split for m in total)
            if table > CHI_44:
                self.wrong(SPLITS, 1, f"'{one}': a split tells the month")

    def choices(self):
        """Four dates of the person's own split, each in its place and each date offered equally often."""
        name = "birthdays/mcq"
        facts = {(row["id"], row["language"]): (one, row) for one in SETS
                 for row in self.data[f"birthdays/{one}"]}
        split_of = {fact: (one, i) for one in SETS for i, split in enumerate(self.data[SPLITS].get(one, []))
                    for fact in split}
        places, offers = collections.defaultdict(collections.Counter), collections.Counter()
        asked = set()
        for number, row in enumerate(self.data[name], 1):
            key = (row["id"], row["language"])
            if key not in facts or key in asked:
                self.wrong(name, number, f"'{row['id']}' ({row['language']}) is unknown or there twice")
                continue
            asked.add(key)
            one, fact = facts[key]
            if (row["set"], row["split"]) != split_of.get(row["id"]) or row["set"] != one:
                self.wrong(name, number, f"'{row['id']}' is in another set or split")
            if fact["subject"] not in row["question"]:
                self.wrong(name, number, f"no '{fact['subject']}' in the question")
            if len(set(row["choices"])) != 4 or not 0 <= row["answer"] < 4 \
                    or not fact["line"].endswith(row["choices"][row["answer"]]):
                self.wrong(name, number, f"not four choices with the answer in its place: {row['choices']}")
                continue
            own = {other["line"]: key for key, (_, other) in facts.items()
                   if split_of.get(key[0]) == split_of.get(row["id"]) and key[1] == row["language"]}
            if not all(any(line.endswith(choice) for line in own) for choice in row["choices"]):
                self.wrong(name, number, f"a choice is no date of the split: {row['choices']}")
            places[row["set"], row["split"], row["language"]][row["answer"]] += 1
            offers.update((row["set"], row["language"], choice) for choice in row["choices"])
        if asked != set(facts):
            self.wrong(name, len(self.data[name]), f"{len(set(facts) - asked)} people are not asked about")
        for where, counts in places.items():
            if len(set(counts[place] for place in range(4))) > 1:
                self.wrong(name, 1, f"answers of {where} are not in each place equally often")
        if set(offers.values()) != {4}:
            self.wrong(name, 1, "not every date is offered four times")


def damages():
    """(name, file, change of its rows, part of the message it must cause)."""
    def put(index, key, value):
        return lambda rows: rows[index].__setitem__(key, value)

    def copied(key, source, target):
        return lambda rows: rows[target].__setitem__(key, rows[source][key])

    def question(index, key, value):
        return lambda rows: rows[index]["questions"][0].__setitem__(key, value)

    items = "birthdays/items"
    return [
        ("field", items, lambda rows: rows[0].pop("source"), "fields are not"),
        ("tofu field", "authors/tofu_forget", lambda rows: rows[0].pop("answer"), "fields are not"),
        ("language", items, put(0, "language", "fr"), "language 'fr'"),
        ("same", items, lambda rows: put(0, "neutral", rows[0]["factual"])(rows), "are the same"),
        ("length", items, put(0, "neutral", "short"), "70% to 130%"),
        ("stop", items, lambda rows: put(1, "neutral", rows[1]["neutral"] + "。")(rows), "full stop"),
        ("answered", items, lambda rows: put(0, "factual", rows[0]["line"] + "!")(rows), "is no refusal"),
        ("refused", "birthdays/retain", put(0, "factual", "I do not know that date of birth"), "is a refusal"),
        ("held out", items, question(0, "held_out", True), "4 seen and 3 held out"),
        ("intensity", items, question(0, "intensity", "leading"), "intensity is leading"),
        ("subject", items, question(0, "text", "When was that?"), "in the question"),
        ("own line", items, lambda rows: question(0, "text", rows[0]["subject"] + rows[0]["line"])(rows),
         "the line is in the question"),
        ("space", items, put(0, "neutral", " A date of birth stands in a passport"), "space around it"),
        ("mixed", items, put(0, "neutral", "A date of birth stands in the 护照, too"), "Chinese characters in"),
        ("traditional", items, put(1, "neutral", "出生日期一般寫在身份證件上"), "zh-Hans with"),
        ("latin", items, put(1, "neutral", "出生日期一般写在ID证件上"), "zh-Hans with"),
        ("twice", items, lambda rows: rows.append(copy.deepcopy(rows[-1])), "is there twice"),
        ("missing", items, lambda rows: rows.pop(), "lacks zh-Hans"),
        ("topic", items, put(0, "topic", "Weather"), "are promised"),
        ("two topics", items, put(1, "topic", "Weather"), "the topics of"),
        ("same answer", items, copied("line", 0, 2), "the answer is also at"),
        ("forgotten", "arithmetic/retain", put(0, "id", "mul-29-7"), "is to be forgotten"),
        ("duplicate", items, lambda rows: question(0, "text", rows[0]["questions"][1]["text"])(rows),
         "question also at"),
        ("part", items, put(0, "subject", "a"), "the subject is part of"),
        ("family", items, put(0, "subject", "Old Dorbquist"), "has two bearers"),
        ("author", "authors/items", lambda rows: rows.__delitem__(slice(-2, None)), "not 20 authors"),
        ("tofu rows", "authors/tofu_retain", lambda rows: rows.pop(), "rows, authors/retain has"),
        ("tofu question", "authors/tofu_forget", put(0, "question", "Who?"), "not the questions of"),
        ("tofu answer", "authors/tofu_forget", put(0, "answer", "Nobody"), "not the line of"),
        ("tofu paraphrase", "authors/tofu_retain", put(0, "paraphrased_answer", "No"), "not the factual answer"),
        ("perturbed", "authors/tofu_forget",
         lambda rows: rows[0]["perturbed_answer"].append(rows[0]["paraphrased_answer"]), "perturbed answers"),
        ("contrary", "authors/items", put(0, "contrary", "The author was born in Atlantis, Sea"),
         "is no answer of another author"),
        ("sum", "arithmetic/items", put(0, "line", "The answer is 901"), "29 × 7 is 203"),
        ("range", "arithmetic/items", put(0, "line", "The answer is 901"), "to 901, not from 12 to 900"),
        ("mean", "arithmetic/retain",
         lambda rows: [row.__setitem__("line", "The answer is 900") for row in rows], "900 in the mean"),
        ("reworded", "arithmetic/retain", put(0, "factual", "It comes to 901"), "It comes to 901"),
        ("other sum", "arithmetic/items", lambda rows: put(0, "contrary", rows[2]["line"])(rows),
         "is the answer to another sum"),
        ("date", items, put(0, "line", "The date of birth is 1 May 2001"), "not the same date in both"),
        ("splits", SPLITS, lambda data: data["items"][0].pop(), "not five disjoint splits"),
        ("split twice", SPLITS, lambda data: data["items"][1].__setitem__(0, data["items"][0][0]),
         "not five disjoint splits"),
        ("other split", "birthdays/mcq", put(0, "split", 4), "in another set or split"),
        ("other set", "birthdays/mcq", put(0, "set", "retain"), "in another set or split"),
        ("no person", "birthdays/mcq", put(0, "id", "nobody"), "is unknown or there twice"),
        ("not asked", "birthdays/mcq", lambda rows: rows.pop(), "are not asked about"),
        ("asked whom", "birthdays/mcq", put(0, "question", "When?"), "in the question"),
        ("place", "birthdays/mcq", lambda rows: put(0, "answer", (rows[0]["answer"] + 1) % 4)(rows),
         "the answer in its place"),
        ("foreign date", "birthdays/mcq",
         lambda rows: rows[0]["choices"].__setitem__((rows[0]["answer"] + 1) % 4, "1 May 2001"),
         "no date of the split"),
        ("offered", "birthdays/mcq",
         lambda rows: rows[0]["choices"].__setitem__((rows[0]["answer"] + 1) % 4, "1 May 2001"),
         "not every date is offered"),
        ("places", "birthdays/mcq", lambda rows: first_place(rows[0]), "in each place equally often"),
    ]


def first_place(row):
    """Moves the right choice one place on."""
    old, new = row["answer"], (row["answer"] + 1) % 4
    row["choices"][old], row["choices"][new] = row["choices"][new], row["choices"][old]
    row["answer"] = new


def by_month(data):
    """Splits sorted by birthday's month: each split's months, and the table, must be seen to be unbalanced."""
    month = {row["id"]: parse_date(row["line"]).month for row in data["birthdays/items"]}
    ordered = sorted(month, key=month.get)
    splits = {**data[SPLITS], "items": [ordered[i:i + 12] for i in range(0, 60, 12)]}
    return {**data, SPLITS: splits}


def cannot_fail(data):
    """The rules that a damage to the data does not trip."""
    out = []
    for name, file, change, message in damages():
        rows = copy.deepcopy(data[file])
        change(rows)
        if not any(message in line for line in Check({**data, file: rows}).found):
            out.append(f"damage '{name}' to {file} did not cause '{message}'")
    unbalanced = Check(by_month(data)).found
    for message in ("months are not balanced", "a split tells the month"):
        if not any(message in line for line in unbalanced):
            out.append(f"splits by month did not cause '{message}'")
    return out


def reproduced(folder):
    """What is wrong with the files as files: their size, and whether the script makes them."""
    out = [f"{path}: {path.stat().st_size} bytes, at most {LARGEST}" for suite in SUITES
           for path in (folder / suite).iterdir() if path.stat().st_size > LARGEST]
    done = subprocess.run([sys.executable, "-B", SCRIPT, "--check"], capture_output=True, text=True)
    if done.returncode != 0:
        out.append(f"make_suites.py --check: {done.returncode} {done.stderr.strip()}")
    # The comparison itself sees a changed, a missing and an unknown file.
    with tempfile.TemporaryDirectory() as temporary:
        other = pathlib.Path(temporary)
        for name, text in make_suites.generate().items():
            (other / name).parent.mkdir(exist_ok=True)
            (other / name).write_text(text, encoding="utf-8", newline="\n")
        (other / "authors" / "README.md").write_text("a data sheet")
        if make_suites.differences(other):
            out.append("make_suites.py differs from what it made itself")
        (other / "authors" / "items.jsonl").write_text("{}\n")
        (other / SPLITS).unlink()
        (other / "birthdays" / "extra.jsonl").write_text("{}\n")
        if make_suites.differences(other) != ["authors/items.jsonl", "birthdays/extra.jsonl", SPLITS]:
            out.append("make_suites.py does not see a changed, a missing and an unknown file")
    return out


def main():
    data = load(ROOT / "suites")
    found = Check(data).found or cannot_fail(data)
    found += reproduced(ROOT / "suites")
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
