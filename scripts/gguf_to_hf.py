#!/usr/bin/env python3
"""Turns a GGUF file of the Llama family into an HF folder; needs gguf, numpy, safetensors, no torch.

    gguf_to_hf.py SRC.gguf DST [--dtype fp32|bf16|fp16]

Everything is written to a temporary folder beside DST, read back and checked, then renamed. Whatever the
file asks for that is not implemented here (another architecture, pre-tokeniser, RoPE scaling) is refused
by name.
"""
import argparse
import functools
import json
import os
import shutil
import sys
from pathlib import Path

import gguf
import gguf_tokenizer
import numpy as np
import safetensors
from safetensors import TensorSpec

GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
BLOCK_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
TORCH_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SAFETENSORS_DTYPES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}


class Refused(Exception):
    """Something about the input that the user has to know; shown as one line."""


class Gguf:
    """The fields and tensors of one GGUF file."""

    def __init__(self, path):
        try:
            reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as e:
            raise Refused(f"{path}: not a readable GGUF file ({e})") from e
        self.path, self.fields = path, reader.fields
        self.tensors = {t.name: t for t in reader.tensors}

    def get(self, key, default=None):
        return self.fields[key].contents() if key in self.fields else default

    def need(self, key):
        if key not in self.fields:
            raise Refused(f"{self.path}: field '{key}' is missing")
        return self.get(key)


def shortest(value):
    """1e-05 instead of 9.999999747378752e-06: the decimal number that the float32 was made from."""
    return float(str(np.float32(value)))


def model_config(source, dtype):
    if (arch := source.need("general.architecture")) != "llama":
        raise Refused(f"{source.path}: architecture '{arch}' is not implemented; known: llama")
    if (scaling := source.get("llama.rope.scaling.type", "none")) != "none" or "rope_freqs.weight" in source.tensors:
        raise Refused(f"{source.path}: RoPE scaling '{scaling}' is not implemented for GGUF input")
    if source.get("llama.expert_count", 0):
        raise Refused(f"{source.path}: mixtures of experts are not implemented")
    hidden, heads = source.need("llama.embedding_length"), source.need("llama.attention.head_count")
    head_dim = source.get("llama.attention.key_length", hidden // heads)
    if (rotated := source.get("llama.rope.dimension_count", head_dim)) != head_dim:
        raise Refused(f"{source.path}: RoPE on {rotated} of {head_dim} dimensions is not implemented")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": source.need("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.need("tokenizer.ggml.eos_token_id"),
        "pad_token_id": source.get("tokenizer.ggml.padding_token_id"),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": source.need("llama.feed_forward_length"),
        "max_position_embeddings": source.need("llama.context_length"),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": source.need("llama.block_count"),
        "num_key_value_heads": source.get("llama.attention.head_count_kv", heads),
        "pretraining_tp": 1,
        "rms_norm_eps": shortest(source.need("llama.attention.layer_norm_rms_epsilon")),
        "rope_scaling": None,
        "rope_theta": shortest(source.get("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in source.tensors,
        "torch_dtype": TORCH_DTYPES[dtype],
        "use_cache": True,
        "vocab_size": source.get("llama.vocab_size", len(source.need("tokenizer.ggml.tokens"))),
    }


def hf_shapes(config):
    """The name and shape of every tensor that LlamaForCausalLM with this config has."""
    h, f, d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * d, config["num_key_value_heads"] * d
    block = {
        "input_layernorm.weight": (h,), "post_attention_layernorm.weight": (h,),
        "self_attn.q_proj.weight": (q, h), "self_attn.k_proj.weight": (kv, h),
        "self_attn.v_proj.weight": (kv, h), "self_attn.o_proj.weight": (h, q),
        "mlp.gate_proj.weight": (f, h), "mlp.up_proj.weight": (f, h), "mlp.down_proj.weight": (h, f),
    }
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], h), "model.norm.weight": (h,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], h)
    for layer in range(config["num_hidden_layers"]):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in block.items()})
    return shapes


def hf_name(name):
    if name in GLOBAL_NAMES:
        return GLOBAL_NAMES[name]
    parts = name.split(".", 2)
    if len(parts) == 3 and parts[0] == "blk" and parts[1].isdigit() and parts[2] in BLOCK_NAMES:
        return f"model.layers.{parts[1]}.{BLOCK_NAMES[parts[2]]}"
    return None


def unpermute(weight, heads):
    """llama.cpp rotates neighbouring pairs, HF the two halves of a head; its converter interleaves the
    rows of q and k for that (LlamaModel.permute), and this puts them back."""
    out, width = weight.shape
    return weight.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def hf_tensors(source, config):
    shapes, tensors = hf_shapes(config), {}
    for name, tensor in source.tensors.items():
        hf = hf_name(name)
        if hf not in shapes:
            raise Refused(f"{source.path}: tensor '{name}' has no place in a Llama model")
        weight = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if hf.endswith("q_proj.weight"):
            weight = unpermute(weight, config["num_attention_heads"])
        elif hf.endswith("k_proj.weight"):
            weight = unpermute(weight, config["num_key_value_heads"])
        if weight.shape != shapes[hf]:
            raise Refused(f"{source.path}: tensor '{name}': expected shape {shapes[hf]}, got {weight.shape}")
        if not np.isfinite(weight).all():
            raise Refused(f"{source.path}: tensor '{name}' has values that are not finite")
        tensors[hf] = np.ascontiguousarray(weight)
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise Refused(f"{source.path}: {len(missing)} tensors are missing, '{missing[0]}' the first")
    return tensors


def cast(weight, dtype):
    if dtype == "fp32":
        return weight
    if dtype == "fp16":
        half = weight.astype(np.float16)
        if not np.isfinite(half).all():
            raise Refused("the weights do not fit the range of fp16; use bf16 or fp32")
        return half
    bits = weight.view(np.uint32)  # numpy has no bfloat16: round to nearest even by hand
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path, tensors, dtype):
    specs = {
        name: TensorSpec(dtype=TORCH_DTYPES[dtype], shape=t.shape, data_ptr=t.ctypes.data, data_len=t.nbytes)
        for name, t in tensors.items()
    }
    safetensors.serialize_file(specs, str(path), metadata={"format": "pt"})
    path.chmod(0o644)


def check_safetensors(path, tensors, dtype):
    """Reads the header and every byte back."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        if header.keys() != tensors.keys():
            raise Refused(f"{path}: does not hold the tensors that were written")
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            same = file.read(end - begin) == tensors[name].tobytes()
            if not same or entry["dtype"] != SAFETENSORS_DTYPES[dtype] or tuple(entry["shape"]) != tensors[name].shape:
                raise Refused(f"{path}: tensor '{name}' does not read back as it was written")


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS = {
    "gpt-2": BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
}
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # llama.cpp's token types


@functools.cache
def sentence_pieces(source):
    """Of Gemma; None for byte-level BPE."""
    if source.need("tokenizer.ggml.model") != "llama":
        return None
    if not (arch := source.need("general.architecture")).startswith("gemma"):
        raise Refused(f"{source.path}: the SentencePiece tokenizer of '{arch}' is not implemented; known: gemma")
    return gguf_tokenizer.pieces(*(source.need(f"tokenizer.ggml.{key}") for key in ("tokens", "scores", "token_type")))


def added_tokens(source):
    if pieces := sentence_pieces(source):
        return gguf_tokenizer.added_tokens(pieces)
    tokens, types = source.need("tokenizer.ggml.tokens"), source.need("tokenizer.ggml.token_type")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": i, "content": tokens[i], **flags, "special": kind == CONTROL}
        for i, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)
    ]


def gemma_tokenizer(source, pieces, vocab_size):
    if len({token for token, _, _ in pieces}) != len(pieces) or len(pieces) != vocab_size:
        raise Refused(f"{source.path}: {len(pieces)} tokens, some of them equal, or not {vocab_size} as the embeddings")
    if source.get("tokenizer.ggml.add_eos_token", False) or source.get("tokenizer.ggml.add_space_prefix", False):
        raise Refused(f"{source.path}: a Gemma tokenizer that adds eos or a space is not implemented")
    bos, unknown = source.need("tokenizer.ggml.bos_token_id"), source.need("tokenizer.ggml.unknown_token_id")
    return gguf_tokenizer.tokenizer(pieces, bos, unknown)


def tokenizer(source, vocab_size):
    if pieces := sentence_pieces(source):
        return gemma_tokenizer(source, pieces, vocab_size)
    if (kind := source.need("tokenizer.ggml.model")) != "gpt2":
        raise Refused(f"{source.path}: tokenizer '{kind}' is not implemented; known: gpt2 (byte-level BPE), llama (Gemma's)")
    pre = source.need("tokenizer.ggml.pre")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise Refused(f"{source.path}: pre-tokeniser '{pre}' is not implemented; known: {known}")
    if source.get("tokenizer.ggml.add_bos_token", False) or source.get("tokenizer.ggml.add_eos_token", False):
        raise Refused(f"{source.path}: tokenisers that add bos or eos by themselves are not implemented")
    tokens, merges = source.need("tokenizer.ggml.tokens"), source.need("tokenizer.ggml.merges")
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) != len(tokens) or len(tokens) != vocab_size:
        raise Refused(f"{source.path}: {len(tokens)} tokens, {len(vocab)} of them different, but {vocab_size} embeddings")
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= vocab.keys():
            raise Refused(f"{source.path}: merge '{merge}' uses pieces that are no tokens")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(source),
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": None,
        "decoder": {**BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": merges,
        },
    }


def special_tokens(source):
    tokens = source.need("tokenizer.ggml.tokens")
    ids = {role: source.get(f"tokenizer.ggml.{key}_token_id")
           for role, key in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")]}
    return {f"{role}_token": tokens[i] for role, i in ids.items() if i is not None}


def tokenizer_config(source, config):
    added = added_tokens(source)
    gemma = source.need("tokenizer.ggml.model") == "llama"
    result = {
        **({"add_bos_token": True, "add_eos_token": False} if gemma else {"add_prefix_space": False}),
        "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added},
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "tokenizer_class": "GemmaTokenizer" if gemma else "GPT2Tokenizer",
        **special_tokens(source),
    }
    if template := source.get("tokenizer.chat_template"):
        result["chat_template"] = template
    return result


def convert(src, dst, dtype):
    source = Gguf(src)
    config = model_config(source, dtype)
    tensors = hf_tensors(source, config)
    tensors = {name: cast(tensors[name], dtype) for name in sorted(tensors)}
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    texts = {
        "config.json": config,
        "generation_config.json": ids,
        "tokenizer.json": tokenizer(source, config["vocab_size"]),
        "tokenizer_config.json": tokenizer_config(source, config),
        "special_tokens_map.json": special_tokens(source),
    }
    dst.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(t.nbytes for t in tensors.values()) + (16 << 20)
    if (free := shutil.disk_usage(dst.parent).free) < needed:
        raise Refused(f"{dst}: needs {needed >> 20} MiB of disk, {free >> 20} MiB are free")
    work = dst.with_name(f".{dst.name}.{os.getpid()}.tmp")
    work.mkdir()
    try:
        write_safetensors(work / "model.safetensors", tensors, dtype)
        check_safetensors(work / "model.safetensors", tensors, dtype)
        for name, content in texts.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (work / name).write_text(text, encoding="utf-8")
        work.rename(dst)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    count = sum(t.size for t in tensors.values())
    print(f"{dst}: {len(tensors)} tensors, {count:,} parameters, {config['torch_dtype']}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("src", type=Path)
    parser.add_argument("dst", type=Path)
    parser.add_argument("--dtype", choices=TORCH_DTYPES, default="fp32")
    args = parser.parse_args()
    try:
        if args.dst.exists() and (not args.dst.is_dir() or any(args.dst.iterdir())):
            raise Refused(f"{args.dst}: is there already; remove it or name another folder")
        convert(args.src, args.dst, args.dtype)
    except (Refused, OSError) as e:
        sys.exit(f"gguf_to_hf: {e}")


if __name__ == "__main__":
    main()
