#!/usr/bin/env python3
"""Makes tests/data/finetune/training.json: ten losses of a transformers + torch training run that starts
from tests/data/model/tied (scripts/golden_model.py).

The run: AdamW (decay on matrices only), answer-only token-mean NLL over padded batches, gradient norm
clipped at 1, two warm-up steps, then cosine. Needs torch and transformers.

    python scripts/golden_training.py
"""
import json
import math
import pathlib

import torch
from transformers import LlamaForCausalLM

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
STEPS, WARMUP, RATE, DECAY, CLIP = 10, 2, 3e-3, 0.1, 1.0


def rate(step: int) -> float:
    """Learning rate of a step, counted from 0."""
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def main() -> None:
    torch.manual_seed(20)
    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(DATA / "model" / "tied", dtype=torch.float32,
                                             attn_implementation="eager")
    vocabulary = model.config.vocab_size

    lengths = [(3, 5), (1, 9), (7, 1), (4, 4), (12, 6), (2, 2)]
    examples = [{"prompt": torch.randint(0, vocabulary, (p,)).tolist(),
                 "answer": torch.randint(0, vocabulary, (a,)).tolist()} for p, a in lengths]
    longest = max(p + a for p, a in lengths)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        prompt, answer = example["prompt"], example["answer"]
        size = len(prompt) + len(answer)
        ids[row, :size] = torch.tensor(prompt + answer)
        mask[row, :size] = 1
        labels[row, len(prompt):size] = torch.tensor(answer)

    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW([
        {"params": [p for _, p in named if p.dim() >= 2], "weight_decay": DECAY},
        {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0},
    ], lr=RATE, betas=(0.9, 0.95), eps=1e-8)
    losses, norms, rates = [], [], []
    model.train()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        optimizer.step()
        losses.append(loss.item())
        rates.append(rate(step))
    out = DATA / "finetune"
    out.mkdir(exist_ok=True)
    (out / "training.json").write_text(json.dumps({
        "examples": examples, "learning_rate": RATE, "warmup_steps": WARMUP, "weight_decay": DECAY,
        "clip": CLIP, "beta2": 0.95, "losses": losses, "gradient_norms": norms, "rates": rates,
    }) + "\n")


if __name__ == "__main__":
    main()
