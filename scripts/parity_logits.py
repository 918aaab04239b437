"""Logits of a whole checkpoint against transformers in fp32: every position of chat prompts in English and
Chinese, and of random ids. Exits non-zero beyond 2e-3.

    python scripts/parity_logits.py MODEL build/cpu/bench_logits
"""

import json
import pathlib
import random
import subprocess
import sys

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LIMIT = 2e-3


def main():
    path, binary = sys.argv[1:3]
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    suite = pathlib.Path(__file__).resolve().parent.parent / "suites/party_lines/items.jsonl"
    sequences = []
    for row in map(json.loads, suite.read_text().splitlines()):
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": row["questions"][0]["text"]}],
                                               add_generation_prompt=True, tokenize=True)
        sequences.append(prompt + tokenizer.encode(row["line"]))
    rng = random.Random(0)
    for length in (1, 2, 17, 128, 512):
        sequences.append([rng.randrange(model.config.vocab_size) for _ in range(length)])
    result = subprocess.run([binary, path], input="".join(json.dumps(s) + "\n" for s in sequences).encode(),
                            stdout=subprocess.PIPE, check=True)
    ours = numpy.frombuffer(result.stdout, dtype=numpy.float32).reshape(-1, model.config.vocab_size)
    worst, at, agree = 0.0, 0, 0
    with torch.no_grad():
        for ids in sequences:
            theirs = model(torch.tensor([ids])).logits[0].numpy()
            mine = ours[at:at + len(ids)]
            at += len(ids)
            worst = max(worst, float(numpy.abs(theirs - mine).max()))
            agree += int((theirs.argmax(1) == mine.argmax(1)).sum())
    assert at == len(ours)
    print(f"{len(sequences)} sequences, {at} positions: largest |difference| of a logit {worst:.1e} "
          f"(limit {LIMIT:.0e}), the same first choice at {agree}")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
