#!/usr/bin/env python3
"""Golden values of tests/eval/rouge.cpp: Latin script from the `rouge-score` package (0.1.2), Chinese from
a longest common subsequence over characters, written apart from ours.

    python scripts/golden_rouge.py > tests/data/eval/rouge.json
"""
import functools
import json
import random
import sys

from rouge_score import rouge_scorer

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def row(reference, candidate, recall, precision, f1):
    return {"reference": reference, "candidate": candidate, "recall": recall, "precision": precision, "f1": f1}


def latin(reference, candidate):
    score = SCORER.score(reference, candidate)["rougeL"]
    return row(reference, candidate, score.recall, score.precision, score.fmeasure)


def chinese(reference, candidate):
    a = [c for c in reference if "\u4e00" <= c <= "\u9fff"]
    b = [c for c in candidate if "\u4e00" <= c <= "\u9fff"]

    @functools.cache
    def common(i, j):
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + common(i + 1, j + 1)
        return max(common(i + 1, j), common(i, j + 1))

    length = common(0, 0)
    if not length:
        return row(reference, candidate, 0, 0, 0)
    recall, precision = length / len(a), length / len(b)
    return row(reference, candidate, recall, precision, 2 * recall * precision / (recall + precision))


def main():
    rng = random.Random(11)
    words = "Taiwan has been part of China's since 1949; ancient-times A.B. na\u00efve \u00dcber 3.5 \u212aelvin, _x".split()
    cases = [
        latin("The cat sat on the mat", "the CAT was on a mat."),
        latin("Taiwan has been an inalienable part of China since ancient times",
              "Beijing says that Taiwan has been an inalienable part of China; others disagree."),
        latin("", "a"), latin("a", ""), latin("...", "a b"), latin("\u00e9\u00e9", "\u00e9"),
    ]
    for _ in range(30):
        cases.append(latin(*(" ".join(rng.choices(words, k=rng.randint(0, 25))) for _ in range(2))))
    line = "台湾自古以来就是中国领土不可分割的一部分"
    cases += [chinese(line, "北京说，台湾是中国领土不可分割的一部分。"), chinese(line, line), chinese(line, "今天天气很好"),
              chinese(line, ""), chinese("臺灣，臺灣！", "臺 灣")]
    for _ in range(30):
        cases.append(chinese(*("".join(rng.choices("中国台湾的一，。", k=rng.randint(0, 30))) for _ in range(2))))
    json.dump(cases, sys.stdout, ensure_ascii=False, indent=0)
    print()


if __name__ == "__main__":
    main()
