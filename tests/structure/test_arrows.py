"""Dependencies point one way (docs/architecture.md): no #include goes against the arrows."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What each folder may include, besides itself.
ARROWS = {
    "core": set(),
    "finetune": {"core"},
    "unlearning": {"core", "finetune"},
    "editing": {"core"},
    "retrieval": {"core"},
    "eval": {"core", "finetune", "retrieval"},
    "study": {"core", "finetune", "unlearning", "editing", "retrieval", "eval"},
    "cli": {"core", "finetune", "unlearning", "editing", "retrieval", "eval", "study"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def against(folder, text):
    """Includes of `text`, a file of `folder`, that go against the arrows."""
    allowed = ARROWS[folder] | {folder}
    return [path for path in INCLUDE.findall(text) if path.split("/")[0] not in allowed]


class Arrows(unittest.TestCase):
    def test_no_include_goes_against_the_arrows(self):
        files = 0
        for folder in ARROWS:
            for path in sorted((ROOT / folder).rglob("*")):
                if path.suffix in (".h", ".cpp", ".cu"):
                    files += 1
                    with self.subTest(file=str(path.relative_to(ROOT))):
                        self.assertEqual(against(folder, path.read_text()), [])
        self.assertGreater(files, 50)

    def test_the_check_can_fail(self):
        self.assertEqual(against("core", '#include "finetune/trainer.h"\n'), ["finetune/trainer.h"])
        self.assertEqual(against("editing", '#include "core/a.h"\n#include "eval/b.h"\n'), ["eval/b.h"])


if __name__ == "__main__":
    unittest.main()
