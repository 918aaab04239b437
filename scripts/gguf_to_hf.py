#!/usr/bin/env python3
"""Turns a GGUF file into an HF folder; needs gguf, numpy, safetensors, no torch.

    gguf_to_hf.py SRC.gguf DST [--dtype fp32|bf16|fp16]

Everything is written to a temporary folder beside DST, read back and checked, then renamed. Whatever the
file asks for that is not implemented (another architecture, pre-tokeniser, RoPE scaling) is refused by
name. The families are in gguf_families.py, their settings in gguf_config.py.
"""
import argparse
import functools
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

try:
    import gguf
    import numpy as np
    import safetensors

    import gguf_tokenizer
    from gguf_config import model_config
    from gguf_families import Refused
except ImportError as e:
    sys.exit(f"gguf_to_hf: {sys.executable} lacks a package ({e}); have it install: gguf numpy safetensors")

TORCH_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SAFETENSORS_DTYPES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}


class Gguf:
    """The fields and tensors of one GGUF file."""

    def __init__(self, path):
        try:
            reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError, OverflowError, MemoryError, TypeError) as e:
            raise Refused(f"{path}: not a readable GGUF file ({e})") from e
        self.path, self.fields = path, reader.fields
        self.tensors = {t.name: t for t in reader.tensors}
        if len(self.tensors) != len(reader.tensors):
            raise Refused(f"{path}: holds two tensors of one name")

    def get(self, key, default=None):
        return self.fields[key].contents() if key in self.fields else default

    def need(self, key):
        if key not in self.fields:
            raise Refused(f"{self.path}: field '{key}' is missing")
        return self.get(key)


def tensor_plan(source, family, dims, tied):
    """HF's name to (GGUF's tensor, shape), of every tensor that the model has, and nothing else in the file."""
    optional = any(f"blk.0.{name}" in source.tensors for name in family.optional)
    names = family.gguf_names(dims.layers, optional)
    if tied:
        names.pop("lm_head.weight")
    known = {*names.values(), "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight",
             *(["output.weight"] if tied else [])}
    if extra := sorted(source.tensors.keys() - known):
        raise Refused(f"{source.path}: tensor '{extra[0]}' has no place in a {family.architecture} of {dims.layers} layers")
    if missing := [ours for ours in names.values() if ours not in source.tensors]:
        raise Refused(f"{source.path}: {len(missing)} tensors are missing, '{missing[0]}' the first")
    plan = {}
    for hf in sorted(names):
        tensor = source.tensors[names[hf]]
        shape, expected = tuple(int(n) for n in reversed(tensor.shape)), dims.shape(names[hf], family.model_type == "phi3")
        if shape != expected:
            raise Refused(f"{source.path}: tensor '{tensor.name}': expected shape {expected}, got {shape}")
        plan[hf] = tensor, expected[::-1] if family.turned and family.is_turned(tensor.name) else expected
    return plan


def values_of(source, tensor):
    try:
        weight = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as e:
        raise Refused(f"{source.path}: tensor '{tensor.name}': {tensor.tensor_type.name} is not read ({e})") from e
    if not np.isfinite(weight).all():
        raise Refused(f"{source.path}: tensor '{tensor.name}' has values that are not finite")
    return weight


def cast(weight, dtype, name):
    if dtype == "fp32":
        return weight
    if dtype == "fp16":
        with np.errstate(over="ignore"):
            half = weight.astype(np.float16)
        if not np.isfinite(half).all():
            raise Refused(f"tensor '{name}' does not fit the range of fp16; use bf16 or fp32")
        return half
    bits = weight.view(np.uint32)  # numpy has no bfloat16: round to nearest even by hand
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_weights(path, source, family, dims, plan, dtype):
    """A safetensors file, one tensor in memory at a time; (parameters, digests) of what was written."""
    size, header, at = 4 if dtype == "fp32" else 2, {"__metadata__": {"format": "pt"}}, 0
    for hf, (_, shape) in plan.items():
        end = at + size * int(np.prod(shape))
        header[hf] = {"dtype": SAFETENSORS_DTYPES[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digests = {}
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for hf, (tensor, shape) in plan.items():
            weight = np.ascontiguousarray(family.to_hf(tensor.name, values_of(source, tensor).reshape(
                tuple(int(n) for n in reversed(tensor.shape))), dims))
            data = cast(weight, dtype, hf).tobytes()
            digests[hf] = hashlib.blake2b(data).digest()
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)
    return at // size, digests


def check_weights(path, digests):
    """Reads every tensor back."""
    with safetensors.safe_open(path, framework="np") as file:
        if set(file.keys()) != digests.keys():
            raise Refused(f"{path}: does not hold the tensors that were written")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, digest in digests.items():
            begin, end = header[name]["data_offsets"]
            file.seek(8 + length + begin)
            if hashlib.blake2b(file.read(end - begin)).digest() != digest:
                raise Refused(f"{path}: tensor '{name}' does not read back as it was written")


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
LETTERS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
           r"\s+(?!\S)|\s+")


def split_first(regex):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
        {**BYTE_LEVEL, "use_regex": False}]}


PRE_TOKENIZERS = {
    "gpt-2": BYTE_LEVEL,
    "llama-bpe": split_first(LETTERS % "{1,3}"),
    "qwen2": split_first(LETTERS % ""),
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
    if source.get("tokenizer.ggml.add_eos_token", False):
        raise Refused(f"{source.path}: tokenisers that add eos by themselves are not implemented")
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
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": bos_before(source) if source.get("tokenizer.ggml.add_bos_token", False) else None,
        "decoder": {**BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe", "vocab": vocab, "merges": merges,
        },
    }


def bos_before(source):
    """A post-processor that begins every text with bos."""
    i = source.need("tokenizer.ggml.bos_token_id")
    token = source.need("tokenizer.ggml.tokens")[i]
    start = lambda kind: [{"SpecialToken": {"id": token, "type_id": kind}},
                          {"Sequence": {"id": "AB"[kind], "type_id": kind}}]
    return {"type": "TemplateProcessing", "single": start(0), "pair": start(0) + start(1),
            "special_tokens": {token: {"id": token, "ids": [i], "tokens": [token]}}}


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
    family, dims, config = model_config(source, TORCH_DTYPES[dtype])
    plan = tensor_plan(source, family, dims, config["tie_word_embeddings"])
    config.setdefault("max_position_embeddings", dims.context)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    texts = {
        "config.json": config,
        "generation_config.json": ids,
        "tokenizer.json": tokenizer(source, config["vocab_size"]),
        "tokenizer_config.json": tokenizer_config(source, config),
        "special_tokens_map.json": special_tokens(source),
    }
    dst.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(int(np.prod(shape)) for _, shape in plan.values()) * (4 if dtype == "fp32" else 2) + (64 << 20)
    if (free := shutil.disk_usage(dst.parent).free) < needed:
        raise Refused(f"{dst}: needs {needed >> 20} MiB of disk, {free >> 20} MiB are free")
    work = dst.with_name(f".{dst.name}.{os.getpid()}.tmp")
    work.mkdir()
    try:
        count, digests = write_weights(work / "model.safetensors", source, family, dims, plan, dtype)
        check_weights(work / "model.safetensors", digests)
        for name, content in texts.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (work / name).write_text(text, encoding="utf-8")
        work.rename(dst)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{dst}: {len(plan)} tensors, {count:,} parameters, {config['torch_dtype']}", file=sys.stderr)


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
