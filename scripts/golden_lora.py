#!/usr/bin/env python3
"""Makes tests/data/finetune/peft-{lora,rslora,dora}/ and peft.json beside them: adapters that Python's peft made on
tests/data/model/tied (scripts/golden_model.py), and what the model says with them, forward and backward, and merged.

Needs torch, transformers, peft.

    python scripts/golden_lora.py
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def logprobs(model, ids) -> torch.Tensor:
    logits = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    return logits.gather(2, ids[:, 1:, None])[0, :, 0]


def variant(name: str, ids) -> dict:
    base = LlamaForCausalLM.from_pretrained(DATA / "model" / "tied", dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(
        r=4, lora_alpha=6, lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM",
        use_rslora=name == "rslora", use_dora=name == "dora"))
    with torch.no_grad():  # adapters that do something
        for key, value in model.named_parameters():
            if "lora_B" in key:
                value.normal_(0, 0.1)
            if "lora_magnitude_vector" in key:
                value.mul_(1 + 0.3 * torch.rand_like(value))
    said = logprobs(model, ids)
    (-said.mean()).backward()
    gradients = {}
    for key, value in model.named_parameters():
        if value.grad is not None:
            layer, part = key.removeprefix("base_model.model.").split(".lora_")
            gradients[f"{layer}.lora_{part.split('.')[0].removesuffix('_vector')}"] = value.grad.norm().item()
    folder = DATA / "finetune" / f"peft-{name}"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": "tests/data/model/tied", "target_modules": PROJECTIONS}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    with torch.no_grad():
        merged = logprobs(model.merge_and_unload(), ids)
    return {"logprobs": said.tolist(), "gradient_norms": gradients, "merged": merged.tolist()}


def main() -> None:
    torch.manual_seed(5)
    torch.set_num_threads(1)
    ids = torch.randint(3, 60, (1, 24))
    golden = {"ids": ids[0].tolist()}
    for name in ("lora", "rslora", "dora"):
        golden[name] = variant(name, ids)
    (DATA / "finetune" / "peft.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
