#!/usr/bin/env python3
"""Writes tests/data/checkpoint: files made by the libraries whose formats core/checkpoint reads.

    make_checkpoint_goldens.py [safetensors] [pickle] [fp8] [adapters]

safetensors needs numpy and safetensors; pickle torch; fp8 torch and transformers 5; adapters peft (0.17) and
transformers.
"""
import collections
import os
import pickle
import shutil
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "tests/data/checkpoint"


def safetensors_part():
    import numpy as np
    from safetensors import TensorSpec, serialize_file
    path = DATA / "python.safetensors"
    tensors = {
        "double": np.array([0.5, -2.0], dtype=np.float64),
        "float": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
        "half": np.array([[1.5], [-0.25]], dtype=np.float16),
        "brain": np.array([0x3FC0, 0xC040], dtype=np.uint16),  # 1.5, -3
        "long": np.array(-(2**40), dtype=np.int64),
        "int": np.array([7, -7], dtype=np.int32),
        "bytes": np.array([0, 127, 255], dtype=np.uint8),
        "flags": np.array([True, False, True], dtype=np.bool_),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    specs = {
        name: TensorSpec(dtype="bfloat16" if name == "brain" else t.dtype.name, shape=t.shape,
                         data_ptr=t.ctypes.data, data_len=t.nbytes)
        for name, t in tensors.items()
    }
    serialize_file(specs, str(path), metadata={"note": "from Python: 台湾"})
    path.chmod(0o644)


def save_file(tensors, path):
    from safetensors.torch import save_file as save
    save({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)


class Runs:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self):
        return os.system, ("true",)


def pickle_part():
    import torch
    torch.manual_seed(0)
    folder = DATA / "pickle"
    folder.mkdir(exist_ok=True)
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = collections.OrderedDict({
        "embed.weight": torch.nn.Parameter(base),
        "head.weight": base,  # tied
        "part": base[1:3, 2:],  # an offset into the same storage
        "turned": base.t(),
        "steps": torch.arange(20)[::3],
        "half": torch.randn(3, 2).half(),
        "brain": torch.randn(5).bfloat16(),
        "double": torch.randn(2).double(),
        "byte": torch.tensor([0, 255], dtype=torch.uint8),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    })
    state._metadata = {"": {"version": 1}}
    save_file(state, folder / "state.safetensors")
    torch.save(state, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    state["fp8"] = torch.randn(2, 4).to(torch.float8_e4m3fn)  # the new format's UntypedStorage
    state["wide"] = torch.tensor([1, 40000], dtype=torch.uint16)
    save_file({name: state[name] for name in ("fp8", "wide")}, folder / "new.safetensors")
    torch.save(state, folder / "state.bin")
    weights = {name: state[name] for name in ("half", "brain")}
    torch.save({"epoch": 3, "state_dict": weights, "lr": 0.1, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
               folder / "training.pt")
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sequential(torch.nn.LayerNorm(2)))
    module.register_buffer("count", torch.arange(4))
    torch.jit.script(module).save(str(folder / "script.pt"))
    save_file(module.state_dict(), folder / "script.safetensors")
    torch.save(module, folder / "module.pt")
    torch.save({"weight": torch.ones(1), "more": Runs()}, folder / "code.bin")
    (folder / "plain.bin").write_bytes(pickle.dumps({"weight": [1.0, 2.0]}))


def fp8_part():
    import json

    import torch
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
    torch.manual_seed(0)
    folder = DATA / "fp8"
    folder.mkdir(exist_ok=True)
    rows, cols = 16, 8
    stored, plain = {}, {}
    for name, shape in {"a.weight": (32, 24), "b.weight": (20, 13), "c.weight": (5, 3)}.items():
        weight = torch.randn(shape) * torch.rand(shape[0], 1)
        grid = (-(-shape[0] // rows), -(-shape[1] // cols))
        padded = torch.zeros(grid[0] * rows, grid[1] * cols)
        padded[:shape[0], :shape[1]] = weight
        blocks = padded.reshape(grid[0], rows, grid[1], cols).permute(0, 2, 1, 3)
        # transformers 4.57, FineGrainedFP8HfQuantizer.create_quantized_param
        scale = torch.finfo(torch.float8_e4m3fn).max / blocks.abs().amax(dim=(-1, -2))
        codes = (blocks * scale[..., None, None]).clamp(-448, 448).to(torch.float8_e4m3fn)
        codes = codes.permute(0, 2, 1, 3).reshape(padded.shape)
        scale = scale.reciprocal()
        # transformers 5 wants whole blocks: the padded matrix, of which the weight is the corner.
        values = Fp8Dequantize(None)._dequantize_one(codes, scale)
        stored[name] = codes[:shape[0], :shape[1]]
        stored[name + "_scale_inv"] = scale
        plain[name] = values[:shape[0], :shape[1]]
        assert values.dtype == torch.float32
    stored["norm.weight"] = plain["norm.weight"] = torch.randn(4).bfloat16()
    save_file(stored, folder / "model.safetensors")
    save_file(plain, folder / "plain.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
              "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
                                      "weight_block_size": [rows, cols]}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def adapters_part():
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig
    torch.manual_seed(0)
    folder = DATA / "adapters"
    shutil.rmtree(folder, ignore_errors=True)
    llama = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
                        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16)
    gpt2 = GPT2Config(vocab_size=16, n_embd=8, n_head=2, n_layer=1, n_positions=8)
    for name, config, dtype in (("llama", llama, torch.float32), ("gpt2", gpt2, torch.float32),
                                ("brain", llama, torch.bfloat16)):
        AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
    adapters = {
        "lora": ("llama", dict(target_modules=["q_proj", "down_proj", "o_proj"], r=3, lora_alpha=5,
                               rank_pattern={"layers.1.self_attn.q_proj": 2, r".*down_proj": 4},
                               alpha_pattern={"o_proj": 7, "q_proj": 9})),
        "rslora": ("brain", dict(target_modules="all-linear", r=4, lora_alpha=8, use_rslora=True)),
        "dora": ("llama", dict(target_modules=["v_proj", "up_proj", "embed_tokens"], r=2, lora_alpha=4, use_dora=True)),
        "saved": ("llama", dict(target_modules=["k_proj"], r=2, lora_alpha=4, modules_to_save=["lm_head", "norm"])),
        "turned": ("gpt2", dict(target_modules=["c_attn", "c_proj", "wte"], r=2, lora_alpha=6, use_dora=True,
                                fan_in_fan_out=True)),
    }
    for name, (base, settings) in adapters.items():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / base),
                               LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.no_grad():
            for key, value in model.named_parameters():
                if "lora_" in key and "magnitude" not in key:
                    value.copy_(torch.randn_like(value) * 0.5)
                elif "magnitude" in key:
                    value.mul_(torch.rand_like(value) + 0.5)
                elif value.requires_grad:
                    value.add_(torch.randn_like(value))
        model.save_pretrained(folder / name, safe_serialization=name != "saved", save_embedding_layers=False)
        path = folder / name / "adapter_config.json"
        path.write_text(path.read_text().replace(str(folder / base), f"../{base}"))
        (folder / name / "README.md").unlink()
        reread = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / base), folder / name)
        before = AutoModelForCausalLM.from_pretrained(folder / base).state_dict()
        merged = reread.merge_and_unload().state_dict()
        changed = {key: value for key, value in merged.items()
                   if key in before and not torch.equal(value, before[key])}
        save_file(changed, folder / name / "merged.safetensors")


def main():
    parts = {"safetensors": safetensors_part, "pickle": pickle_part, "fp8": fp8_part, "adapters": adapters_part}
    asked = sys.argv[1:] or list(parts)
    if unknown := [part for part in asked if part not in parts]:
        sys.exit(f"unknown part {unknown[0]}; known: {', '.join(parts)}")
    for part in asked:
        parts[part]()


if __name__ == "__main__":
    main()
