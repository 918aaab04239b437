#!/usr/bin/env python3
"""GGUF against transformers: tiny models of every family, written by hf_to_gguf.py, are read by transformers' own
GGUF reader and by gguf_to_hf.py; logits of both equal the original's. Needs torch, transformers, gguf.

    parity_gguf.py [FILE.gguf ...]     real files too: gguf_to_hf.py's tensors against transformers' reader
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
from transformers import (AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GPT2Config, LlamaConfig, Phi3Config,
                          Qwen2Config, Qwen3Config)

import gguf_to_hf
import hf_to_gguf

SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None)
CONFIGS = {
    "llama": LlamaConfig(**SIZES, rope_theta=5e5),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "gemma2": Gemma2Config(**SIZES, head_dim=8, sliding_window=4, query_pre_attn_scalar=8),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=4, query_pre_attn_scalar=8),
    "phi3": Phi3Config(**SIZES),
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_head=4, n_layer=2, n_positions=64, bos_token_id=1, eos_token_id=2),
}


def add_tokenizer(folder, size):
    tokens = [chr(0x100 + i) for i in range(size - 1)]
    tokens.append(tokens[0] + tokens[1])
    text = {"added_tokens": [], "pre_tokenizer": gguf_to_hf.PRE_TOKENIZERS["gpt-2"],
            "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [" ".join(tokens[:2])]}}
    (folder / "tokenizer.json").write_text(json.dumps(text))


def randomise(model):
    """Norms and biases too, which start as ones and zeros."""
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn_like(value) * 0.3)
    return model


def tiny(name, config, folder):
    model = randomise(AutoModelForCausalLM.from_config(config)).eval()
    model.save_pretrained(folder / name)
    add_tokenizer(folder / name, config.vocab_size)
    hf_to_gguf.convert(folder / name, folder / f"{name}.gguf", "fp32")
    gguf_to_hf.convert(folder / f"{name}.gguf", folder / f"{name}-back", "fp32")
    ids = torch.randint(0, config.vocab_size, (2, 12))
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=f"{name}.gguf", config=config).eval()
    ours = AutoModelForCausalLM.from_pretrained(folder / f"{name}-back").eval()
    with torch.no_grad():
        expected = model(ids).logits
        return ((theirs(ids).logits - expected).abs().max().item(), (ours(ids).logits - expected).abs().max().item())


def real(file, folder):
    """The largest difference of any tensor of a real file."""
    source = gguf_to_hf.Gguf(file)
    family, dims, config = gguf_to_hf.model_config(source, "float32")
    plan = gguf_to_hf.tensor_plan(source, family, dims, config["tie_word_embeddings"])
    gguf_to_hf.write_weights(folder / "x.safetensors", source, family, dims, plan, "fp32")
    from safetensors.torch import safe_open
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).state_dict()
    most = 0.0
    with safe_open(folder / "x.safetensors", "pt") as ours:
        assert set(ours.keys()) == theirs.keys() - ({"lm_head.weight"} if config["tie_word_embeddings"] else set())
        for name in ours.keys():
            most = max(most, (ours.get_tensor(name) - theirs[name]).abs().max().item())
    return len(plan), most


def main():
    torch.manual_seed(0)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, config in CONFIGS.items():
            theirs, ours = tiny(name, config, folder)
            failed |= max(theirs, ours) > 1e-4
            print(f"{name:<8} logits: read by transformers {theirs:.1e}, by gguf_to_hf {ours:.1e}")
        for file in map(Path, sys.argv[1:]):
            count, most = real(file, folder)
            failed |= most > 1e-6
            print(f"{file.name}: {count} tensors, largest difference {most:.1e}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
