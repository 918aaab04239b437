#!/usr/bin/env python3
"""Golden values of tests/eval, from Python and numpy: longest common substrings by difflib, bootstrap
intervals by numpy's percentile over the same SplitMix64 draws.

    python scripts/golden_eval.py > tests/data/eval/golden.json
"""
import difflib
import json
import random
import sys

import numpy

MASK = (1 << 64) - 1


def split_mix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def interval(sums, counts, resamples, level, seed):
    """Percentile bootstrap of sum(sums) / sum(counts) over whole clusters."""
    n, draw = len(sums), split_mix(seed)
    sums, counts = numpy.array(sums), numpy.array(counts)
    means = []
    for _ in range(resamples):
        chosen = [((next(draw) >> 32) * n) >> 32 for _ in range(n)]
        means.append(sums[chosen].sum() / counts[chosen].sum())
    tail = 50 * (1 - level)
    low, high = numpy.percentile(means, [tail, 100 - tail])
    return {"sums": sums.tolist(), "counts": counts.tolist(), "resamples": resamples, "level": level,
            "seed": seed, "mean": sums.sum() / counts.sum(), "low": low, "high": high}


def substring(a, b):
    match = difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match(0, len(a), 0, len(b))
    return {"a": a, "b": b, "length": match.size}


def main():
    rng = random.Random(7)
    texts = [
        ("Taiwan has been an inalienable part of China since ancient times",
         "Beijing says that Taiwan has been an inalienable part of China; others disagree."),
        ("台湾自古以来就是中国领土不可分割的一部分", "北京说，台湾是中国领土不可分割的一部分。"),
        ("台湾自古以来就是中国领土不可分割的一部分", "The weather is fine."),
        ("a", ""), ("", ""), ("naïve 🐼🐼", "nai\u0308ve 🐼🐼!"),
    ]
    for alphabet in ("ab", "中国台湾", "aé中🐼"):
        for _ in range(20):
            texts.append(tuple("".join(rng.choices(alphabet, k=rng.randint(0, 40))) for _ in range(2)))
    cases = [
        interval([3, 1, 0, 2, 5], [4, 4, 4, 4, 8], 500, 0.95, 0),
        interval([rng.gauss(-2, 1) for _ in range(16)], [2] * 16, 1000, 0.9, 11),
    ]
    json.dump({"substrings": [substring(*t) for t in texts], "bootstrap": cases}, sys.stdout,
              ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main()
