"""One method, one file of at most 150 lines. What methods share may be longer."""

import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST = 150
EDITORS = ("rome", "memit", "pmet", "emmet", "alphaedit", "rect", "fine_tune*", "ablation*")
TRAINING = ("sft", "undo", "lat", "tar", "lora", "adamw", "muon", "qk_clip", "sgd", "lion")
METHODS = ["unlearning/*.h", "study/layered.*", *(f"finetune/{name}.*" for name in TRAINING), "retrieval/demonstrations.*", "retrieval/in_context.*",
           *(f"editing/{name}.{ending}" for name in EDITORS for ending in ("h", "cpp"))]


class Sizes(unittest.TestCase):
    def test_no_method_file_is_long(self):
        files = sorted({path for pattern in METHODS for path in ROOT.glob(pattern)})
        self.assertGreater(len(files), 35)
        for path in files:
            with self.subTest(file=str(path.relative_to(ROOT))):
                self.assertLessEqual(len(path.read_text().splitlines()), MOST, "split it in a way that makes sense")


if __name__ == "__main__":
    unittest.main()
