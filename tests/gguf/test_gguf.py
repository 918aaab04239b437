"""Checkpoints to GGUF and back, for every family, through the scripts and through the binary.

    python tests/gguf/test_gguf.py BINARY

Needs gguf, numpy and safetensors: in this Python, in $RESURFACE_PYTHON or in the project's .venv; skipped where
none has them (scripts/test.sh installs them).
"""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEEDED = ("gguf", "numpy", "safetensors")


def other_python():
    for python in (os.environ.get("RESURFACE_PYTHON"), ROOT / ".venv/bin/python"):
        if python and shutil.which(str(python)) and subprocess.run(
                [str(python), "-c", "import " + ", ".join(NEEDED)], capture_output=True).returncode == 0:
            return str(python)
    return None


if not all(importlib.util.find_spec(name) for name in NEEDED):
    if os.environ.get("RESURFACE_GGUF_TEST") or not (python := other_python()):
        print("skipped: no Python here has", ", ".join(NEEDED))
        sys.exit(77)  # which CMake tells ctest
    os.environ["RESURFACE_GGUF_TEST"] = "1"
    os.execv(python, [python, *sys.argv])

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(ROOT / "scripts"))
import gguf_to_hf
import hf_to_gguf
from gguf_config import metadata
from gguf_families import FAMILIES, Refused, permute, unpermute

BINARY = None
TOKENS = ["a", "b", "ab", "c", "d", "e", "<s>", "</s>"]
COMMON = {"vocab_size": 8, "bos_token_id": 6, "eos_token_id": 7, "pad_token_id": None}
LLAMA = COMMON | {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 5e5,
    "tie_word_embeddings": False}
GEMMA = LLAMA | {"tie_word_embeddings": True, "sliding_window": 16, "rope_theta": 1e4}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
CONFIGS = {
    "llama": LLAMA | {"rope_scaling": LLAMA3, "attention_bias": False},
    "llama-bias": LLAMA | {"attention_bias": True, "tie_word_embeddings": True, "head_dim": 16},
    "qwen2": LLAMA | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
    "qwen3": LLAMA | {"head_dim": 16, "rope_scaling": None},
    "gemma2": GEMMA | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
                       "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3": GEMMA | {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "query_pre_attn_scalar": 8,
                       "layer_types": ["sliding_attention", "sliding_attention"],
                       "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "phi3": {k: v for k, v in LLAMA.items() if k != "head_dim"} | {
        "sliding_window": 17, "original_max_position_embeddings": 32, "partial_rotary_factor": 0.5,
        "rope_scaling": {"type": "longrope", "long_factor": [1.0, 1.25], "short_factor": [1.0, 1.5]}},
    "gpt2": COMMON | {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "n_inner": 128,
                      "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
}


def make(folder, name):
    """A random checkpoint of this family, with a tokenizer."""
    family, rng = FAMILIES[name.split("-")[0]], np.random.default_rng(1)
    config = {"architectures": [family.architecture], "model_type": family.model_type, **CONFIGS[name]}
    _, dims, _, _ = metadata(config)
    names = family.gguf_names(dims.layers, name.endswith("-bias"))
    tensors = {}
    for hf, ours in names.items():
        if hf == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        shape = dims.shape(ours, family.model_type == "phi3")
        shape = shape[::-1] if family.turned and family.is_turned(ours) else shape
        tensors[hf] = rng.standard_normal(shape).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({
        "added_tokens": [{"id": i, "content": TOKENS[i], "special": True} for i in (6, 7)],
        "pre_tokenizer": gguf_to_hf.PRE_TOKENIZERS["gpt-2"], "post_processor": None,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(TOKENS)}, "merges": ["a b"]}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return config, tensors


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="resurface-gguf-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def assertSame(self, tensors, folder, tolerance=0.0):
        found = load_file(folder / "model.safetensors")
        self.assertEqual(found.keys(), tensors.keys())
        for name, value in tensors.items():
            self.assertEqual(found[name].shape, value.shape, name)
            self.assertLessEqual(np.abs(found[name] - value).max(), tolerance, name)


class RoundTrip(Case):
    def test_every_family(self):
        for name in CONFIGS:
            with self.subTest(family=name):
                config, tensors = make(self.folder / name, name)
                file = self.folder / f"{name}.gguf"
                hf_to_gguf.convert(self.folder / name, file, "fp32")
                gguf_to_hf.convert(file, self.folder / f"{name}-back", "fp32")
                # 1 is added to Gemma's norms and taken off again, in fp32.
                self.assertSame(tensors, self.folder / f"{name}-back", 3e-7 if name.startswith("gemma") else 0)
                back = json.loads((self.folder / f"{name}-back/config.json").read_text())
                for key, value in config.items():
                    self.assertEqual(back.get(key), value, f"{name}: {key}")
                tokenizer = json.loads((self.folder / f"{name}-back/tokenizer.json").read_text())
                self.assertEqual(tokenizer["model"]["vocab"], {t: i for i, t in enumerate(TOKENS)})
                self.assertEqual(tokenizer["model"]["merges"], ["a b"])
                self.assertEqual([t["id"] for t in tokenizer["added_tokens"] if t["special"]], [6, 7])
                settings = json.loads((self.folder / f"{name}-back/tokenizer_config.json").read_text())
                self.assertEqual(settings["chat_template"], "{{ messages }}")
                self.assertEqual(settings["eos_token"], "</s>")

    def test_what_the_file_holds(self):
        _, tensors = make(self.folder / "llama", "llama")
        hf_to_gguf.convert(self.folder / "llama", self.folder / "llama.gguf", "fp32")
        held = {t.name: t for t in gguf.GGUFReader(self.folder / "llama.gguf").tensors}
        # llama.cpp's rows: the first of a head's first half, the first of its second half, and so on.
        q = tensors["model.layers.0.self_attn.q_proj.weight"]
        order = [head * 8 + half * 4 + i for head in range(4) for i in range(4) for half in range(2)]
        np.testing.assert_array_equal(held["blk.0.attn_q.weight"].data, q[order])
        np.testing.assert_array_equal(unpermute(permute(q, 4), 4), q)
        self.assertEqual(held["rope_freqs.weight"].data[0], 1)
        self.assertEqual(held["rope_freqs.weight"].data[-1], 8)
        _, tensors = make(self.folder / "gemma3", "gemma3")
        hf_to_gguf.convert(self.folder / "gemma3", self.folder / "gemma3.gguf", "fp32")
        held = {t.name: t for t in gguf.GGUFReader(self.folder / "gemma3.gguf").tensors}
        np.testing.assert_allclose(held["blk.1.ffn_norm.weight"].data,
                                   tensors["model.layers.1.pre_feedforward_layernorm.weight"] + 1)

    def test_dtypes(self):
        _, tensors = make(self.folder / "qwen3", "qwen3")
        for dtype, kind, tolerance in (("fp16", "F16", 0.002), ("bf16", "BF16", 0.016), ("q8_0", "Q8_0", 0.02)):
            with self.subTest(dtype=dtype):
                file = self.folder / f"{dtype}.gguf"
                hf_to_gguf.convert(self.folder / "qwen3", file, dtype)
                kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(file).tensors}
                self.assertEqual(kinds["blk.0.ffn_up.weight"], kind)
                self.assertEqual(kinds["blk.0.attn_q_norm.weight"], "F32")
                gguf_to_hf.convert(file, self.folder / dtype, "fp32")
                self.assertSame(tensors, self.folder / dtype, tolerance)

    def test_every_quantisation(self):
        """Blocks of every type, as the package dequantises them, reach the folder."""
        make(self.folder / "qwen3", "qwen3")
        hf_to_gguf.convert(self.folder / "qwen3", self.folder / "whole.gguf", "fp32")
        source = gguf.GGUFReader(self.folder / "whole.gguf")
        rng = np.random.default_rng(2)
        for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
            with self.subTest(kind=kind):
                kind_of = gguf.GGMLQuantizationType[kind]
                file = self.folder / f"{kind}.gguf"
                writer = gguf.GGUFWriter(file, "qwen3")
                for field in source.fields.values():
                    if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
                expected = None
                for t in source.tensors:
                    if t.name == "blk.0.ffn_up.weight":
                        packed = gguf.quants.quantize(rng.standard_normal((64, 32)).astype(np.float32), kind_of)
                        expected = gguf.quants.dequantize(packed, kind_of)
                        writer.add_tensor(t.name, packed, raw_dtype=kind_of)
                    else:
                        writer.add_tensor(t.name, t.data)
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_tensors_to_file()
                writer.close()
                gguf_to_hf.convert(file, self.folder / kind, "fp32")
                found = load_file(self.folder / kind / "model.safetensors")
                np.testing.assert_array_equal(found["model.layers.0.mlp.up_proj.weight"], expected)


class Tokenizers(Case):
    def test_llama3_and_qwen(self):
        """As transformers writes them: other flags of ByteLevel, bos by a post-processor, merges as pairs."""
        for name, pre in (("llama", "llama-bpe"), ("qwen2", "qwen2")):
            make(self.folder / name, name)
            path = self.folder / name / "tokenizer.json"
            text = json.loads(path.read_text())
            text["pre_tokenizer"] = json.loads(json.dumps(gguf_to_hf.PRE_TOKENIZERS[pre]))
            text["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = False
            text["model"]["merges"] = [["a", "b"]]
            if name == "llama":
                text["post_processor"] = {"type": "Sequence", "processors": [
                    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                    {"type": "TemplateProcessing", "single": [], "pair": [],
                     "special_tokens": {"<s>": {"id": "<s>", "ids": [6], "tokens": ["<s>"]}}}]}
            path.write_text(json.dumps(text))
            file = self.folder / f"{name}.gguf"
            hf_to_gguf.convert(self.folder / name, file, "fp32")
            fields = gguf.GGUFReader(file).fields
            self.assertEqual(fields["tokenizer.ggml.pre"].contents(), pre)
            self.assertEqual(fields["tokenizer.ggml.add_bos_token"].contents(), name == "llama")
            gguf_to_hf.convert(file, self.folder / f"{name}-back", "fp32")
            back = json.loads((self.folder / f"{name}-back/tokenizer.json").read_text())
            self.assertEqual(back["model"]["ignore_merges"], name == "llama")
            self.assertEqual(back["normalizer"], None if name == "llama" else {"type": "NFC"})
            self.assertEqual(back["post_processor"] is None, name == "qwen2")

    def test_sentence_pieces(self):
        """Scores put merges in their order, bytes and control tokens keep their kinds."""
        make(self.folder / "gemma3", "gemma3")
        path = self.folder / "gemma3/tokenizer.json"
        text = json.loads(path.read_text())
        text["model"] |= {"byte_fallback": True, "unk_token": "e", "merges": [["a", "b"], ["ab", "c"]],
                          "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3, "abc": 4, "e": 5, "<s>": 6, "<0x0A>": 7}}
        text["added_tokens"] = [{"id": 6, "content": "<s>", "special": True}]
        path.write_text(json.dumps(text))
        hf_to_gguf.convert(self.folder / "gemma3", self.folder / "x.gguf", "fp32")
        fields = {key: field.contents() for key, field in gguf.GGUFReader(self.folder / "x.gguf").fields.items()
                  if key.startswith("tokenizer.ggml.")}
        self.assertEqual(fields["tokenizer.ggml.model"], "llama")
        self.assertEqual(fields["tokenizer.ggml.token_type"], [1, 1, 1, 1, 1, 2, 3, 6])
        scores = fields["tokenizer.ggml.scores"]
        self.assertEqual(scores[2], 0)
        self.assertEqual(scores[4], -1)
        self.assertTrue(all(scores[i] < scores[4] for i in (0, 1, 3)))
        self.assertEqual(fields["tokenizer.ggml.unknown_token_id"], 5)
        self.assertFalse(fields["tokenizer.ggml.add_space_prefix"])


class BadInput(Case):
    def test_gguf(self):
        make(self.folder / "llama", "llama")
        file = self.folder / "llama.gguf"
        hf_to_gguf.convert(self.folder / "llama", file, "fp32")
        whole = file.read_bytes()

        def refuses(data, words):
            file.write_bytes(data)
            with self.assertRaises(Refused) as said:
                gguf_to_hf.convert(file, self.folder / "out", "fp32")
            self.assertRegex(str(said.exception), words)
            self.assertFalse((self.folder / "out").exists())

        for cut in (0, 3, 20, 200, len(whole) // 2, len(whole) - 1):
            refuses(whole[:cut], "not a readable GGUF file")
        refuses(whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"), "architecture 'mamba'|missing")
        refuses(whole.replace(b"blk.1.ffn_up", b"blk.1.ffn_xx"), "tensor 'blk.1.ffn_xx.weight' has no place")
        at = whole.index(b"llama.block_count") + len(b"llama.block_count") + 4
        refuses(whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4:], "block_count is 2147483647")
        at = whole.index(b"llama.feed_forward_length") + len(b"llama.feed_forward_length") + 4
        refuses(whole[:at] + b"\x21\0\0\0" + whole[at + 4:], r"expected shape \(33, 32\), got \(64, 32\)|\(32, 33\)")
        refuses(whole[:-4] + b"\0\0\xc0\x7f", "not finite")

    def test_folder(self):
        config, _ = make(self.folder / "llama", "llama")

        def refuses(words, **changes):
            (self.folder / "llama/config.json").write_text(json.dumps(config | changes))
            with self.assertRaises(Refused) as said:
                hf_to_gguf.convert(self.folder / "llama", self.folder / "x.gguf", "fp32")
            self.assertRegex(str(said.exception), words)
            self.assertEqual([p.name for p in self.folder.iterdir()], ["llama"])

        refuses("is not written as GGUF", architectures=["MambaForCausalLM"])
        refuses("tensor 'model.layers.2.*' is missing", num_hidden_layers=3)
        refuses("expected shape", intermediate_size=63)
        refuses("has no place", num_hidden_layers=1)
        refuses("RoPE scaling 'dynamic'", rope_scaling={"rope_type": "dynamic", "factor": 2.0})


class Binary(Case):
    def run_binary(self, *arguments, **environment):
        return subprocess.run([BINARY, "convert", *map(str, arguments)], text=True, capture_output=True,
                              env={**os.environ, "RESURFACE_PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment})

    @unittest.skipUnless(len(sys.argv) > 1, "no binary given")
    def test_both_ways(self):
        _, tensors = make(self.folder / "llama", "llama")
        file, back = self.folder / "x.gguf", self.folder / "back"
        there = self.run_binary(self.folder / "llama", file)
        self.assertEqual(there.returncode, 0, there.stderr)
        again = self.run_binary(file, back)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertSame(tensors, back)
        # What only Checkpoint reads goes the same way: here one file of another name.
        (self.folder / "llama/model.safetensors").rename(self.folder / "llama/weights.safetensors")
        there = self.run_binary(self.folder / "llama/weights.safetensors", self.folder / "y.gguf", "--dtype", "q8_0")
        self.assertEqual(there.returncode, 0, there.stderr)
        self.assertLess((self.folder / "y.gguf").stat().st_size, file.stat().st_size)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["back", "llama", "x.gguf", "y.gguf"])

        gone = self.run_binary(file, self.folder / "z", RESURFACE_PYTHON="/nowhere/python")
        self.assertEqual(gone.returncode, 1)
        self.assertIn("RESURFACE_PYTHON", gone.stderr)
        torn = self.folder / "torn.gguf"
        torn.write_bytes(file.read_bytes()[:300])
        said = self.run_binary(torn, self.folder / "z")
        self.assertEqual(said.returncode, 1)
        self.assertIn("not a readable GGUF file", said.stderr)
        self.assertFalse((self.folder / "z").exists())


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        BINARY = sys.argv.pop(1)
        sys.argv.append("-q") if "-v" not in sys.argv else None
    unittest.main()
