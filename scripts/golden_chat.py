#!/usr/bin/env python3
"""Writes tests/data/chat/golden.json: what transformers renders for conversations with each chat template of
tests/data/chat, null where it raises; and tests/data/chat/expressions.json: what Jinja, set up as transformers does it,
makes of small templates. Needs `transformers` and `jinja2`; run again only to change the cases.

    scripts/golden_chat.py [OUT] [TEMPLATES]      TEMPLATES: another folder of *.jinja
"""

import json
import sys
from datetime import datetime
from pathlib import Path

from transformers.utils import chat_template_utils

sys.path.insert(0, str(Path(__file__).parent))
from golden_chat_cases import CONVERSATIONS, EXPRESSIONS, VARIABLES

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data/chat"
# bos_token and eos_token, where they are not those of ChatML
TOKENS = {"llama2": ("<s>", "</s>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>"), "mistral": ("<s>", "</s>"),
          "ministral": ("<s>", "</s>"), "gemma": ("<bos>", "<eos>"), "phi3": ("<s>", "<|endoftext|>"),
          "phi4": ("<|endoftext|>", "<|im_end|>"), "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
          "kimi": ("[BOS]", "[EOS]"), "minimax-m1": ("<begin_of_document>", "<end_of_sentence>"),
          "minimax": ("]~!b[", "[e~["), "openpangu": ("<s>", "[unused10]")}


class FixedDate(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 9, 5, 3)


chat_template_utils.datetime = FixedDate


def tokens_of(name):
    for prefix, (bos, eos) in TOKENS.items():
        if name.startswith(prefix):
            return {"bos_token": bos, "eos_token": eos}
    return {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


def rendered(template, conversation, tokens):
    """As apply_chat_template(tokenize=False) calls it."""
    options = {k: v for k, v in conversation.items() if k not in ("messages", "tools", "add_generation_prompt")}
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[conversation["messages"]], tools=conversation.get("tools"), documents=None,
            chat_template=template, add_generation_prompt=conversation.get("add_generation_prompt", False),
            **{**tokens, **options})
        texts[0].encode()
        return texts[0]
    except Exception:
        return None


def expression(template):
    try:
        text = chat_template_utils._compile_jinja_template(template).render(**VARIABLES)
        text.encode()
        return text
    except Exception:
        return None


def write(path, golden):
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else DATA
    templates = {}
    for path in sorted(folder.glob("*.jinja")):
        tokens, text = tokens_of(path.stem), path.read_text()
        templates[path.stem] = {"tokens": tokens, "rendered": [rendered(text, c, tokens) for c in CONVERSATIONS]}
    write(out / "golden.json", {"conversations": CONVERSATIONS, "templates": templates})
    write(out / "expressions.json", {"variables": VARIABLES, "cases": [[t, expression(t)] for t in EXPRESSIONS]})
    some = sum(r is not None for t in templates.values() for r in t["rendered"])
    print(f"{len(templates)} templates, {len(CONVERSATIONS)} conversations, {some} rendered; "
          f"{len(EXPRESSIONS)} expressions, {sum(expression(t) is not None for t in EXPRESSIONS)} rendered")


if __name__ == "__main__":
    main()
