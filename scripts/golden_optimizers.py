#!/usr/bin/env python3
"""Makes tests/data/finetune/optimizers.json: four steps of SGD and Muon by torch.optim and of Lion by its formula,
in fp64, on a tall matrix, a wide one, an embedding and a norm.

Decay is decoupled and on matrices only, as the trainer has it: torch's own (SGD's is not decoupled, Muon's is) is
checked where it is the same, and else applied by hand. torch's Muon iterates in bf16; the cast is taken out, so that
its numbers can be compared closely. Needs torch (2.9 or later) and numpy.

    python scripts/golden_optimizers.py
"""
import json
import pathlib

import numpy
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "finetune" / "optimizers.json"
SHAPES = {"model.layers.0.mlp.up_proj.weight": (7, 4), "model.layers.1.self_attn.o_proj.weight": (3, 8),
          "model.embed_tokens.weight": (6, 4), "model.norm.weight": (4,)}
RATE, DECAY, STEPS = 0.05, 0.1, 4


def of_block(name: str) -> bool:
    return name.startswith("model.layers.") and len(SHAPES[name]) == 2


def decay(value: torch.Tensor) -> None:
    if value.dim() >= 2:
        with torch.no_grad():
            value.mul_(1 - RATE * DECAY)


def run(start, gradients, make):
    """All parameters after the last step; make(named) gives (parameters decayed by hand, torch optimisers)."""
    named = {name: value.clone().requires_grad_() for name, value in start.items()}
    by_hand, optimizers = make(named)
    for step in gradients:
        for name, value in named.items():
            value.grad = step[name].clone()
        for value in by_hand:
            decay(value)
        for optimizer in optimizers:
            optimizer.step()
    return {name: value.detach().flatten().tolist() for name, value in named.items()}


def sgd(**settings):
    return lambda named: (named.values(), [torch.optim.SGD(named.values(), lr=RATE, **settings)])


def muon(**settings):
    def make(named):
        rest = [value for name, value in named.items() if not of_block(name)]
        groups = [{"params": [v for v in rest if v.dim() >= 2], "weight_decay": DECAY},
                  {"params": [v for v in rest if v.dim() < 2], "weight_decay": 0.0}]
        blocks = [value for name, value in named.items() if of_block(name)]
        return [], [torch.optim.Muon(blocks, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw", **settings),
                    torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8)]
    return make


def lion(start, gradients, beta1, beta2):
    values = {name: value.numpy().copy() for name, value in start.items()}
    momenta = {name: numpy.zeros_like(value) for name, value in values.items()}
    for step in gradients:
        for name in values:
            g, m = step[name].numpy(), momenta[name]
            update = numpy.sign(beta1 * m + (1 - beta1) * g)
            if values[name].ndim >= 2:
                update = update + DECAY * values[name]
            values[name] = values[name] - RATE * update
            momenta[name] = beta2 * m + (1 - beta2) * g
    return {name: value.ravel().tolist() for name, value in values.items()}


def main() -> None:
    torch.manual_seed(3)
    torch.set_num_threads(1)
    torch.Tensor.bfloat16 = lambda self: self.clone()  # see above

    def draw():
        return {name: torch.randn(shape, dtype=torch.float64) for name, shape in SHAPES.items()}

    start, gradients = draw(), [draw() for _ in range(STEPS)]
    results = {
        "sgd": run(start, gradients, sgd(momentum=0.9)),
        "sgd nesterov": run(start, gradients, sgd(momentum=0.8, nesterov=True)),
        # Without momentum torch's own decay, which it adds to the gradient, is the decoupled one.
        "sgd plain": run(start, gradients, lambda named: ([], [torch.optim.SGD(
            [{"params": [v for v in named.values() if v.dim() >= 2], "weight_decay": DECAY},
             {"params": [v for v in named.values() if v.dim() < 2]}], lr=RATE)])),
        "muon": run(start, gradients, muon(momentum=0.95)),
        "muon heavy ball": run(start, gradients, muon(momentum=0.7, nesterov=False, ns_steps=3)),
        "lion": lion(start, gradients, 0.9, 0.99),
    }
    flat = lambda tensors: {name: value.flatten().tolist() for name, value in tensors.items()}
    OUT.write_text(json.dumps({"shapes": SHAPES, "rate": RATE, "decay": DECAY, "start": flat(start),
                               "gradients": [flat(step) for step in gradients], "results": results}) + "\n")


if __name__ == "__main__":
    main()
