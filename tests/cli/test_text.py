"""How the binary makes tokens of prompts, and where it finds a checkpoint's tokenizer.

    python tests/cli/test_text.py BINARY
"""

import json
import pathlib
import shutil
import sys
import unittest

import test_cli
from test_cli import MODEL, ROOT, Case, run

WORDS = ["<unk>", "<s>", "</s>", *(chr(c) for c in range(ord("a"), ord("z") + 1))]
TOKENIZER = {
    "version": "1.0", "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
    "added_tokens": [{"id": i, "content": WORDS[i], "special": True, "normalized": False, "single_word": False,
                      "lstrip": False, "rstrip": False} for i in range(3)],
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {w: {"id": w, "ids": [WORDS.index(w)], "tokens": [w]} for w in ("<s>", "</s>")}},
    "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "<unk>"}}
A, B, C = 3, 4, 5


def spoken(folder):
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return folder


class Text(Case):
    def score(self, model, **row):
        result = run("--dtype", "fp32", "score", "--model", model, stdin=json.dumps(row) + "\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)["logprob"]

    def test_prompts_begin_as_the_tokenizer_begins_a_text(self):
        folder = self.folder / "model"
        shutil.copytree(MODEL, folder)
        spoken(folder)
        begun = self.score(folder, prompt_ids=[1, A, B], answer_ids=[C])
        self.assertNotEqual(begun, self.score(folder, prompt_ids=[A, B], answer_ids=[C]))
        for prompt in ("a b", "<s> a b"):  # once, and nothing behind it
            self.assertEqual(self.score(folder, prompt=prompt, answer="c"), begun)
        written = [{"prompt": "a b"}, {"prompt": "<s> a b"}]
        result = run("--dtype", "fp32", "generate", "--model", folder, "--max-tokens", 4, "--logprobs",
                     stdin="".join(json.dumps(row) + "\n" for row in written))
        one, other = map(json.loads, result.stdout.splitlines())
        self.assertEqual((one["ids"], one["logprobs"]), (other["ids"], other["logprobs"]))
        self.assertAlmostEqual(self.score(folder, prompt_ids=[1, A, B], answer_ids=one["ids"][:1]),
                               one["logprobs"][0], 4)

    def test_a_weights_file_and_an_adapter_are_models_too(self):
        adapters = self.folder / "adapters"
        shutil.copytree(ROOT / "tests/data/checkpoint/adapters", adapters)
        spoken(adapters / "llama")
        adapter = adapters / "lora"  # of adapters/llama, whose tokenizer goes with it
        row = dict(prompt_ids=[1, A, B], answer_ids=[C])
        self.assertEqual(self.score(adapter, prompt="a b", answer="c"), self.score(adapter, **row))
        self.assertNotEqual(self.score(adapter, **row), self.score(adapters / "llama", **row))
        weights = adapters / "llama/model.safetensors"
        self.assertEqual(self.score(weights, prompt="a b", answer="c"), self.score(adapters / "llama", **row))
        self.assertSays(run("score", "--model", self.folder / "none"), 2, "none")


if __name__ == "__main__":
    test_cli.BINARY = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
