"""Gemma's tokenizer out of a GGUF file. Expected: transformers' generate_merges on the same pieces."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import gguf_tokenizer

TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "  ", "   ", "<b>", "<0x09>", "<unused0>", "ab", "\u2581a", "abc", "bc",
          "\u2581", "a", "b", "c", "<", "b>"]
TYPES = [3, 3, 3, 3, 4, 4, 4, 6, 3] + [1] * 10
SCORES = [-1000.0] * 7 + [0.0, -1000.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0, -0.5]


class GgufTokenizer(unittest.TestCase):
    def setUp(self):
        self.pieces = gguf_tokenizer.pieces(TOKENS, SCORES, TYPES)

    def test_what_the_converter_overwrote_is_back(self):
        self.assertEqual(self.pieces[4:9], [("▁▁", 0.0, 4), ("▁▁▁", 0.0, 4), ("<b>", 0.0, 4), ("\t", 0.0, 6),
                                            ("<unused0>", 0.0, 3)])
        self.assertEqual(self.pieces[9:], list(zip(TOKENS[9:], SCORES[9:], TYPES[9:])))
        with_tab = gguf_tokenizer.pieces([*TOKENS, "\t"], [*SCORES, -1000.0], [*TYPES, 4])
        self.assertEqual(with_tab[7][0], "<0x09>")

    def test_merges_come_from_the_scores(self):
        self.assertEqual(gguf_tokenizer.merges(self.pieces), [
            ["▁▁", "▁"], ["▁", "▁▁"], ["<", "b>"], ["▁", "▁"], ["a", "b"], ["▁", "a"], ["ab", "c"], ["a", "bc"],
            ["b", "c"]])

    def test_special_tokens_are_those_of_the_published_file(self):
        data = gguf_tokenizer.tokenizer(self.pieces, 2, 3)
        special = {token["content"]: token["special"] for token in data["added_tokens"]}
        self.assertEqual(special, {"<pad>": True, "<eos>": True, "<bos>": True, "<unk>": True, "▁▁": False, "▁▁▁": False,
                                   "<b>": False, "<unused0>": False})
        self.assertEqual(data["post_processor"]["special_tokens"]["<bos>"]["ids"], [2])


if __name__ == "__main__":
    unittest.main()
