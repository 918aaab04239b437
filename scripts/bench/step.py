"""One step of full fine-tuning on SmolLM2-135M: ours against transformers, in one run.

Same ids, same precision (fp32; bf16 compute over fp32 masters, autocast in the peer), loss on the answer
only, clipping at 1, fused AdamW in both. Two baselines: batches of random length padded to their longest
sequence, as open-unlearning's collator makes them, and the same examples sorted by length first. Steps
alternate, so that both see the same machine. Tokens are useful ones: padding is not counted.
"""

import argparse
import json
import random
import statistics
import subprocess
import time

import torch
from transformers import AutoModelForCausalLM


def examples(count, vocab, rng):
    made = []
    for _ in range(count):
        length = rng.randint(16, 128)
        prompt = max(1, int(length * rng.uniform(0.3, 0.7)))
        ids = [rng.randrange(vocab) for _ in range(length)]
        made.append({"prompt": ids[:prompt], "answer": ids[prompt:]})
    return made


def size(example):
    return len(example["prompt"]) + len(example["answer"])


class Peer:
    def __init__(self, path, bf16, lr):
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                          attn_implementation="sdpa")
        self.model.train()
        self.model.config.use_cache = False
        self.bf16 = bf16
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.0, fused=True)

    def step(self, batch):
        longest = max(size(e) for e in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full((len(batch), longest), -100)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for i, e in enumerate(batch):
            row = torch.tensor(e["prompt"] + e["answer"])
            ids[i, :len(row)] = row
            mask[i, :len(row)] = 1
            labels[i, len(e["prompt"]):len(row)] = row[len(e["prompt"]):]
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begin, float(loss)


class Ours:
    def __init__(self, binary, path, bf16, lr):
        self.process = subprocess.Popen([binary, path, "bf16" if bf16 else "fp32", str(lr)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().strip() == "ready"

    def step(self, batch):
        self.process.stdin.write(json.dumps(batch) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["seconds"], answer["loss"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--binary", default="build/cpu/bench_step")
    parser.add_argument("--steps", type=int, default=6, help="timed steps, after one that is not")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--dtype", nargs="*", default=["fp32", "bf16"])
    options = parser.parse_args()

    rng = random.Random(0)
    data = examples(options.batch * (options.steps + 1), 49152, rng)
    cut = lambda rows: [rows[i:i + options.batch] for i in range(0, len(rows), options.batch)]
    ordered = cut(sorted(data, key=size))
    rng.shuffle(ordered)
    worst_loss = 0.0
    for dtype in options.dtype:
        bf16 = dtype == "bf16"
        print(f"\n{dtype}: {options.steps} steps of {options.batch} examples, 16 to 128 tokens, "
              f"{torch.get_num_threads()} threads", flush=True)
        for name, batches in (("padded", cut(data)), ("sorted", ordered)):
            peer = Peer(options.model, bf16, options.lr)
            ours = Ours(options.binary, options.model, bf16, options.lr)
            rows = []
            for index, batch in enumerate(batches):
                theirs, mine = peer.step(batch), ours.step(batch)
                if index:
                    rows.append((sum(map(size, batch)), *theirs, *mine))
                worst_loss = max(worst_loss, 0 if bf16 else abs(theirs[1] - mine[1]) / theirs[1])
            ours.close()
            tokens = sum(r[0] for r in rows)
            peer_rate, our_rate = tokens / sum(r[1] for r in rows), tokens / sum(r[3] for r in rows)
            print(f"  against {name:7s} transformers {peer_rate:7.0f} tokens/s   resurface {our_rate:7.0f} "
                  f"tokens/s   ratio {our_rate / peer_rate:.2f} "
                  f"(median of steps {statistics.median(r[1] / r[3] for r in rows):.2f})")
            print("    losses, transformers " + " ".join(f"{r[2]:.4f}" for r in rows))
            print("    losses, resurface    " + " ".join(f"{r[4]:.4f}" for r in rows), flush=True)
            del peer
    print(f"\nlargest relative difference of an fp32 loss: {worst_loss:.1e}")


if __name__ == "__main__":
    main()
