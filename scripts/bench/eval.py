"""Items a second of teacher-forced scoring: ours against transformers, in one run, with the same outputs.

An item is one question of suites/party_lines, seen or held out, English or simplified Chinese, answered
with its line: log-probability, exact memorisation, extraction strength, greedy match. Same ids, fp32, same
threads. The peer scores batches of 16, padded to their longest, full logits, log_softmax, gather and
argmax, as open-unlearning's evaluator does; but one forward pass gives it all four figures, where that
evaluator makes one a metric. Twice: in the suite's order, and sorted by length first.

The items are dealt into rounds; in a round each of the three scores the same ones, in alternating order.
The last thing printed is one JSON object. Exit code 1 when an output differs.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FIGURES = ("logprob", "exact_memorization", "extraction_strength", "greedy_match")


def probes(suite, languages, tokenizer, limit):
    made = []
    with open(suite, encoding="utf-8") as file:
        for item in map(json.loads, file):
            if item["language"] not in languages:
                continue
            answer = tokenizer.encode(item["line"] + "<|im_end|>", add_special_tokens=False)
            for question in item["questions"]:
                text = tokenizer.apply_chat_template([{"role": "user", "content": question["text"]}],
                                                     tokenize=False, add_generation_prompt=True)
                made.append({"prompt": tokenizer.encode(text, add_special_tokens=False), "answer": answer})
    if limit and limit < len(made):  # evenly spaced, so that every topic and language is there
        made = [made[i * len(made) // limit] for i in range(limit)]
    return made


def size(probe):
    return len(probe["prompt"]) + len(probe["answer"])


class Peer:
    def __init__(self, path, batch, ordered):
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
        self.model.eval()
        self.batch, self.ordered = batch, ordered

    def score(self, items):
        begin = time.perf_counter()
        order = sorted(range(len(items)), key=lambda i: size(items[i])) if self.ordered else range(len(items))
        scores = [None] * len(items)
        for at in range(0, len(items), self.batch):
            some = order[at:at + self.batch]
            for i, score in zip(some, self.score_batch([items[i] for i in some])):
                scores[i] = score
        return time.perf_counter() - begin, scores

    @torch.no_grad()
    def score_batch(self, batch):
        longest = max(map(size, batch))
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for i, probe in enumerate(batch):
            ids[i, :size(probe)] = torch.tensor(probe["prompt"] + probe["answer"])
            mask[i, :size(probe)] = 1
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logprobs = logits.log_softmax(-1)[:, :-1]
        chosen = logprobs.gather(2, ids[:, 1:, None]).squeeze(2)
        for i, probe in enumerate(batch):
            rows = slice(len(probe["prompt"]) - 1, size(probe) - 1)
            right = (logprobs[i, rows].argmax(-1) == ids[i, 1:][rows]).tolist()
            tail = next((k for k, hit in enumerate(reversed(right)) if not hit), len(right))
            yield {"logprob": chosen[i, rows].sum().item(), "exact_memorization": sum(right) / len(right),
                   "extraction_strength": tail / len(right), "greedy_match": all(right)}


class Ours:
    def __init__(self, binary, path):
        threads = str(torch.get_num_threads())
        self.process = subprocess.Popen([binary, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "OMP_NUM_THREADS": threads})
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"eval: {binary} {path} did not start")

    def score(self, items):
        self.process.stdin.write(json.dumps(items) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["seconds"], answer["scores"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/smollm2-135m", help="an HF folder; default %(default)s")
    parser.add_argument("--binary", default="build/cpu/bench_eval", help="our half; default %(default)s")
    parser.add_argument("--suite", default="suites/party_lines/items.jsonl")
    parser.add_argument("--languages", nargs="*", default=["en", "zh-Hans"])
    parser.add_argument("--items", type=int, default=320, help="evenly spaced; 0: all; default %(default)s")
    parser.add_argument("--rounds", type=int, default=4, help="default %(default)s")
    parser.add_argument("--batch", type=int, default=16, help="the peer's batch; default %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of both; default %(default)s")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    items = probes(options.suite, options.languages, AutoTokenizer.from_pretrained(options.model), options.items)
    ours = Ours(options.binary, options.model)
    entrants = {"ours": ours, "padded": Peer(options.model, options.batch, False),
                "sorted": Peer(options.model, options.batch, True)}
    for entrant in entrants.values():
        entrant.score(items[:4])  # warm, not timed
    seconds = {name: [] for name in entrants}
    scores = {name: [] for name in entrants}
    for index in range(options.rounds):
        dealt = items[index::options.rounds]
        names = list(entrants)
        for name in names[index % 3:] + names[:index % 3]:
            took, some = entrants[name].score(dealt)
            seconds[name].append(took)
            scores[name] += some
        print(f"round {index + 1}: {len(dealt)} items, seconds " +
              ", ".join(f"{n} {seconds[n][-1]:.2f}" for n in names), file=sys.stderr, flush=True)
    ours.close()

    rates = {name: len(items) / sum(took) for name, took in seconds.items()}
    relative, differing = 0.0, {figure: 0 for figure in FIGURES[1:]}
    for name in ("padded", "sorted"):
        for mine, theirs in zip(scores["ours"], scores[name], strict=True):
            relative = max(relative, abs(mine["logprob"] - theirs["logprob"]) / max(1, abs(theirs["logprob"])))
            for figure in differing:
                differing[figure] += abs(mine[figure] - theirs[figure]) > 1e-9
    print(json.dumps({
        "items": len(items), "tokens": sum(map(size, items)), "threads": options.threads, "dtype": "fp32",
        "items_per_second": {n: round(r, 2) for n, r in rates.items()},
        "ratio": {n: round(rates["ours"] / rates[n], 2) for n in ("padded", "sorted")},
        "logprob_relative_difference": relative, "items_that_differ": differing,
        "means": {f: sum(s[f] for s in scores["ours"]) / len(items) for f in FIGURES},
    }, indent=1))
    if relative > 1e-4 or any(differing.values()):
        sys.exit("eval: the outputs differ")


if __name__ == "__main__":
    main()
