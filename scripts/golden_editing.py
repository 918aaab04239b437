"""Golden updates of the editors: each method as its reference code runs it, with hooks on a transformers
model in fp64, every layer and position of every prompt in every step, weights written in place, primal
solves by LU. Writes tests/data/editing/ for the checkpoint tests/data/model/untied-llama3.

    python scripts/golden_editing.py

Needs torch and transformers.
"""

import json
import math
import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM
from transformers.models.llama import modeling_llama

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
CHECKPOINT = "untied-llama3"
VOCABULARY, RIDGE = 67, 1e-5
VALUE = dict(steps=6, learning_rate=0.5, kl_factor=0.0625, weight_decay=0.5, early_stop=0.05, clamp=0.75)


def rms_norm(self, x):  # transformers' own goes through fp32
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


modeling_llama.LlamaRMSNorm.forward = rms_norm


def load():
    model = LlamaForCausalLM.from_pretrained(DATA / "model" / CHECKPOINT, dtype=torch.float64,
                                             attn_implementation="sdpa").eval()
    return model.requires_grad_(False)


def first(output):
    return output[0] if isinstance(output, tuple) else output


def run(model, ids, hooks=()):
    """Logits [T, vocabulary]; hooks are (module, function of its output [T, d] or None to leave it)."""
    handles = []
    for module, change in hooks:
        def hook(_module, _inputs, output, change=change):
            new = change(first(output)[0])
            if new is None:
                return None
            return (new[None], *output[1:]) if isinstance(output, tuple) else new[None]
        handles.append(module.register_forward_hook(hook))
    logits = model(torch.tensor([ids])).logits[0]
    for handle in handles:
        handle.remove()
    return logits


def output_at(model, module, ids, position):
    seen = []
    run(model, ids, [(module, lambda out: seen.append(out[position].clone()))])
    return seen[0]


def key_at(model, layer, ids, position):
    seen = []
    handle = model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0][0, position].clone()))
    run(model, ids)
    handle.remove()
    return seen[0]


def keys(model, layer, edits):
    """[d_ff, n]: averaged over each edit's contexts."""
    return torch.stack([torch.stack([key_at(model, layer, c["ids"], c["subject"]) for c in e["contexts"]]).mean(0)
                        for e in edits], 1)


def sites(model, layer, site):
    block = model.model.layers[layer]
    return {"mlp": [block.mlp], "hidden": [block], "both": [block.self_attn, block.mlp]}[site]


def optimise(model, layer, edit, site, settings):
    """v* of one edit: a vector for each module of the site."""
    modules, bare = sites(model, layer, site), edit["contexts"][0]
    start = [output_at(model, m, bare["ids"], bare["subject"]) for m in modules]
    deltas = [torch.zeros_like(s, requires_grad=True) for s in start]
    adam = torch.optim.Adam(deltas, lr=settings["learning_rate"])

    def hooks(position):
        def add(delta):
            def change(out):
                out = out.clone()
                out[position] = out[position] + delta
                return out
            return change
        return [(m, add(d)) for m, d in zip(modules, deltas)]

    kl_prompt, target, reference = edit["kl"], edit["target"], None
    for step in range(settings["steps"]):
        adam.zero_grad()
        nll = 0
        for context in edit["contexts"]:
            logp = run(model, context["ids"] + target[:-1], hooks(context["subject"])).log_softmax(-1)
            begin = len(context["ids"]) - 1
            nll = nll - sum(logp[begin + i, t] for i, t in enumerate(target)) / len(target)
        nll = nll / len(edit["contexts"])
        p = run(model, kl_prompt["ids"], hooks(kl_prompt["subject"]))[kl_prompt["subject"]].log_softmax(-1)
        if reference is None:
            reference = p.detach()
        loss = nll + settings["kl_factor"] * (p.exp() * (p - reference)).sum()
        loss = loss + settings["weight_decay"] * sum(d.norm() / s.norm() ** 2 for d, s in zip(deltas, start))
        if loss < settings["early_stop"] or step == settings["steps"] - 1:
            break
        loss.backward()
        adam.step()
        with torch.no_grad():
            for d, s in zip(deltas, start):
                largest = settings["clamp"] * s.norm()
                if d.norm() > largest:
                    d.mul_(largest / d.norm())
    return [(s + d).detach() for s, d in zip(start, deltas)]


def weight(model, layer):
    return model.model.layers[layer].mlp.down_proj.weight


def regular(c):
    c = c.double()
    return c + RIDGE * c.diagonal().mean() * torch.eye(len(c), dtype=c.dtype)


def rome(model, covariance, edits, layer, original_key):
    value = {**VALUE, "clamp": 4}
    targets = [optimise(model, layer, e, "mlp", value)[0] for e in edits]
    w, before = weight(model, layer), weight(model, layer).clone()
    bias = model.model.layers[layer].mlp.down_proj.bias
    for e, v in zip(edits, targets):
        mean = keys(model, layer, [e])[:, 0]
        k = key_at(model, layer, e["contexts"][0]["ids"], e["contexts"][0]["subject"]) if original_key else mean
        u = torch.linalg.solve(regular(covariance[layer]), mean)
        u = u / u.norm()
        w.add_(torch.outer((v - w @ k - bias) / (k @ u), u))
    return {layer: w - before}


def memit(model, covariance, edits, layers, weigh, site="hidden", root=False, solve=None, earlier=None):
    """The loop of MEMIT; `solve`(layer, K) gives X of R Xᵀ. Leaves the model edited."""
    last = layers[-1]
    value = {**VALUE, **(dict(kl_factor=1, learning_rate=0.2) if site == "both" else {})}
    targets = torch.stack([optimise(model, last, e, site, value)[-1] for e in edits])
    module, changes = sites(model, last, site)[-1], {}
    for i, layer in enumerate(layers):
        k = keys(model, layer, edits)
        now = torch.stack([output_at(model, module, e["contexts"][0]["ids"], e["contexts"][0]["subject"])
                           for e in edits])
        left = len(layers) - i
        r = (targets - now).T / (math.sqrt(left) if root else left)
        x = (torch.linalg.solve(weigh * regular(covariance[layer]) + k @ k.T, k) if solve is None
             else solve(layer, k))
        changes[layer] = r @ x.T
        weight(model, layer).add_(changes[layer])
    for layer in layers:
        if earlier is not None:
            k = keys(model, layer, edits)
            earlier[layer] = earlier[layer] + k @ k.T
    return changes


def add(total, changes):
    for layer, change in changes.items():
        total[layer] = total.get(layer, 0) + change


def alphaedit(covariance, batches, layers, threshold, l2):
    model, total, projector, earlier = load(), {}, {}, {}
    for layer in layers:
        u, s, _ = torch.linalg.svd(covariance[layer].double())
        u = u[:, s < threshold]
        assert 0 < u.shape[1] < len(s)
        projector[layer] = u @ u.T
        earlier[layer] = torch.zeros_like(projector[layer])

    def solve(layer, k):
        p = projector[layer]
        return torch.linalg.solve(p @ (k @ k.T + earlier[layer]) + l2 * torch.eye(len(p), dtype=p.dtype), p @ k)

    for batch in batches:
        add(total, memit(model, covariance, batch, layers, None, solve=solve, earlier=earlier))
    return total


def emmet(model, covariance, edits, layer, mu):
    targets = torch.stack([optimise(model, layer, e, "mlp", {**VALUE, "clamp": 4})[0] for e in edits], 1)
    k, inverse = keys(model, layer, edits), torch.linalg.inv(regular(covariance[layer]))
    bias = model.model.layers[layer].mlp.down_proj.bias
    r = targets - weight(model, layer) @ k - bias[:, None]
    d = k.T @ inverse @ k + mu * torch.eye(k.shape[1], dtype=k.dtype)
    return {layer: r @ torch.linalg.inv(d) @ k.T @ inverse}


def rect(model, covariance, edits, layers, weigh, keep):
    before = {layer: weight(model, layer).clone() for layer in layers}
    changes = memit(model, covariance, edits, layers, weigh)
    for layer, change in changes.items():
        ratio = (change / before[layer]).abs().flatten()
        zeros = ratio.argsort()[: ratio.numel() - round(keep * ratio.numel())]
        change.view(-1)[zeros] = 0
    return changes


def fine_tune(edits, layer, steps, rate, clamp, answered):
    model = load()
    w = weight(model, layer).requires_grad_(True)
    before = w.detach().clone()
    adam = torch.optim.Adam([w], lr=rate)
    for _ in range(steps):
        adam.zero_grad()
        loss = 0
        for e in edits:
            target = e["target"]
            for c in e["contexts"]:
                logp = run(model, c["ids"] + (target[:-1] if answered else [])).log_softmax(-1)
                at = len(c["ids"]) - 1
                nll = -sum(logp[at + (i if answered else 0), t] for i, t in enumerate(target)) / len(target)
                loss = loss + nll / len(e["contexts"]) / len(edits)
        loss.backward()
        adam.step()
        with torch.no_grad():
            w.copy_(before + (w - before).clamp(-clamp, clamp))
    return {layer: w.detach() - before}


def main():
    torch.manual_seed(11)
    torch.set_num_threads(1)

    def ids(count):
        return torch.randint(0, VOCABULARY, (count,)).tolist()

    edits = []
    for name, subjects, target in (("a", (0, 3, 5), 3), ("b", (4, 6), 1), ("c", (2, 0, 7), 6)):
        contexts = [{"ids": ids(5 + 2 * i), "subject": s} for i, s in enumerate(subjects)]
        edits.append({"id": name, "contexts": contexts, "target": ids(target),
                      "kl": {"ids": ids(5), "subject": 2}})
    model, covariance = load(), {}
    texts = [ids(40) for _ in range(25)]
    for layer in range(3):
        rows = []
        handle = model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(
            lambda _module, inputs: rows.append(inputs[0][0]))
        for text in texts:
            run(model, text)
        handle.remove()
        k = torch.cat(rows)
        covariance[layer] = (k.T @ k / len(k)).float()

    threshold = torch.linalg.eigvalsh(covariance[0].double())[30].item()
    independent, one_by_one, written = {}, {}, load()
    for batch in (edits[:2], edits[2:]):
        add(independent, memit(load(), covariance, batch, [0, 1], 20))
        add(one_by_one, memit(written, covariance, batch, [0, 1], 20))
    results = {
        "rome": rome(load(), covariance, edits, 1, False),
        "rome_original_key": rome(load(), covariance, edits, 1, True),
        "memit": memit(load(), covariance, edits, [0, 1], 20),
        "memit_independent": independent,
        "memit_sequential": one_by_one,
        "pmet": memit(load(), covariance, edits, [0, 1], 20, site="both", root=True),
        "emmet": emmet(load(), covariance, edits, 1, 0.1),
        "alphaedit": alphaedit(covariance, (edits[:2], edits[2:]), [0, 1], threshold, 0.5),
        "rect": rect(load(), covariance, edits, [0, 1], 20, 0.4),
        "ft_l": fine_tune(edits, 1, 4, 1e-2, 2.5e-2, False),
        "ft_m": fine_tune(edits, 2, 4, 1e-2, 2.5e-2, True),
    }
    tensors = {f"covariance.{layer}": c for layer, c in covariance.items()}
    for name, changes in results.items():
        for layer, change in changes.items():
            tensors[f"{name}.{layer}"] = change.float().contiguous()
    out = DATA / "editing"
    out.mkdir(exist_ok=True)
    save_file(tensors, out / "golden.safetensors")
    (out / "golden.json").write_text(json.dumps({"checkpoint": CHECKPOINT, "edits": edits,
                                                 "threshold": threshold}) + "\n")
    for name, tensor in tensors.items():
        print(name, tuple(tensor.shape), f"{tensor.norm():.4g}")


if __name__ == "__main__":
    main()
