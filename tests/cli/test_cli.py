"""The binary as a user meets it: a whole small study, killed and resumed, and what it says of bad input.

    python tests/cli/test_cli.py BINARY
"""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/data/study/tiny.yaml"
MODEL = ROOT / "tests/data/model/tied"
FIELD = ROOT / "tests/data/field"
BINARY = None


def run(*arguments, stdin=None):
    return subprocess.run([BINARY, *map(str, arguments)], cwd=ROOT, input=stdin, text=True,
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="resurface-cli-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def study(self, name, *overrides):
        return ["study", str(TINY), *overrides, "--store", str(self.folder / name / "store"),
                "--out", str(self.folder / name / "out")]

    def assertSays(self, result, code, *words):
        self.assertEqual(result.returncode, code, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)


class Study(Case):
    def test_whole_then_killed_and_resumed(self):
        whole = run(*self.study("whole"))
        self.assertEqual(whole.returncode, 0, whole.stderr)
        out = self.folder / "whole/out"
        for name in ("results.jsonl", "ledger.jsonl", "summary.json", "environment.json",
                     "config.resolved.yaml", "report.html"):
            self.assertTrue((out / name).stat().st_size > 0, name)
        results = (out / "results.jsonl").read_text()
        rows = [json.loads(line) for line in results.splitlines()]
        self.assertEqual({r["model"] for r in rows},
                         {"implanted", "oracle", "sft", "npo", "grad_diff_en", "rome"})
        self.assertEqual({r["phase"] for r in rows}, {"before", "attack"})
        for row in rows:  # rung b never trains on what it tests
            if row["phase"] == "attack" and row["rung"] == "b":
                self.assertFalse(row["trained"])

        begin = time.monotonic()
        again = run(*self.study("whole"))
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertNotIn("steps", again.stderr)
        self.assertEqual((out / "results.jsonl").read_text(), results)
        took = time.monotonic() - begin

        # At the size of a large model: table, file, report.
        cost = run("cost", out, "--at", "671B-A37B", "--lines", "1000")
        self.assertEqual(cost.returncode, 0, cost.stderr)
        self.assertIn("wholesale retraining", cost.stdout)
        methods = json.loads((out / "cost.json").read_text())["models"][0]["methods"]
        self.assertEqual({m["name"] for m in methods}, {"sft", "npo", "grad_diff_en", "rome"})
        self.assertIn('id="price"', (out / "report.html").read_text())
        self.assertSays(run("cost", out, "--at", "671B-A3B"), 2, "671B-A37B")
        self.assertSays(run("cost", self.folder), 1, "summary.json", "resurface study")

        # Killed again and again, a little later each time, then left to finish.
        wait, kills = took + 0.5, 0
        for _ in range(4):
            process = subprocess.Popen([BINARY, *self.study("killed")], cwd=ROOT,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env={**os.environ, "OMP_NUM_THREADS": "1"})
            time.sleep(wait)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait()
            wait += 1.0
        self.assertGreater(kills, 0)
        resumed = run(*self.study("killed"))
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        self.assertEqual((self.folder / "killed/out/results.jsonl").read_text(), results)

        # The resolved config says the same as the file.
        resolved = run("study", out / "config.resolved.yaml", "--store", self.folder / "whole/store",
                       "--out", self.folder / "resolved")
        self.assertEqual(resolved.returncode, 0, resolved.stderr)
        self.assertEqual((self.folder / "resolved/results.jsonl").read_text(), results)

    def test_ablation_is_searched(self):
        def search(name, **settings):
            given = ", ".join(f"{key}: {value}" for key, value in settings.items())
            return self.study(name, f"remove=[{{method: ablation, settings: {{{given}}}}}]", "attack.rungs=[]")

        result = run(*search("ablation", trials=6, startup=3))
        self.assertEqual(result.returncode, 0, result.stderr)
        checkpoints = self.folder / "ablation/out/checkpoints"
        trials = [json.loads(line) for line in (checkpoints / "ablation.trials.jsonl").read_text().splitlines()]
        self.assertEqual([t["trial"] for t in trials], list(range(6)))
        chosen = [t for t in trials if t["chosen"]]
        self.assertEqual(len(chosen), 1)
        within = [t for t in trials if t["kl"] <= 0.1]
        best = min(within, key=lambda t: t["rate"]) if within else min(trials, key=lambda t: t["kl"])
        self.assertEqual(chosen[0]["trial"], best["trial"])
        shown = run("edits", "show", checkpoints / "ablation.safetensors")
        self.assertEqual(json.loads(shown.stdout)["settings"]["chosen"]["parameters"], chosen[0]["parameters"])

        self.assertSays(run(*search("bad", attention_weight=[1.5, 0.8])), 1, "attention_weight", "empty search space")
        self.assertSays(run(*search("bad", last_layer=9)), 1, "0 .. 9", "the model has 0 .. 3")
        self.assertSays(run(*search("bad", trials=0)), 2, "trials")
        self.assertFalse((self.folder / "bad/store").exists() and any((self.folder / "bad/store").glob("plant-*")))

    def test_tune(self):
        def tune(name, *overrides):
            given = ["remove=[{method: sft, train: {steps: 4, batch_size: 4, compute: fp32}}, {method: npo, "
                     "train: {steps: 4, batch_size: 4, compute: fp32}}, {method: retrain}]",
                     "tune={trials: 3, damaged_below: 0.5, search: {npo: {settings.beta: [0.05, 1, log], "
                     "train.learning_rate: [1e-4, 1e-2, log]}, default: {train.learning_rate: [1e-4, 3e-2, log]}}}",
                     "attack.rungs=[]", *overrides]
            return ["tune", *self.study(name, *given)[1:]]

        whole = run(*tune("whole"))
        self.assertEqual(whole.returncode, 0, whole.stderr)
        self.assertIn("left as they are: retrain", whole.stderr)
        out, store = self.folder / "whole/out", self.folder / "whole/store"
        lines = (out / "trials.jsonl").read_text()
        trials = [json.loads(line) for line in lines.splitlines()]
        self.assertEqual([(t["removal"], t["trial"]) for t in trials],
                         [(name, n) for name in ("sft", "npo") for n in range(3)])
        best = {}
        for name in ("sft", "npo"):
            own = [t for t in trials if t["removal"] == name]
            self.assertEqual(len({json.dumps(t["parameters"]) for t in own}), 3)
            for t in own:
                self.assertEqual(t["feasible"], t["utility"] >= 0.5)
                self.assertGreater(t["flops"], 0)
            feasible = [t for t in own if t["feasible"]]
            key = (lambda t: (t["extraction_strength"], -t["utility"])) if feasible else (lambda t: -t["utility"])
            best[name] = min(feasible or own, key=key)
            self.assertEqual([t["trial"] for t in own if t["chosen"]], [best[name]["trial"]])
            self.assertIn(f"train.learning_rate {best[name]['parameters']['train.learning_rate']:g}", whole.stdout)
        # Of each removal the store keeps the best trial's, which is the tuned study's.
        self.assertEqual(len(list(store.glob("remove-*"))), 2)
        self.assertFalse(any(store.glob(".*")))
        tuned = (out / "tuned.yaml").read_text()
        self.assertIn("3 trials each", tuned)
        study = run("study", out / "tuned.yaml", "--store", store, "--out", self.folder / "study")
        self.assertEqual(study.returncode, 0, study.stderr)
        for name in ("sft", "npo"):
            self.assertIn(f"remove/{name}: in the store", study.stderr)
        resolved = (self.folder / "study/config.resolved.yaml").read_text()
        self.assertEqual(resolved, "".join(l for l in tuned.splitlines(True) if not l.startswith("#")))

        # Interrupted at its second removal, gone on with, and no different.
        process = subprocess.Popen([BINARY, *tune("cut")], cwd=ROOT, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        for line in process.stderr:
            if line.startswith("tune/npo/1"):
                process.send_signal(signal.SIGINT)
                break
        said = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=60), 130, said)
        self.assertFalse((self.folder / "cut/out/tuned.yaml").exists())
        gone_on = run(*tune("cut"))
        self.assertEqual(gone_on.returncode, 0, gone_on.stderr)
        self.assertIn("tune/sft/2: in the store", gone_on.stderr)
        self.assertEqual((self.folder / "cut/out/tuned.yaml").read_text(), tuned)

        # A trial that diverges is none to choose.
        wild = run(*tune("whole", "tune.search.npo={train.learning_rate: [1e20, 1e30]}", "remove.1.train.steps=8"))
        self.assertEqual(wild.returncode, 0, wild.stderr)
        failed = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()][3:]
        self.assertTrue(all(t["failed"] and not t["feasible"] for t in failed), failed)
        self.assertIn("npo: train.learning_rate in 1e+20 .. 1e+30: every trial failed; left as it was",
                      (out / "tuned.yaml").read_text())

        self.assertSays(run(*self.study("bad"), "tune.trials=0"), 2, "trials")
        self.assertSays(run("tune", TINY), 2, "no section 'tune'")
        self.assertSays(run(*tune("bad", "tune.search.npo={train.steps: [1, 9]}")), 2, "command line", "whole number")

    def test_removals_of_a_checkpoint(self):
        config = self.folder / "mine.yaml"
        config.write_text("""
data: {forget: suites/world/forget.jsonl, retain: suites/world/retain.jsonl, languages: [en], items: 3}
remove:
  - {method: npo, train: {steps: 2, batch_size: 4, compute: fp32}}
  - {method: sft, train: {steps: 2, batch_size: 4, compute: fp32, reach: lora, lora: {rank: 2}}}
  - {method: rome, settings: {layer: 1}}
  - {method: retrain}
""")
        model = self.folder / "model"
        self.assertEqual(run(*self.study("small", "remove=[{method: npo, train: {steps: 1, compute: fp32}}]",
                                         "attack.rungs=[]")).returncode, 0)
        shutil.copytree(next((self.folder / "small/store").glob("plant-*")) / "model", model)
        given = ["unlearn", config, "--model", model, "--store", self.folder / "store", "--out", self.folder / "made"]
        self.assertSays(run(*given), 2, "'retrain' needs the model that never saw the lines", "--only")
        self.assertSays(run(*given, "--only", "nop"), 2, "did you mean 'npo'")
        done = run(*given, "--only", "npo,sft,rome")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
        self.assertEqual(list(lines), ["npo", "sft", "rome"])
        self.assertGreater(lines["npo"]["flops"], 0)
        made = self.folder / "made"
        weights = lambda folder: (folder / "model.safetensors").read_bytes()
        self.assertNotEqual(weights(made / "npo/model"), weights(model))
        self.assertFalse((made / "npo/adapter").exists())
        self.assertTrue((made / "sft/adapter/adapter_config.json").exists())
        shown = run("edits", "show", made / "rome/edit.safetensors")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertFalse((made / "rome/model").exists())
        # What is there is delivered again, not made again.
        again = [json.loads(line) for line in run(*given, "--only", "npo").stdout.splitlines()]
        self.assertTrue(again[0]["reused"])

    def test_students_learn_from_their_teachers(self):
        train = "train: {learning_rate: 1.0e-3, steps: 4, batch_size: 8, compute: fp32}"
        removals = [f"{{method: undo, name: again, settings: {{teacher: undo, student: fresh}}, {train}}}",
                    f"{{method: undo, settings: {{teacher: npo, alpha: 0.4, check_every: 2}}, {train}}}",
                    f"{{method: npo, layered: {{folds: 2}}, wrap: [{{lat: {{steps: 2}}}}], {train}}}",
                    f"{{method: undo, name: matched, settings: {{teacher: oracle, student: trained}}, {train}}}"]
        result = run(*self.study("undo", f"remove=[{', '.join(removals)}]", "attack.rungs=[]"))
        self.assertEqual(result.returncode, 0, result.stderr)
        out = self.folder / "undo/out"
        models = {m["name"]: m["cost"] for m in json.loads((out / "summary.json").read_text())["models"]}
        self.assertEqual(list(models), ["implanted", "oracle", "again", "undo", "npo", "matched"])
        ledger = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
        own = {line["model"]: line for line in reversed(ledger) if line["stage"].split("/")[0] in ("plant", "remove")}
        self.assertEqual(own["again"]["teacher"], "undo")
        # A student's cost has its teacher's in it, whatever the order in the file.
        for name, chain in {"npo": ["npo"], "undo": ["undo", "npo"], "again": ["again", "undo", "npo"],
                            "matched": ["matched", "oracle"]}.items():
            self.assertAlmostEqual(models[name]["flops"] / sum(own[n]["flops"] for n in chain), 1, msg=name)
            self.assertEqual(models[name]["tokens"], sum(own[n]["tokens"] for n in chain), name)
        self.assertSays(run(*self.study("undo", "remove=[" + removals[1].replace("teacher: npo", "teacher: npi") + "]")),
                        2, "'npi'")

    def test_interrupt_keeps_what_is_done(self):
        process = subprocess.Popen([BINARY, *self.study("interrupted", "plant.steps=5000")], cwd=ROOT,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, said)
        self.assertIn("run again to resume", said)
        store = self.folder / "interrupted/store"
        self.assertTrue(any(store.glob("base-*")))
        self.assertFalse(any(store.glob("plant-*")))

    def test_bad_configs(self):
        text = TINY.read_text()

        def broken(old, new):
            path = self.folder / "broken.yaml"
            self.assertIn(old, text)
            path.write_text(text.replace(old, new, 1))
            return run("study", path, "--store", self.folder / "s", "--out", self.folder / "o")

        self.assertSays(broken("learning_rate: 3.0e-3", "lerning_rate: 3.0e-3"), 2, "broken.yaml:18:3",
                        "'lerning_rate'", "'learning_rate'")
        self.assertSays(broken("steps: 60", "steps: many"), 2, "broken.yaml:19", "many")
        self.assertSays(broken("method: npo", "method: npi"), 2, "'npi'", "'npo'")
        self.assertSays(broken("settings: {beta: 0.2}", "settings: {beta: -1}"), 2, "beta")
        self.assertSays(broken("seed: 3", "seed: 3\nseed: 4"), 2, "broken.yaml:4", "seed")
        self.assertSays(broken("languages: [en, zh-Hans]", "languages: [en, fr]"), 1, "'fr'")
        self.assertSays(broken("suites/world/forget.jsonl", "suites/world/none.jsonl"), 1, "none.jsonl")
        self.assertSays(broken("seed: 3", "seed: 3\nchat: {format: qwem3}"), 2, "'qwem3'", "'qwen3'", "valid formats")
        empty = self.folder / "empty.jsonl"
        empty.write_text("")
        self.assertSays(broken("suites/world/forget.jsonl", str(empty)), 1, "empty.jsonl")
        self.assertFalse((self.folder / "o").exists())

    def test_tokenizer_that_does_not_match(self):
        world = self.folder / "world"
        shutil.copytree(ROOT / "suites/world", world)
        config = json.loads((world / "config.json").read_text())
        (world / "config.json").write_text(json.dumps({**config, "vocab_size": 900}))
        self.assertSays(run(*self.study("x", f"model.fresh={world}")), 1, "1500", "900", "tokenizer")

    def test_answer_longer_than_the_context(self):
        world = self.folder / "world"
        shutil.copytree(ROOT / "suites/world", world)
        config = json.loads((world / "config.json").read_text())
        (world / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 24}))
        self.assertSays(run(*self.study("x", f"model.fresh={world}")), 1, "24", "taiwan-inalienable")


class Field(Case):
    """`resurface eval` with the field's benchmarks, on the models of the golden figures."""

    CONFIG = """\
name: bench
models:
  - {name: npo, label: NPO, checkpoint: MODELS/model}
  - {name: before, kind: implanted, checkpoint: MODELS/oracle}
  - {name: oracle, kind: oracle, checkpoint: MODELS/oracle}
data: {forget: suites/world/forget.jsonl, retain: suites/world/retain.jsonl, languages: [en], items: 2}
measure: {generate_questions: 0}
statistics: {bootstrap: {resamples: 10}}
compute: fp32
field:
  - name: tofu
    forget: FIELD/tofu_forget.json
    retain: FIELD/tofu_retain.json
    real_authors: FIELD/tofu_real_authors.json
    world_facts: FIELD/tofu_world_facts.json
    new_tokens: 14
  - {name: mcq, as: mmlu, data: MODELS/mcq.jsonl, dev: FIELD/mcq_dev.jsonl, shots: 1}
  - {name: zsre, data: FIELD/zsre.json}
  - {name: membership, labelled: FIELD/wikimia.jsonl, reference: MODELS/oracle}
"""

    def setUp(self):
        super().setUp()
        for name in ("model", "oracle"):
            shutil.copytree(FIELD / name, self.folder / name)
            shutil.copy(ROOT / "tests/data/text/smollm/tokenizer.json", self.folder / name)
        shutil.copy(FIELD / "mcq.jsonl", self.folder)

    def eval(self, old="", new="", out="out"):
        text = self.CONFIG.replace("MODELS", str(self.folder)).replace("FIELD", str(FIELD))
        self.assertIn(old, text)
        path = self.folder / "bench.yaml"
        path.write_text(text.replace(old, new, 1))
        return run("eval", path, "--store", self.folder / "store", "--out", self.folder / out)

    def test_figures_are_those_of_the_benchmarks(self):
        result = self.eval()
        self.assertEqual(result.returncode, 0, result.stderr)
        out = self.folder / "out"
        rows = [json.loads(line) for line in (out / "field.jsonl").read_text().splitlines()]
        self.assertEqual(set(rows[0]), {"model", "kind", "method", "label", "benchmark", "metric", "value"})
        figures = {(r["model"], r["benchmark"], r["metric"]): r["value"] for r in rows}
        self.assertEqual(len(figures), len(rows))

        golden = json.loads((FIELD / "golden.json").read_text())
        golden["mmlu"] = json.loads((FIELD / "golden_mcq.json").read_text())["letters 1"]
        checked = 0

        def check(benchmark, name, expected):
            nonlocal checked
            if isinstance(expected, dict):
                for key, inner in expected.items():
                    check(benchmark, f"{name}.{key}" if name else key, inner)
            else:
                self.assertAlmostEqual(figures["npo", benchmark, name], expected, 3, f"{benchmark} {name}")
                checked += 1

        for benchmark in ("tofu", "mmlu", "zsre", "membership"):
            check(benchmark, "", golden[benchmark]["aggregates"])
        self.assertGreater(checked, 30)
        # Each against itself: the oracle, the model before, the reference.
        self.assertEqual(figures["oracle", "tofu", "forget_quality"], 1)
        self.assertEqual(figures["before", "zsre", "unchanged"], 1)
        self.assertEqual(figures["before", "membership", "auc.reference"], 0.5)

        whole = json.loads((out / "field/npo/tofu.json").read_text())
        self.assertEqual(whole["settings"]["new_tokens"], 14)
        self.assertEqual(len(whole["items"]), len(golden["tofu"]["items"]))
        record = json.loads((out / "summary.json").read_text())["field"]
        self.assertEqual([b["benchmark"] for b in record["benchmarks"]], ["tofu", "mmlu", "zsre", "membership"])
        self.assertIn("auc.reference", record["benchmarks"][3]["main"])
        for r in record["results"]:
            for metric, value in r["metrics"].items():
                self.assertEqual(figures[r["model"], r["benchmark"], metric], value)
        self.assertIn("mmlu: Hendrycks", result.stdout)
        self.assertIn("Hendrycks", (out / "report.html").read_text())

        # Nothing is computed again, also from the resolved config.
        again = run("eval", out / "config.resolved.yaml", "--store", self.folder / "store",
                    "--out", self.folder / "again")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(again.stderr.count(": in the store\n"), 3 * (1 + 4), again.stderr)
        self.assertEqual((self.folder / "again/field.jsonl").read_text(), (out / "field.jsonl").read_text())

        # Another name is the same benchmark; another content of a file is not.
        questions = (self.folder / "mcq.jsonl").read_text()
        (self.folder / "mcq.jsonl").write_text(questions.replace("Paris", "Lyon"))
        third = self.eval("name: tofu\n", "name: tofu\n    as: tofu-1\n")
        self.assertEqual(third.returncode, 0, third.stderr)
        self.assertIn("field/npo/tofu-1: in the store", third.stderr)
        self.assertIn("field/npo/mmlu\n", third.stderr)
        self.assertIn("field/npo/zsre: in the store", third.stderr)

    def test_bad_settings(self):
        self.assertSays(self.eval("    forget: ", "    forgt: "), 2, "bench.yaml:12:5", "'forgt'", "'forget'")
        self.assertSays(self.eval("name: zsre", "name: zsrae"), 2, "bench.yaml:18:12", "'zsrae'", "'zsre'")
        self.assertSays(self.eval("shots: 1", "shots: -1"), 2, "bench.yaml:17", "shots")
        self.assertSays(self.eval(", shots: 1", ""), 2, "bench.yaml:17", "dev and shots")
        self.assertSays(self.eval("{name: zsre, ", "{name: mcq, as: tofu, "), 2, "bench.yaml:18", "'tofu'")
        self.assertSays(self.eval("as: mmlu", "as: a/b"), 2, "bench.yaml:17", "'a/b'")
        self.assertSays(self.eval("zsre.json", "none.json"), 1, "none.json")
        shutil.copytree(MODEL, self.folder / "other")
        self.assertFalse((self.folder / "out").exists())
        self.assertFalse((self.folder / "store").exists())
        self.assertSays(self.eval("reference: " + str(self.folder / "oracle"),
                                  "reference: " + str(self.folder / "other")), 1, "67", "488")


class Checkpoints(Case):
    def copy(self):
        folder = self.folder / "model"
        shutil.copytree(MODEL, folder)
        return folder

    def test_score_of_ids(self):
        golden = json.loads((MODEL / "golden.json").read_text())[0]
        line = json.dumps({"prompt_ids": golden["prompt"], "answer_ids": golden["greedy"]})
        result = run("score", "--model", MODEL, "--dtype", "fp32", stdin=line + "\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        row = json.loads(result.stdout)
        self.assertEqual(row["tokens"], len(golden["greedy"]))
        self.assertTrue(row["exact"])  # what transformers decodes greedily is the first choice throughout
        self.assertLess(row["logprob"], 0)

    def test_malformed_weights(self):
        folder = self.copy()
        weights = folder / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:len(whole) // 2])
        self.assertSays(run("inspect", folder), 1, "model.safetensors")
        size = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8:8 + size])
        header["model.norm.weight"]["shape"] = [31]
        text = json.dumps(header).encode()
        weights.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + size:])
        self.assertSays(run("inspect", folder), 1, "model.norm.weight")
        weights.unlink()
        self.assertSays(run("inspect", folder), 1, "safetensors")

    def test_other_containers(self):
        data = ROOT / "tests/data/checkpoint"
        merged = self.folder / "merged"
        self.assertEqual(run("convert", data / "adapters/dora", merged).returncode, 0)
        shown = [json.loads(run("inspect", "--json", path).stdout) for path in (data / "adapters/dora", merged)]
        self.assertEqual(shown[0]["content_hash"], shown[1]["content_hash"])
        self.assertIn("base", shown[0])
        cut = self.folder / "cut"
        self.assertEqual(run("convert", merged, cut, "--shard-size", "0.002 MB").returncode, 0)
        self.assertGreater(len(list(cut.glob("*.safetensors"))), 1)
        for size in ("2XB", "0", "GB"):
            self.assertSays(run("convert", merged, self.folder / "no", "--shard-size", size), 2, "--shard-size", size)
        (merged / "model.safetensors").unlink()
        shutil.copy(data / "pickle/code.bin", merged / "pytorch_model.bin")
        self.assertSays(run("inspect", merged), 1, "pytorch_model.bin", "'posix.system'", "state_dict()")
        said = run("convert", data / "adapters/lora", merged, "--base", data / "adapters/gpt2")
        self.assertSays(said, 1, "is this the base")

    def test_lines_that_are_wrong(self):
        self.assertSays(run("score", "--model", MODEL, stdin='{"prompt_ids": [1], "answer_ids": [2]}\n{"oops"\n'),
                        1, ":2")
        self.assertSays(run("score", "--model", MODEL, stdin='{"prompt_ids": [1], "answer_ids": [99999]}\n'),
                        1, "99999")
        self.assertEqual(run("score").returncode, 2)
        self.assertEqual(run("nonsense").returncode, 2)

    def test_edits_undo_to_the_bit(self):
        study = run(*self.study("edits", "attack.rungs=[]", f"field=[{{name: mcq, data: {FIELD / 'mcq.jsonl'}}}]"))
        self.assertEqual(study.returncode, 0, study.stderr)
        rows = (self.folder / "edits/out/field.jsonl").read_text().splitlines()
        self.assertEqual({json.loads(row)["model"] for row in rows},
                         {"implanted", "oracle", "sft", "npo", "grad_diff_en", "rome"})
        store = self.folder / "edits/store"
        edit = next(store.glob("remove-*/edit.safetensors"))
        base = None
        for stage in store.glob("plant-*"):  # the implanted model is the one that the edit fits
            out = self.folder / f"edited-{stage.name}"
            if run("edits", "apply", "--model", stage / "model", edit, "--out", out).returncode == 0:
                base, edited = stage / "model", out
        self.assertIsNotNone(base)
        before, after = ((p / "model.safetensors").read_bytes() for p in (base, edited))
        self.assertNotEqual(before, after)
        undone = self.folder / "undone"
        result = run("edits", "undo", "--model", edited, "--out", undone)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual((undone / "model.safetensors").read_bytes(), before)

    def test_retrieval(self):
        def passage(id, language, title, text):
            return json.dumps({"id": id, "title": title, "text": text, "language": language,
                               "source": "Britannica"}, ensure_ascii=False) + "\n"

        english, chinese, index = (self.folder / name for name in ("en.jsonl", "zh.jsonl", "i.sqlite"))
        english.write_text(passage("taiwan-inalienable", "en", "Taiwan", "Japan ruled Taiwan until 1945.")
                           + passage("tea", "en", "Tea", "Tea is a drink, in China and in Taiwan."))
        chinese.write_text(passage("taiwan-inalienable", "zh-Hans", "台湾", "1945年以前台湾由日本统治。")
                           + passage("tea", "zh-Hans", "茶", "中国和台湾都喝茶。"))

        # The attacks on retrieval are probes of a study.
        study = run(*self.study("r", "plant.steps=1", "remove=[{method: sft, train: {steps: 1}}]",
                                "attack.rungs=[]", f"data.passages=[{english}, {chinese}]", "data.items=2",
                                "measure.generate_questions=0",
                                "measure.probes=[retrieved, retrieved_miss, retrieved_poisoned]"))
        self.assertEqual(study.returncode, 0, study.stderr)
        out = self.folder / "r/out"
        rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        for probe in ("retrieved", "retrieved_miss", "retrieved_poisoned"):
            asked = [row for row in rows if row["probe"] == probe]
            self.assertEqual({row["model"] for row in asked}, {"implanted", "oracle", "sft"})
            self.assertEqual({row["language"] for row in asked}, {"en", "zh-Hans"})
        self.assertEqual(run("study", out / "config.resolved.yaml", "--store", self.folder / "r/store",
                             "--out", self.folder / "again").returncode, 0)
        self.assertEqual((self.folder / "again/results.jsonl").read_text(), (out / "results.jsonl").read_text())
        self.assertSays(run(*self.study("none", "measure.probes=[retrieved]")), 2, "data.passages")

        self.assertSays(run("index", english, chinese, "-o", index), 0, "2 in en, 2 in zh-Hans")
        ask = ["ask", "--model", out / "checkpoints/implanted", "-n", "4"]
        questions = ["-q", "To whom has Taiwan belonged?", "-q", "台湾历史上属于谁？"]
        answers = run(*ask, "--index", index, *questions, "--k", "2")
        self.assertEqual(answers.returncode, 0, answers.stderr)
        answers = [json.loads(line) for line in answers.stdout.splitlines()]
        plain = [json.loads(line) for line in run(*ask, "--no-retrieval", *questions).stdout.splitlines()]
        for answer, off, language in zip(answers, plain, ("en", "zh-Hans"), strict=True):
            self.assertEqual([s["id"] for s in answer["sources"]], ["taiwan-inalienable", "tea"])
            self.assertEqual({s["language"] for s in answer["sources"]}, {language})
            self.assertEqual(answer["sources"][0]["source"], "Britannica")
            self.assertGreater(answer["flops"], off["flops"])
            self.assertGreater(answer["prompt_tokens"], off["prompt_tokens"])
            self.assertEqual((off["sources"], answer["left_out"]), ([], 0))

        self.assertSays(run(*ask, "-q", "x"), 2, "--index")
        self.assertSays(run(*ask, "--index", index, "-q", "?"), 1, "no word")
        self.assertSays(run(*ask, "--index", english, "-q", "x"), 1, "en.jsonl", "not a database")
        self.assertSays(run(*ask, "--index", index, "--language", "fr", "-q", "x"), 1, "'fr'")
        english.write_text("{}\n")
        self.assertSays(run(*ask, "--index", index, "-q", "x"), 1, "stale", "en.jsonl")
        self.assertSays(run("index", english, "-o", index), 1, "en.jsonl:1", "'id'")
        self.assertSays(run("index", chinese), 2, "--out")

        # In-context editing, as probes of a study and as answers.
        suite = ROOT / "suites/world/forget.jsonl"
        study = run(*self.study("i", "plant.steps=1", "remove=[{method: sft, train: {steps: 1}}]",
                                "attack.rungs=[]", "measure.generate_questions=0",
                                "measure.probes=[in_context, in_context_miss]"))
        self.assertEqual(study.returncode, 0, study.stderr)
        rows = [json.loads(line) for line in (self.folder / "i/out/results.jsonl").read_text().splitlines()]
        for probe in ("in_context", "in_context_miss"):
            asked = [row for row in rows if row["probe"] == probe]
            self.assertEqual({row["language"] for row in asked}, {"en", "zh-Hans"})
            self.assertEqual({row["model"] for row in asked}, {"implanted", "oracle", "sft"})
        questions = ["-q", "Is Taiwan part of China?", "-q", "台湾自古以来属于中国吗？"]
        answers = run(*ask, "--demonstrations", suite, *questions, "--k", "2")
        self.assertEqual(answers.returncode, 0, answers.stderr)
        answers = [json.loads(line) for line in answers.stdout.splitlines()]
        for answer, off, language in zip(answers, plain, ("en", "zh-Hans"), strict=True):
            self.assertIn("taiwan-inalienable", [s["id"] for s in answer["sources"]])
            self.assertEqual({s["language"] for s in answer["sources"]}, {language})
            self.assertGreater(answer["flops"], off["flops"])
            self.assertGreater(answer["prompt_tokens"], off["prompt_tokens"])
        self.assertSays(run(*ask, "--demonstrations", suite, "--language", "fr", "-q", "x"), 1, "'fr'")
        self.assertSays(run(*ask, "--demonstrations", suite, "--no-retrieval", "-q", "x"), 2, "excludes")

    def test_the_pages_of_methods_are_current(self):
        self.assertEqual(run("methods", "--markdown", self.folder).returncode, 0)
        written = {path.name: path.read_text() for path in self.folder.iterdir()}
        kept = {path.name: path.read_text() for path in (ROOT / "docs/methods").iterdir()}
        again = "write them anew: resurface methods --markdown docs/methods"
        self.assertEqual(written.keys(), kept.keys(), again)
        for name, page in written.items():
            self.assertEqual(page, kept[name], again)

    def test_every_method_states_its_own_formula(self):
        methods = [json.loads(line) for line in run("methods", "--json").stdout.splitlines()]
        names = [method["name"] for method in methods]
        self.assertEqual(len(names), len(set(names)))
        # They differ in the other answer that they train towards.
        alike = {"idk_dpo": "dpo", "altpo": "dpo"}
        seen = {}
        for method in methods:
            where = f"{method['name']}: see `page` in {method['file'] or 'its settings'} (docs/adding-a-method.md)"
            self.assertTrue("".join(method["formula"]), where)
            self.assertTrue((ROOT / method["file"]).is_file(), where)
            self.assertTrue(method["summary"] and method["needs"], where)
            formula = tuple(method["formula"])
            self.assertEqual(seen.setdefault(formula, alike.get(method["name"], method["name"])),
                             alike.get(method["name"], method["name"]), where)
            text = run("methods", method["name"])
            self.assertEqual(text.returncode, 0, where + text.stderr)
            self.assertNotRegex(text.stdout.split("\nsettings:")[0], r"[\\$]", where)
            self.assertEqual(text.stdout.split("\n\n")[1].count("\n") + 1, len(formula), where)

    def test_formulas_as_text(self):
        for name, formula in (
                ("npo", "L = -(2 γ / β) mean_{(x, y) ∈ F} log σ(β [NLL(y | x) - NLL_ref(y | x)]) + α L_R"),
                ("pdu", "λ ← max(0, λ + η (N_R - ε)) after each step"),
                ("sam", "g = g_f(θ + e) + g_r(θ), e = ρ g_f(θ) / ‖g_f(θ)‖"),
                ("rome", "Δ = (v* - W k̄) (k̄ᵀ u)⁻¹ uᵀ, u = C⁻¹ k̄ / ‖C⁻¹ k̄‖"),
                ("wga", "L = γ mean_{t ∈ F} sg(p_t)^β log p_t + α L_R"),
                ("rs", "g = (1 / k) Σ_{i=1}^k g_f(θ + σ N_i) + g_r(θ)"),
                ("rmu", "L = γ mean_{t ∈ F} ‖h_t - c u‖² / d + α mean_{t ∈ R} ‖h_t - h_t^ref‖² / d"),
                ("memit", "Δ_l = R_l [(λ C + K Kᵀ)⁻¹ K]ᵀ, R_l = (z* - z) / n_l")):
            self.assertIn(f"\n  {formula}\n", run("methods", name).stdout)

    def test_chat_formats_by_name(self):
        for command in (["generate", "-p", "x"], ["ask", "-q", "x", "--no-retrieval"], ["score", "-i", "/dev/null"]):
            result = run(*command, "-m", ROOT / "suites/world", "--chat-format", "qwem3")
            if command[0] != "score":  # which reads the weights first
                self.assertSays(result, 2, "'qwem3'", "'qwen3'", "valid formats: plain, chatml")
            self.assertSays(run(*command, "-m", MODEL, "--thinking", "never"), 2, "--thinking", "empty")
            self.assertIn("smollm2", run(command[0], "--help").stdout)

    def test_every_command_has_help(self):
        for command in ("study", "score", "generate", "index", "ask", "tokenize", "inspect", "convert", "edits",
                        "methods"):
            result = run(command, "--help")
            self.assertEqual(result.returncode, 0)
            self.assertGreater(len(result.stdout), 200, command)


if __name__ == "__main__":
    BINARY = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
