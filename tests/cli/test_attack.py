"""`resurface attack` and `resurface eval` on checkpoints that a study has left, with every kind of rung.

    python tests/cli/test_attack.py BINARY
"""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

import test_cli
from test_cli import ROOT, TINY, run

LADDER = ["a", "b", "c", "d"]
SPOKEN = ["b/en", "b/zh-Hans", "d/en", "d/zh-Hans", "e/en", "e/zh-Hans"]
WAYS = [{"way": "rtn", "name": "rtn-4", "settings": {"bits": 4}}, {"way": "nf4"},
        {"way": "few_shot", "settings": {"shots": 2}}]
NEED_REFERENCE = [{"way": "interpolate", "name": "half-way", "settings": {"t": 0.5}},
                  {"way": "drop_directions", "settings": {"rank": 4}}]
PROBES = ["prefill", "empty_thought", "forced_thought", "few_shot", "two_turn", "three_turn"]
REMOVED = ["npo", "rome"]
STUDY = """remove=[{method: npo, settings: {beta: 0.2}, train: {learning_rate: 1.0e-3, steps: 8, batch_size: 4,
 compute: fp32}}, {method: rome, settings: {layer: 1, value: {steps: 4}}}]""".replace("\n", "")


class Attack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="resurface-attack-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        lines = (ROOT / "suites/world/benign.jsonl").read_text().splitlines(keepends=True)
        cls.benign = cls.folder / "benign.jsonl"  # a few of each language
        cls.benign.write_text("".join(line for language in ("en", "zh-Hans")
                                      for line in [x for x in lines if json.loads(x)["language"] == language][:6]))
        made = run("study", TINY, f"model.fresh={cls.world('world', 512)}", STUDY, "attack.rungs=[]",
                   "measure.generate_questions=0", f"data.benign=[{cls.benign}]", "plant.steps=30", "--store", cls.folder / "store", "--out", cls.folder / "study")
        assert made.returncode == 0, made.stderr

    @classmethod
    def world(cls, name, context):
        """The world's model with another context: two shots in Chinese do not fit its own."""
        folder = cls.folder / name
        shutil.copytree(ROOT / "suites/world", folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": context}))
        return folder

    def config(self, name, kinds, ways, removed=REMOVED, **more):
        """In the shape of configs/attack/full.yaml, all of it small."""
        made = self.folder / "study/checkpoints"
        models = [{"name": "npo", "kind": "removed", "checkpoint": str(made / "npo")},
                  {"name": "rome", "label": "ROME", "checkpoint": str(made / "implanted"),
                   "edit": str(made / "rome.safetensors")}][:len(removed)]
        models += [{"name": kind, "kind": kind, "checkpoint": str(made / kind)} for kind in kinds]
        party = "suites/party_lines"
        config = {
            "name": name, "seed": 1, "models": models, "compute": "fp32",
            "data": {"forget": "suites/world/forget.jsonl", "retain": "suites/world/retain.jsonl",
                     "benign": [str(self.benign)], "pushback": f"{party}/pushback.jsonl",
                     "innocent": f"{party}/innocent.jsonl", "controls": f"{party}/controls.jsonl",
                     "languages": ["en", "zh-Hans"], "items": 5},
            "measure": {"generate_questions": 0},
            "attack": {"rungs": LADDER + SPOKEN, "reach": ["full", "lora"], "rates_full": [1e-3],
                       "rates_lora": [1e-2], "seeds": [0], "steps": 2, "batch_size": 2, "utility_items": 2,
                       "utility_bound": 0.01, "compute": "fp32"},
            "ways_back": ways, "statistics": {"bootstrap": {"resamples": 20}}, **more}
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def run_on(self, command, config):
        out = self.folder / "out" / f"{command}-{config.stem}"
        result = run(command, config, "--store", self.folder / "store", "--out", out)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertGreater((out / "report.html").stat().st_size, 10_000)
        return result, out, json.loads((out / "summary.json").read_text())

    @staticmethod
    def ledger(out):
        return [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]

    def test_attack_and_eval(self):
        config = self.config("whole", ["implanted", "oracle"], WAYS + NEED_REFERENCE,
                             measure={"probes": PROBES, "generate_questions": 1, "generate_tokens": 2,
                                      "innocent_questions": 1, "control_questions": 1})
        result, out, summary = self.run_on("attack", config)
        names = [w.get("name", w["way"]) for w in WAYS + NEED_REFERENCE]
        self.assertEqual({r["rung"] for r in summary["rungs"]}, set(LADDER + SPOKEN + names))
        found = {}
        for r in summary["recovery"]:
            if r["metric"] == "logprob_per_token":
                found.setdefault((r["model"], r["rung"], r["language"]), []).append(r)
        for model in REMOVED:
            for rung in LADDER + SPOKEN + names:
                # Benign text of one language alone is tested in the one that the rung names.
                tested = {"d/en": "en", "d/zh-Hans": "zh-Hans", "e/en": "zh-Hans", "e/zh-Hans": "en"}
                records = found[model, rung, tested.get(rung, "all")]
                self.assertEqual(len(records), 1 if rung in names else 2, (model, rung))
                for r in records:
                    for figure in (r["attacked"], r["oracle_gap"], r["peak"]["attacked"], r["peak"]["oracle_gap"]):
                        self.assertLessEqual(figure["low"], figure["high"])
                    self.assertGreaterEqual(r["peak"]["attacked"]["mean"], r["attacked"]["mean"])
                    self.assertIn(r["peak"]["step"], (1, 2))
        npo = found["npo", "b", "all"][0]  # the one removal that surely lowered the lines' log-prob
        for figure in ("recovered", "recovered_net"):
            self.assertLessEqual(npo[figure]["low"], npo[figure]["high"])
        self.assertEqual({(v["a"], v["b"]) for v in summary["verdict"]}, {("npo", "rome")})
        self.assertEqual({v["rung"] for v in summary["verdict"]}, set(LADDER + SPOKEN + names))
        self.assertEqual({m["name"]: m["utility"]["mean"] for m in summary["models"]}["implanted"], 1)
        self.assertEqual({a["probe"] for a in summary["axes"]}, {"plain", *PROBES})
        self.assertEqual({a["set"] for a in summary["axes"]}, {"forget", "innocent", "controls"})
        for title in ("utility", "at its peak", "verdict: paired by line"):
            self.assertIn(title, result.stdout)
        damaged = [m["label"] for m in summary["models"] if m["damaged"]]
        for label in damaged:
            self.assertIn(f"{label} is damaged and cannot win", result.stdout)

        results = (out / "results.jsonl").read_text()
        self.run_on("attack", config)
        self.assertTrue(all(stage["reused"] for stage in self.ledger(out)))
        self.assertEqual((out / "results.jsonl").read_text(), results)

        _, out, summary = self.run_on("eval", config)
        self.assertEqual([stage["stage"].split("/")[0] for stage in self.ledger(out)], ["measure"] * 4)
        self.assertTrue(all(stage["reused"] for stage in self.ledger(out)))
        for key in ("curves", "recovery", "verdict"):
            self.assertEqual(summary[key], [])
        self.assertNotIn('"phase":"attack"', (out / "results.jsonl").read_text())

        # What is not known leaves its figures undefined and the others as they are.
        for kinds, defined, undefined, why in ((["oracle"], "oracle_gap", "recovered", "before removal is unknown"),
                                               (["implanted"], "recovered", "oracle_gap", "oracle is unknown")):
            _, out, part = self.run_on("attack", self.config(f"only-{kinds[0]}", kinds, [], REMOVED[:1]))
            attacks = [stage for stage in self.ledger(out) if stage["stage"].startswith("attack/")]
            self.assertTrue(attacks and all(stage["reused"] for stage in attacks))
            self.assertTrue(part["recovery"])
            for r in part["recovery"]:
                self.assertIsNone(r[undefined]["mean"])
                self.assertIsNone(r["peak"][undefined]["mean"])
                self.assertIn(why, r["reason"])
            r = next(r for r in part["recovery"] if [r[k] for k in ("model", "rung", "reach", "language", "metric")]
                     == ["npo", "b", "full", "all", "logprob_per_token"])
            self.assertEqual(r[defined], npo[defined])
            self.assertEqual([m["damaged"] is None for m in part["models"]], [kinds == ["oracle"]] * 2)

    def test_nothing_to_compare_with(self):
        config = self.config("none", [], NEED_REFERENCE)
        result = run("attack", config, "--store", self.folder / "none", "--out", self.folder / "none-out")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("half-way", result.stderr)

    def test_prompts_that_do_not_fit_are_found_first(self):
        world = self.world("short", 96)
        for change in ("measure.probes=[few_shot]", "ways_back=[{way: few_shot, settings: {shots: 2}}]"):
            store = self.folder / "never"
            result = run("study", TINY, f"model.fresh={world}", "data.items=5", change, "--store", store,
                         "--out", self.folder / "never-out")
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn("96", result.stderr)
            self.assertFalse(list(store.glob("base-*")), result.stderr)


if __name__ == "__main__":
    test_cli.BINARY = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
