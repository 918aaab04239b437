#!/usr/bin/env python3
"""Makes tests/data/unlearning/objectives.json: the losses of unlearning objectives and their gradients, by
transformers and torch in fp64 over padded batches with labels of -100, on tests/data/model/tied
(scripts/golden_model.py). The reference is the same checkpoint with every parameter p[k] scaled by
1 + 0.3 cos(k).

Of each parameter's gradient g the file has |g| and sum g[k] cos(k). Under "mistakes" are the values that
known mistakes of published code would give. Needs torch and transformers.

    python scripts/golden_unlearning.py
"""
import copy
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
WEIGHTS = [0.5, 1.0, 2.0, 1.5]


def wave(tensor):
    return torch.arange(tensor.numel(), dtype=torch.float64).cos().reshape(tensor.shape)


def padded(examples):
    """ids, mask and labels, [B, T]; labels are -100 on prompts and padding."""
    longest = max(len(e["prompt"]) + len(e["answer"]) for e in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, e in enumerate(examples):
        size = len(e["prompt"]) + len(e["answer"])
        ids[row, :size] = torch.tensor(e["prompt"] + e["answer"])
        mask[row, :size] = 1
        labels[row, len(e["prompt"]):size] = torch.tensor(e["answer"])
    return ids, mask, labels


class View:
    """What a model makes of a padded batch; positions shifted so that [b, t] predicts labels[b, t]."""

    def __init__(self, model, batch):
        ids, mask, labels = batch
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        self.logits = out.logits[:, :-1]
        # What follows the last block is after the final norm: no block's output.
        self.hidden = [h[:, :-1] for h in out.hidden_states[:-1]]
        self.labels = labels[:, 1:]
        self.scored = self.labels != -100
        flat = F.cross_entropy(self.logits.transpose(1, 2), self.labels, ignore_index=-100, reduction="none")
        self.nll = flat  # [B, T], zero where nothing is scored
        self.sums = flat.sum(1)
        self.sizes = self.scored.sum(1)


def tokens(values, view, weights):
    """Weighted mean over scored tokens of values [B, T]."""
    w = torch.tensor(weights, dtype=torch.float64)[:, None] * view.scored
    return torch.where(view.scored, values, torch.zeros_like(values)).mul(w).sum() / w.sum()


def sequences(values, weights):
    w = torch.tensor(weights, dtype=torch.float64)
    return (values * w).sum() / w.sum()


def divergence(before, now):
    """KL(before || now) of each position."""
    return F.kl_div(now.logits.log_softmax(-1), before.logits.log_softmax(-1), reduction="none",
                    log_target=True).sum(-1)


def losses(method, s, now, ref, retain_weights):
    """Parts of the loss before gamma and alpha, and the mistakes. `now`, `ref`: views by set."""
    f, fr, r, rr = now["forget"], ref["forget"], now["retain"], ref["retain"]
    a, ar = now["alternative"], ref["alternative"]
    beta = s.get("beta")
    parts, mistakes = {}, {}
    if method in ("ga", "grad_diff", "kl_min", "llmu"):
        parts["forget"] = -tokens(f.nll, f, WEIGHTS)
        mistakes["over prompts and padding"] = -f.everything
    elif method == "task_vector":
        parts["forget"] = tokens(f.nll, f, WEIGHTS)
    elif method == "npo":
        def shape(gap):
            return sequences(2 / beta * torch.log1p(torch.exp(-beta * gap)), WEIGHTS)
        parts["forget"] = shape(f.sums - fr.sums)
        mistakes["token mean"] = shape((f.sums - fr.sums) / f.sizes)
        raw = (fr.logits - f.logits).mean(-1)
        mistakes["raw logits"] = shape((raw * f.scored).sum(1))
    elif method == "simnpo":
        gap = f.sums / f.sizes - s.get("delta", 0)
        parts["forget"] = sequences(2 / beta * torch.log1p(torch.exp(-beta * gap)), WEIGHTS)
        mistakes["summed"] = sequences(2 / beta * torch.log1p(torch.exp(-beta * f.sums)), WEIGHTS)
    elif method in ("dpo", "idk_dpo", "altpo"):
        def shape(chosen, rejected):
            return sequences(2 / beta * torch.log1p(torch.exp(-beta * (chosen - rejected))), WEIGHTS)
        parts["forget"] = shape(ar.sums - a.sums, fr.sums - f.sums)
        mistakes["token mean"] = shape((ar.sums - a.sums) / a.sizes, (fr.sums - f.sums) / f.sizes)
    elif method == "rmu":
        h, hr, rows = now["forget"].hidden[s["layer"] + 1], rr.hidden[s["layer"] + 1], f.scored
        u = torch.rand(h.size(-1), generator=torch.Generator().manual_seed(0))
        target = (s["steering_coeff"] * u / u.norm()).double()
        square = (h - target).pow(2).mean(-1)
        parts["forget"] = tokens(square, f, WEIGHTS)
        summed = torch.where(rows, square, torch.zeros_like(square)).sum(1)
        mistakes["each by every other's length"] = (summed / f.sizes[:, None]).mean()
        parts["retain"] = tokens((r.hidden[s["layer"] + 1] - hr).pow(2).mean(-1), r, retain_weights)
    elif method == "undial":
        onehot = F.one_hot(f.labels.clamp_min(0), f.logits.size(-1)) * f.scored[..., None]
        target = (fr.logits - beta * onehot).softmax(-1)
        ce = -(target * f.logits.log_softmax(-1)).sum(-1)
        parts["forget"] = tokens(ce, f, WEIGHTS)
        wrong = (fr.logits - beta * F.one_hot(f.labels.clamp_min(0), f.logits.size(-1))).softmax(-1)
        mistakes["label -100 as an index"] = -(wrong * f.logits.log_softmax(-1)).sum(-1).mean()
    elif method in ("wga", "satimp"):
        p = torch.exp(-f.nll)
        weight = p**beta if method == "wga" else p**s["beta1"] * (1 - p)**s["beta2"]
        parts["forget"] = tokens(-weight.detach() * f.nll, f, WEIGHTS)
        mistakes["over prompts and padding"] = -(weight * f.nll).mean()
    elif method == "ceu":
        total = torch.zeros((), dtype=torch.float64)
        count = 0.0
        for b, t in f.scored.nonzero().tolist():
            z = f.logits[b, t]
            others = torch.arange(len(z)) != f.labels[b, t]
            target = z.detach()[others].softmax(0)
            total = total + WEIGHTS[b] * (z.logsumexp(0) - (target * z[others]).sum())
            count += WEIGHTS[b]
        parts["forget"] = total / count
    elif method == "pdu":
        peak = (f.logits.max(-1).values - f.logits.mean(-1)) ** 2
        parts["forget"] = tokens(peak, f, WEIGHTS)
        mistakes["over prompts and padding"] = peak.mean()
    elif method == "maxent":
        size = f.logits.size(-1)
        uniform = torch.full_like(f.logits, 1 / size)
        kl = F.kl_div(f.logits.log_softmax(-1), uniform, reduction="none").sum(-1)
        parts["forget"] = tokens(kl, f, WEIGHTS)
        mistakes["over prompts and padding"] = kl.mean()
    if method in ("wrong_answers", "llmu"):
        parts["alternative"] = tokens(a.nll, a, WEIGHTS)
    if "retain" not in parts:
        kind = "kl" if method in ("kl_min", "llmu") else s.get("retain_loss", "nll")
        if kind == "kl":
            parts["retain"] = tokens(divergence(rr, r), r, retain_weights)
            mistakes["retain: over prompts and padding"] = divergence(rr, r).mean()
        else:
            parts["retain"] = tokens(r.nll, r, retain_weights)
    return parts, mistakes


CASES = [
    ("ga", {}),
    ("grad_diff", {"forget_weight": 0.7, "retain_weight": 2}),
    ("grad_diff", {"retain_loss": "kl"}),
    ("kl_min", {"retain_weight": 3}),
    ("npo", {"beta": 0.3, "forget_weight": 0.7, "retain_weight": 2}),
    ("npo", {"beta": 0.1, "retain_loss": "kl"}),
    ("simnpo", {"beta": 4.5, "delta": 0, "forget_weight": 0.125}),
    ("simnpo", {"beta": 0.5, "delta": 1.5, "forget_weight": 1}),
    ("dpo", {"beta": 0.2}),
    ("idk_dpo", {"beta": 0.1, "retain_loss": "kl"}),
    ("altpo", {"beta": 0.05}),
    ("rmu", {"layer": 1, "steering_coeff": 3, "retain_weight": 50}),
    ("rmu", {"layer": 0, "steering_coeff": 6.5, "retain_weight": 1}),
    ("undial", {"beta": 4, "retain_weight": 1}),
    ("wga", {"beta": 0.5}),
    ("satimp", {"beta1": 0.7, "beta2": 1.3, "forget_weight": 1}),
    ("ceu", {"retain_weight": 0.5}),
    ("pdu", {}),
    ("maxent", {}),
    ("wrong_answers", {"forget_weight": 0.8}),
    ("llmu", {"forget_weight": 0.5, "random_weight": 1, "retain_weight": 1}),
    ("task_vector", {}),
]
NO_RETAIN = ("ga", "task_vector")


def weighted(method, s, parts, mistakes):
    """gamma and alpha on the parts and mistakes; the multiplier of PDU is the trainer's."""
    gamma = {"llmu": 0.5}.get(method, 1)
    factors = {"forget": s.get("forget_weight", gamma), "retain": s.get("retain_weight", 1),
               "alternative": s.get("random_weight", s.get("forget_weight", 1))}
    if method == "pdu":
        factors["retain"] = 1
    if method in NO_RETAIN:
        parts.pop("retain")
        mistakes = {name: v for name, v in mistakes.items() if not name.startswith("retain")}
    return ({name: factors[name] * value for name, value in parts.items()},
            {name: factors["retain" if name.startswith("retain") else "forget"] * value
             for name, value in mistakes.items()})


def main() -> None:
    torch.manual_seed(30)
    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(DATA / "model" / "tied", dtype=torch.float64,
                                             attn_implementation="eager")
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for p in reference.parameters():
            p.mul_(1 + 0.3 * wave(p))
    vocabulary = model.config.vocab_size

    def draw(lengths, prompts=None):
        return [{"prompt": prompts[i] if prompts else torch.randint(0, vocabulary, (p,)).tolist(),
                 "answer": torch.randint(0, vocabulary, (a,)).tolist()} for i, (p, a) in enumerate(lengths)]

    sets = {"forget": draw([(3, 5), (1, 4), (6, 1), (4, 9)]), "retain": draw([(2, 3), (7, 6), (1, 1), (5, 2)])}
    sets["alternative"] = draw([(0, 2), (0, 7), (0, 3), (0, 4)], [e["prompt"] for e in sets["forget"]])
    batches = {name: padded(examples) for name, examples in sets.items()}
    with torch.no_grad():
        ref = {name: View(reference, batch) for name, batch in batches.items()}
    cases = []
    for method, s in CASES:
        now = {name: View(model, batch) for name, batch in batches.items()}
        for view, (ids, _, _) in zip(now.values(), batches.values()):
            view.everything = F.cross_entropy(view.logits.transpose(1, 2), ids[:, 1:])
        parts, mistakes = losses(method, s, now, ref, [1.0] * 4)
        parts, mistakes = weighted(method, s, parts, mistakes)
        model.zero_grad()
        sum(parts.values()).backward()
        gradients = {}
        for name, p in model.named_parameters():
            g = torch.zeros_like(p) if p.grad is None else p.grad
            gradients[name] = [g.norm().item(), (g * wave(g)).sum().item()]
        cases.append({"method": method, "settings": s,
                      "loss": {name: value.item() for name, value in parts.items()},
                      "mistakes": {name: value.item() for name, value in mistakes.items()},
                      "gradients": gradients})
        assert all(math.isfinite(x) for g in gradients.values() for x in g), method
    out = DATA / "unlearning"
    out.mkdir(exist_ok=True)
    (out / "objectives.json").write_text(json.dumps({"weights": WEIGHTS, **sets, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
