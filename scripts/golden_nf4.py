#!/usr/bin/env python3
"""Golden values of tests/eval/ways_back.cpp: 4-bit NormalFloat from its definition (QLoRA, appendix E), apart
from ours: the codes as quantiles of the normal distribution, the nearest code by trying all 16.

    python scripts/golden_nf4.py > tests/data/eval/nf4.json
"""
import json
from statistics import NormalDist

import numpy as np

OFFSET = 0.9677083  # bitsandbytes: the mean of 1 - 1/(2*15) and 1 - 1/(2*16), so that both ends are within the data
BLOCK = 64


def codes():
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in np.linspace(OFFSET, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in np.linspace(OFFSET, 0.5, 8)[:-1]]
    values = np.sort(np.array(above + [0.0] + below))
    return values / values.max()


def quantise(weight, table):
    flat = weight.astype(np.float64).ravel()
    out = np.empty_like(flat)
    for begin in range(0, flat.size, BLOCK):
        block = flat[begin : begin + BLOCK]
        scale = np.abs(block).max()
        nearest = np.abs(block[:, None] / scale - table[None, :]).argmin(axis=1)
        out[begin : begin + BLOCK] = table[nearest] * scale
    return out


def main():
    table = codes()
    # 250 weights: blocks run across the ends of rows and the last one is short.
    weight = np.random.default_rng(7).normal(0, 0.02, (5, 50)).astype(np.float32)
    print(json.dumps({"codes": table.tolist(), "rows": 5, "columns": 50,
                      "weight": weight.astype(np.float64).ravel().tolist(),
                      "nf4": quantise(weight, table).tolist()}))


main()
