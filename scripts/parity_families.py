#!/usr/bin/env python3
"""The families against transformers, as a Markdown table: for each the largest difference of a logit, the checks of
gradients and of cached generation, and whether what `resurface convert` writes is the same to transformers.

    python scripts/parity_families.py [--build build/cpu] [--tokenizers FOLDER] [MODEL_FOLDER...]

Rows are the tiny checkpoints of tests/data/families (scripts/golden_families.py) and the real checkpoints named. Beside a
tiny one stand the real tokenizers of its family that are in --tokenizers (scripts/fetch_tokenizers.py) and its makers' chat
templates (tests/data/chat, what transformers rendered with them); a real one answers prompts in its own. Exits 1 when
anything is beyond its limit. A dash: there is none, or this transformers cannot load it.

Needs torch, transformers, and in the build folder: resurface, bench_logits, tests/test_core.
"""
import argparse
import functools
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import numpy
import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

import golden_families

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY_LIMIT, REAL_LIMIT = 1e-4, 2e-3
PROMPTS = ["The capital of France is", "Once upon a time", "1, 2, 3, 4,", "def add(a, b):\n    return", "水的化学式是",
           "中国的首都是", "My favourite colour is", "A triangle has"]
COLUMNS = ("logits", "gradients", "generation", "tokenizer", "chat", "save")
TOKENIZERS = {"deepseek_v3": ["deepseek"], "llama3": ["llama3"], "mistral": ["mistral_v1", "mistral_v3", "mistral_v7"],
              "qwen2": ["qwen"], "qwen3": ["qwen"], "qwen3_moe": ["qwen"]}
TEMPLATES = {
    "deepseek_v2": ["deepseek-v2"], "deepseek_v3": ["deepseek-v3", "deepseek-v3.1", "deepseek-r1"], "gemma2": ["gemma2"],
    "gemma3_text": ["gemma3"], "kimi_k2": ["kimi-k2", "kimi-k2-instruct", "kimi-k2-thinking"], "llama": ["llama2"],
    "llama3": ["llama3", "llama3.1", "llama3.2", "llama3.3", "deepseek-r1-distill"], "minimax_m1": ["minimax-m1"],
    "minimax_m2": ["minimax-m2"], "pangu_embedded": ["openpangu"], "phi3": ["phi3", "phi3.5", "phi4"],
    "mistral": ["mistral-v0.2", "mistral-v1", "mistral-v3", "mistral-v7", "mistral-nemo", "mistral-small-3.2"],
    "qwen2": ["qwen2", "qwen2.5", "qwq"], "qwen3": ["qwen3", "qwen3-2507", "qwen3-thinking-2507"],
    "qwen3_moe": ["qwen3-coder"]}


class Row:
    def __init__(self, name):
        self.cells = dict.fromkeys(COLUMNS, "—") | {"family": name}
        self.good = True

    def put(self, column, text, good=True):
        self.cells[column] = text if good else f"**{text}**"
        self.good &= good

    def difference(self, column, value, limit, more=""):
        self.put(column, f"{value:.1e}{more}", bool(value <= limit))

    def count(self, column, agree, total):
        self.put(column, f"{agree}/{total}", agree == total > 0)


def run(command, text=None):
    done = subprocess.run([str(c) for c in command], input=None if text is None else text.encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip() or f"{command[0]} failed")
    return done.stdout


def logits(build, folder, sequences, vocab):
    out = run([build / "bench_logits", folder], "".join(json.dumps(s) + "\n" for s in sequences))
    return torch.from_numpy(numpy.frombuffer(out, dtype=numpy.float32).reshape(-1, vocab).copy())


def checks(build, test):
    """Passed and failed assertions of each section of a test case: {section: (passed, failed)}."""
    done = subprocess.run([build / "tests/test_core", test, "-r", "xml"], stdout=subprocess.PIPE)
    found = {}
    for section in xml.etree.ElementTree.fromstring(done.stdout).iter("Section"):
        result = section.find("OverallResults")
        name = section.get("name").split(" on ")[0]
        passed, failed = found.get(name, (0, 0))
        found[name] = (passed + int(result.get("successes")), failed + int(result.get("failures")))
    return found


def tensors(folder):
    """Every tensor of a folder as (dtype, shape, bytes)."""
    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                value = file.get_tensor(name)
                found[name] = (value.dtype, tuple(value.shape), value.view(torch.uint8).numpy().tobytes()
                               if value.ndim else bytes(value.numpy()))
    return found


def saved(row, build, folder, sequences, expected, limit, load):
    """Converted into shards of a quarter of the size and loaded in transformers."""
    fp8 = "quantization_config" in json.loads((folder / "config.json").read_text())
    size = sum(f.stat().st_size for f in folder.glob("model*.safetensors"))
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / folder.name
        run([build / "resurface", "convert", folder, copy, "--shard-size", max(size // 4, 20000)] +
            (["--dtype", "fp32"] if fp8 else []))
        before, after = tensors(folder), tensors(copy)
        same = sum(after.get(name) == value for name, value in before.items())
        text = "" if fp8 else f", {same}/{len(before)} tensors"
        good = fp8 or same == len(before) == len(after)
        try:
            model = load(copy)
        except (KeyError, ValueError):  # a type that this transformers does not know
            return row.put("save", f"{same}/{len(before)} tensors", good)
        with torch.no_grad():
            theirs = torch.cat([model(input_ids=torch.tensor([s]), use_cache=False).logits[0] for s in sequences])
        row.difference("save", float((theirs - expected).abs().max()) if good else float("inf"), limit, text)


@functools.cache
def strings(build, folders):
    """How many strings were tokenized alike by each of the tokenizers; 0: some were not."""
    script = [sys.executable, ROOT / "scripts/parity_tokenizer.py", *folders, "--binary", build / "resurface"]
    done = subprocess.run([str(s) for s in script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    total = re.search(r"(\d+) strings: all equal", done.stdout)
    return int(total[1]) if total and not done.returncode else 0


def tokenized(row, build, folders):
    count = strings(build, tuple(folders))
    row.put("tokenizer", f"{count} strings" if count else "differs", count > 0)


def tiny(build, folder, tested, tokenizers):
    row = Row(folder.name)
    with safe_open(folder / "golden.safetensors", "pt") as file:
        ids, lengths, expected = (file.get_tensor(k) for k in ("ids", "lengths", "logits"))
        whole = "loss" in file.keys()
    sequences = [part.tolist() for part in ids.split(lengths.tolist())]
    row.difference("logits", float((logits(build, folder, sequences, expected.shape[1]) - expected).abs().max()),
                   TINY_LIMIT)
    for column, sections in tested.items():
        names = TEMPLATES.get(folder.name, []) if column == "chat" else [folder.name] * whole
        if names:
            passed, failed = (sum(counts) for counts in zip(*(sections.get(name, (0, 1)) for name in names)))
            row.count(column, passed, passed + failed)
    folders = [tokenizers / name for name in TOKENIZERS.get(folder.name, [])] if tokenizers else []
    if folders:
        tokenized(row, build, folders)
    saved(row, build, folder, sequences, expected, TINY_LIMIT, golden_families.loaded)
    return row


def continued(build, folder, prompts, chat):
    """Greedy continuations by `resurface generate`, as ids."""
    # In fp32, as transformers: where two tokens are nearly as likely, bf16 may choose the other.
    out = run([build / "resurface", "--dtype", "fp32", "generate", "--model", folder, "--max-tokens", 24, "--greedy"] +
              (["--chat"] if chat else []), "".join(json.dumps(dict(prompt=p)) + "\n" for p in prompts))
    return [json.loads(line)["ids"] for line in out.decode().splitlines()]


def real(build, folder):
    row = Row(folder.name)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def load(path):
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()

    model = load(folder)
    rng = random.Random(0)
    sequences = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in PROMPTS]
    sequences += [[rng.randrange(model.config.vocab_size) for _ in range(n)] for n in (1, 2, 17, 128, 600)]
    with torch.no_grad():
        expected = torch.cat([model(input_ids=torch.tensor([s])).logits[0] for s in sequences])
    row.difference("logits", float((logits(build, folder, sequences, expected.shape[1]) - expected).abs().max()),
                   REAL_LIMIT)

    def theirs(ids):
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False, pad_token_id=0)
        return out[0, len(ids):].tolist()

    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    columns = [("generation", False)] + [("chat", True)] * bool(tokenizer.chat_template)
    for column, chat in columns:
        mine = continued(build, folder, PROMPTS, chat)
        agree = 0
        for prompt, ids in zip(PROMPTS, mine):
            start = (tokenizer.apply_chat_template([dict(role="user", content=prompt)], add_generation_prompt=True)
                     if chat else tokenizer(prompt)["input_ids"])
            wanted = theirs(start)
            while wanted and wanted[-1] in ends:  # ours end before the end token
                wanted.pop()
            agree += ids == wanted
        row.count(column, agree, len(PROMPTS))
    tokenized(row, build, [folder])
    saved(row, build, folder, sequences, expected, REAL_LIMIT, load)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, help="folders of real checkpoints")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/cpu")
    parser.add_argument("--tokenizers", type=pathlib.Path, help="folder of real tokenizers: fetch_tokenizers.py")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tested = {column: checks(options.build, test)
              for column, test in (("gradients", "families: gradients"), ("generation", "families: cached generation"),
                                   ("chat", "conversations in each family's template give what transformers gives"))}
    todo = [(tiny, f, (tested, options.tokenizers)) for f in sorted(golden_families.OUT.iterdir()) if f.is_dir()]
    todo += [(real, f.resolve(), ()) for f in options.models]
    head = ("family",) + COLUMNS
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    good = True
    for compare, folder, more in todo:
        try:
            row = compare(options.build, folder, *more)
        except Exception as error:  # of one family: the others are still worth their rows
            row = Row(folder.name)
            row.put("logits", str(error).splitlines()[0], False)
        print("| " + " | ".join(row.cells[c] for c in head) + " |", flush=True)
        good &= row.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
