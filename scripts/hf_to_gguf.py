#!/usr/bin/env python3
"""Turns an HF folder of safetensors into a GGUF file; needs gguf and numpy, no torch.

    hf_to_gguf.py SRC DST.gguf [--dtype fp32|fp16|bf16|q8_0]

The dtype is that of matrices whose rows it fits (Q8_0 takes multiples of 32, fp16 stands in elsewhere); what
has one dimension is fp32, as llama.cpp wants it. The file is written under a temporary name and renamed.
"""
import argparse
import json
import math
import os
import shutil
import sys
from pathlib import Path

try:
    import gguf
    import numpy as np

    from gguf_config import metadata
    from gguf_families import FAMILIES, Refused
    from gguf_to_hf import PRE_TOKENIZERS
except ImportError as e:
    sys.exit(f"hf_to_gguf: {sys.executable} lacks a package ({e}); have it install: gguf numpy safetensors")

TYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
FILE_TYPES = {"fp32": 0, "fp16": 1, "bf16": 32, "q8_0": 7}  # llama.cpp's enum llama_ftype
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "F64": np.float64}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # llama.cpp's types of tokens


def read_json(path):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise Refused(f"{path}: {e}") from e
    if not isinstance(value, dict):
        raise Refused(f"{path}: expected a JSON object")
    return value


class Weights:
    """The tensors of a folder's safetensors files, mapped."""

    def __init__(self, folder):
        index, self.tensors = folder / "model.safetensors.index.json", {}
        files = [folder / "model.safetensors"]
        if not files[0].exists():
            if not index.exists():
                raise Refused(f"{folder}: neither model.safetensors nor {index.name} is there")
            files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
        for file in files:
            data = np.memmap(file, dtype=np.uint8, mode="r")
            length = int.from_bytes(data[:8].tobytes(), "little")
            header = json.loads(data[8:8 + length].tobytes())
            header.pop("__metadata__", None)
            for name, entry in header.items():
                self.tensors[name] = (data, 8 + length, entry)

    def shape(self, name):
        return tuple(self.tensors[name][2]["shape"])

    def values(self, name):
        """In fp32."""
        data, start, entry = self.tensors[name]
        if entry["dtype"] not in DTYPES:
            raise Refused(f"tensor '{name}' is {entry['dtype']}; known: {', '.join(DTYPES)}")
        begin, end = (start + at for at in entry["data_offsets"])
        raw = data[begin:end].view(DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32, copy=False).reshape(entry["shape"])


def tensor_plan(weights, family, dims, tied):
    """GGUF's name to HF's, of every tensor that the model has."""
    optional = any(name.endswith(f"0.{hf}") for name in weights.tensors for hf in family.optional.values())
    names = family.gguf_names(dims.layers, optional)
    if tied:
        names.pop("lm_head.weight")
    plan = {}
    for hf, ours in names.items():
        # GPT-2 as its authors saved it lacks the first part.
        found = hf if hf in weights.tensors else hf.removeprefix("transformer.")
        if found not in weights.tensors:
            raise Refused(f"tensor '{hf}' is missing")
        shape = dims.shape(ours, family.model_type == "phi3")
        expected = shape[::-1] if family.turned and family.is_turned(ours) else shape
        if weights.shape(found) != expected:
            raise Refused(f"tensor '{found}': expected shape {expected}, got {weights.shape(found)}")
        plan[ours] = found
    ignored = ("lm_head.weight", ".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")
    for name in weights.tensors.keys() - set(plan.values()):
        if not name.endswith(ignored):
            raise Refused(f"tensor '{name}' has no place in a {family.architecture} as GGUF")
    return dict(sorted(plan.items(), key=lambda item: natural(item[0])))


def natural(name):
    """Blocks in order of their numbers, behind what is no block."""
    parts = name.split(".")
    return (1, int(parts[1]), name) if parts[0] == "blk" else (0, 0, name)


def stored_type(name, shape, dtype):
    if len(shape) == 1 or name == "position_embd.weight":
        return gguf.GGMLQuantizationType.F32
    if dtype == "q8_0" and shape[-1] % 32:
        return gguf.GGMLQuantizationType.F16
    return gguf.GGMLQuantizationType[TYPES[dtype]]


# ---- tokenizer

def token_list(folder, vocab_size):
    """(tokenizer.json, tokens, types) by id; ids without a token get a name and count as unused."""
    path = folder / "tokenizer.json"
    text = read_json(path)
    model = text.get("model", {})
    if model.get("type") != "BPE":
        raise Refused(f"{path}: a model of type {model.get('type')!r} is not written as GGUF; known: BPE")
    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    types = [UNUSED] * vocab_size
    fallback = model.get("byte_fallback", False)
    for token, i in model["vocab"].items():
        if not 0 <= i < vocab_size:
            raise Refused(f"{path}: token {token!r} has id {i}, the model {vocab_size} embeddings")
        is_byte = fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        tokens[i], types[i] = token, BYTE if is_byte else NORMAL
    for added in text.get("added_tokens", []):
        i = added["id"]
        if not 0 <= i < vocab_size:
            raise Refused(f"{path}: token {added['content']!r} has id {i}, the model {vocab_size} embeddings")
        tokens[i], types[i] = added["content"], CONTROL if added.get("special") else USER_DEFINED
    return text, tokens, types


def merge_list(model):
    return [tuple(m) if isinstance(m, list) else tuple(m.split(" ", 1)) for m in model.get("merges", [])]


def steps_of(step):
    """What of a pre-tokeniser decides where it cuts."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [inner for part in step["pretokenizers"] for inner in steps_of(part)]
    keys = {"Split": ("pattern", "behavior", "invert"), "Digits": ("individual_digits",),
            "ByteLevel": ("add_prefix_space", "use_regex")}.get(step["type"], tuple(step))
    return [(step["type"], *(json.dumps(step.get(key), sort_keys=True) for key in keys))]


def pre_tokenizer(path, text):
    for name, known in PRE_TOKENIZERS.items():
        if steps_of(text.get("pre_tokenizer")) == steps_of(known):
            return name
    raise Refused(f"{path}: its pre-tokeniser is none that GGUF has a name for here; known: {', '.join(PRE_TOKENIZERS)}")


def add_tokenizer(writer, folder, config):
    text, tokens, types = token_list(folder, config["vocab_size"])
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    merges, model = merge_list(text["model"]), text["model"]
    if model.get("byte_fallback"):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        # SentencePiece merges what scores best: the earlier its first merge, the better; single characters last.
        scores = {}
        for rank, (left, right) in enumerate(merges):
            scores.setdefault(left + right, -float(rank))
        last = -float(len(merges))
        writer.add_token_list(tokens)
        writer.add_token_scores([
            scores.get(token, last - i) if kind == NORMAL else 0.0 if kind == BYTE else -1000.0
            for i, (token, kind) in enumerate(zip(tokens, types))])
        if model.get("unk_token") in model["vocab"]:
            types[model["vocab"][model["unk_token"]]] = UNKNOWN
            writer.add_unk_token_id(model["vocab"][model["unk_token"]])
        steps = json.dumps(text.get("normalizer"))
        writer.add_add_space_prefix('"Prepend"' in steps)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre_tokenizer(folder / "tokenizer.json", text))
        writer.add_token_list(tokens)
        writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_token_types(types)
    ids = {token: i for i, token in enumerate(tokens)}
    adds = set()
    for role, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id), ("pad", writer.add_pad_token_id)):
        value = config.get(f"{role}_token_id")
        if isinstance(value, list):
            value = value[0] if value else None
        if value is None:
            named = settings.get(f"{role}_token")
            value = ids.get(named["content"] if isinstance(named, dict) else named)
        if value is not None:
            add(value)
        if settings.get(f"add_{role}_token") or role == "bos" and value is not None and value in template_ids(text):
            adds.add(role)
    writer.add_add_bos_token("bos" in adds)
    writer.add_add_eos_token("eos" in adds)
    template = folder / "chat_template.jinja"
    template = template.read_text(encoding="utf-8") if template.exists() else settings.get("chat_template")
    if isinstance(template, str):
        writer.add_chat_template(template)


def template_ids(text):
    """Ids that the post-processor puts around a text."""
    found = set()
    for step in [text.get("post_processor") or {}, *((text.get("post_processor") or {}).get("processors") or [])]:
        for special in (step.get("special_tokens") or {}).values():
            found.update(special.get("ids", []) if isinstance(special, dict) else [])
    return found


# ---- the file

def add_metadata(writer, arch, keys, dtype, folder):
    writer.add_type("model")
    writer.add_name(folder.resolve().name)
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in keys.items():
        key = f"{arch}.{key}"
        if isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)


def convert(src, dst, dtype):
    config = read_json(src / "config.json")
    arch, dims, keys, extra = metadata(config)
    family, weights = FAMILIES[arch], Weights(src)
    tied = config.get("tie_word_embeddings", arch in ("gpt2", "gemma2", "gemma3"))
    plan = tensor_plan(weights, family, dims, tied)
    types = {name: stored_type(name, dims.shape(name, family.model_type == "phi3"), dtype) for name in plan}
    dst.parent.mkdir(parents=True, exist_ok=True)
    work = dst.with_name(f".{dst.name}.{os.getpid()}.tmp")
    writer = gguf.GGUFWriter(work, arch)
    try:
        add_metadata(writer, arch, keys, dtype, src)
        add_tokenizer(writer, src, config)
        needed = 64 << 20
        for name, values in extra.items():
            writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
        for name, kind in types.items():
            shape = dims.shape(name, family.model_type == "phi3")
            block, size = gguf.GGML_QUANT_SIZES[kind]
            nbytes = math.prod(shape) // block * size
            needed += nbytes
            writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
        if (free := shutil.disk_usage(dst.parent).free) < needed:
            raise Refused(f"{dst}: needs {needed >> 20} MiB of disk, {free >> 20} MiB are free")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for values in extra.values():
            writer.write_tensor_data(values)
        for name, kind in types.items():
            values = np.ascontiguousarray(family.to_gguf(name, weights.values(plan[name]), dims))
            if kind == gguf.GGMLQuantizationType.F16 and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
                raise Refused(f"tensor '{plan[name]}' does not fit the range of fp16; use bf16 or fp32")
            writer.write_tensor_data(gguf.quants.quantize(values, kind))
        writer.close()
        with open(work, "rb") as file:
            os.fsync(file.fileno())
        work.rename(dst)
    finally:
        work.unlink(missing_ok=True)
    print(f"{dst}: {len(plan)} tensors, {arch}, {TYPES[dtype]}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("src", type=Path)
    parser.add_argument("dst", type=Path)
    parser.add_argument("--dtype", choices=TYPES, default="fp32")
    args = parser.parse_args()
    try:
        convert(args.src, args.dst, args.dtype)
    except (Refused, OSError) as e:
        sys.exit(f"hf_to_gguf: {args.src}: {e}")


if __name__ == "__main__":
    main()
