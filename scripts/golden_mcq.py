#!/usr/bin/env python3
"""Golden values of the multiple-choice benchmark (tests/eval/field_models.cpp): prompts and figures as in
lm-evaluation-harness (tasks mmlu and mmlu_continuation, api/task.py), with transformers on the tiny Llama of
tests/data/field/model. Prompt and choice are encoded as one text and cut where the prompt ends, one forward a choice.

    python scripts/golden_mcq.py

Needs torch, transformers, tokenizers, numpy. Writes tests/data/field/golden_mcq.json.
"""
import json
import pathlib

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
TOKENIZER = Tokenizer.from_file(str(DATA / "text" / "smollm" / "tokenizer.json"))


def load(name):
    docs = [json.loads(line) for line in (DATA / "field" / name).read_text().splitlines()]
    for doc in docs:
        if isinstance(doc["answer"], str):
            doc["answer"] = "ABCD".index(doc["answer"])
    return docs


def ids_of(text):
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def doc_to_text(doc, letters):
    if not letters:
        return f"Question: {doc['question'].strip()}\nAnswer:"
    lines = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", doc["choices"]))
    return f"{doc['question'].strip()}\n{lines}Answer:"


def doc_to_choice(doc, letters):
    return list("ABCD")[:len(doc["choices"])] if letters else doc["choices"]


def context(doc, dev, shots, letters):
    what = "multiple choice questions" if letters else "questions"
    subject = doc["subject"].replace("_", " ")
    text = f"The following are {what} (with answers) about {subject}.\n\n"
    for shot in [d for d in dev if d["subject"] == doc["subject"]][:shots]:
        text += doc_to_text(shot, letters) + " " + doc_to_choice(shot, letters)[shot["answer"]] + "\n\n"
    return text + doc_to_text(doc, letters)


@torch.no_grad()
def loglikelihood(model, prompt, continuation):
    whole, cut = ids_of(prompt + continuation), len(ids_of(prompt))
    logits = model(torch.tensor([whole])).logits[0, cut - 1:-1].log_softmax(-1)
    return float(logits.gather(1, torch.tensor(whole[cut:])[:, None]).sum())


def figures(rows, letters):
    out = {"items": len(rows), "acc": np.mean([r["acc"] for r in rows])}
    if len(rows) > 1:
        out["acc_stderr"] = np.std([r["acc"] for r in rows], ddof=1) / np.sqrt(len(rows))
    if not letters:
        out |= {name: np.mean([r[name] for r in rows]) for name in ("acc_norm", "acc_bytes")}
    return out


def mcq(model, letters, shots):
    dev, rows = load("mcq_dev.jsonl"), []
    for doc in load("mcq.jsonl"):
        prompt = context(doc, dev, shots, letters)
        lls = np.array([loglikelihood(model, prompt, " " + c) for c in doc_to_choice(doc, letters)])
        row = {"subject": doc["subject"].replace("_", " "), "answer": doc["answer"], "logprob": lls.tolist(),
               "picked": int(np.argmax(lls)), "acc": bool(np.argmax(lls) == doc["answer"])}
        if not letters:
            characters = np.array([float(len(c)) for c in doc["choices"]])
            size = np.array([float(len(c.encode())) for c in doc["choices"]])
            row["acc_norm"] = bool(np.argmax(lls / characters) == doc["answer"])
            row["acc_bytes"] = bool(np.argmax(lls / size) == doc["answer"])
        rows.append(row)
    subjects = {s: figures([r for r in rows if r["subject"] == s], letters) for s in {r["subject"] for r in rows}}
    return {"aggregates": figures(rows, letters) | {"subjects": dict(sorted(subjects.items()))}, "items": rows}


def main():
    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(DATA / "field" / "model", attn_implementation="eager").eval()
    golden = {f"{score} {shots}": mcq(model, score == "letters", shots)
              for score in ("letters", "texts") for shots in (0, 1)}
    (DATA / "field" / "golden_mcq.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    for name, part in golden.items():
        print(name, json.dumps(part["aggregates"]))


if __name__ == "__main__":
    main()
