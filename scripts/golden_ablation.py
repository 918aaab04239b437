"""Golden values of directional ablation: directions by forward hooks on a transformers model, and weights
ablated by heretic's formulas in torch. Writes tests/data/editing/ablation.safetensors.

    python scripts/golden_ablation.py

Needs torch, transformers and the model of scripts/golden_model.py.
"""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
LENGTHS = {"forget": [3, 9, 5, 12, 1], "retain": [4, 2, 11, 7]}
# name: (direction index or None, {part: (max weight, its position, min weight, min distance)})
ABLATIONS = {
    "global": (1.3, {"attention": (1.2, 1.4, 0.3, 1.5), "mlp": (0.9, 2.0, 0.0, 1.0)}),
    "per_layer": (None, {"attention": (0.7, 0.0, 0.1, 1.2), "mlp": (1.0, 1.0, 1.0, 5.0)}),
}


def mean_residuals(model, prompts):
    """[layers + 1, d]: the embeddings and each block's output at the last token, before the final norm."""
    states = [[] for _ in range(len(model.model.layers) + 1)]
    hooks = [model.model.embed_tokens.register_forward_hook(
        lambda module, args, out: states[0].append(out[0, -1]))]
    for i, layer in enumerate(model.model.layers, start=1):
        hooks.append(layer.register_forward_hook(
            lambda module, args, out, i=i: states[i].append((out[0] if isinstance(out, tuple) else out)[0, -1])))
    for prompt in prompts:
        model(prompt[None])
    for hook in hooks:
        hook.remove()
    return torch.stack([torch.stack(rows).double().mean(0) for rows in states])


def main():
    torch.manual_seed(0)
    tensors = {}
    prompts = {}
    for name, lengths in LENGTHS.items():
        prompts[name] = [torch.randint(0, 67, (n,)) for n in lengths]
        tensors[f"prompts.{name}"] = torch.full((len(lengths), max(lengths)), -1)
        for row, prompt in zip(tensors[f"prompts.{name}"], prompts[name]):
            row[:len(prompt)] = prompt
    folder = DATA / "model" / "untied-llama3"
    for name, (index, kernels) in ABLATIONS.items():
        model = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").float().eval()
        with torch.no_grad():
            means = {key: mean_residuals(model, prompts[key]) for key in prompts}
            directions = torch.nn.functional.normalize(means["forget"] - means["retain"], p=2, dim=1)
            tensors["directions"] = directions
            shared = None
            if index is not None:
                whole = int(index + 1)
                shared = torch.nn.functional.normalize(
                    directions[whole].lerp(directions[whole + 1], index + 1 - whole), p=2, dim=0)
            for i, layer in enumerate(model.model.layers):
                for part, linear in (("attention", layer.self_attn.o_proj), ("mlp", layer.mlp.down_proj)):
                    most, position, least, reach = kernels[part]
                    distance = abs(i - position)
                    if distance <= reach:
                        weight = most + (distance / reach) * (least - most)
                        v = directions[i + 1] if shared is None else shared
                        w = linear.weight.double()
                        linear.weight.copy_(w - weight * torch.outer(v, v) @ w)
                    tensors[f"{name}.{i}.{part}"] = linear.weight.detach().clone().contiguous()
    out = DATA / "editing" / "ablation.safetensors"
    out.parent.mkdir(exist_ok=True)
    save_file(tensors, str(out))
    print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
