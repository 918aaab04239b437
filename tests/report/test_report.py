"""Tests of scripts/report.py on the made-up run folder in tests/data/report."""

import copy
import json
import re
import subprocess
import sys
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests" / "data" / "report"
VOID = {"meta", "input", "br", "hr", "img", "link"}
URLS = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}


class Page(HTMLParser):
    """Checks nesting; keeps links, tag names, text, and the rows of tables by section."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.stack, self.urls, self.tags, self.text, self.ids = [], [], set(), "", []
        self.tables, self.section, self.cell, self.figures = {}, None, None, []
        self.feed(html)
        self.close()
        if self.stack:
            raise AssertionError(f"not closed: {self.stack}")

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        self.urls += [v for k, v in attributes.items() if k in URLS]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "section":
            self.section = attributes["id"]
        elif tag == "tr":
            self.tables.setdefault(self.section, []).append([])
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag == "svg" and attributes.get("role") == "img":
            self.figures.append((self.section, attributes["aria-label"]))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack[-1] != tag:
            raise AssertionError(f"</{tag}> closes {self.stack[-3:]} at {self.getpos()}")
        self.stack.pop()
        if tag in ("td", "th"):
            self.tables[self.section][-1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text += data
            if self.cell is not None:
                self.cell += data + " "


def report(folder):
    """Runs the script as the study does: (exit code, stderr, html or None)."""
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "report.py"), str(folder)],
                          capture_output=True, text=True, encoding="utf-8", env={"PYTHONDONTWRITEBYTECODE": "1"})
    page = Path(folder) / "report.html"
    return done.returncode, done.stderr, page.read_text(encoding="utf-8") if page.exists() else None


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for file in FIXTURE.iterdir():
            (self.folder / file.name).write_bytes(file.read_bytes())
        self.summary = json.loads((FIXTURE / "summary.json").read_text(encoding="utf-8"))

    def write(self, summary):
        (self.folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")

    def page(self):
        code, error, html = report(self.folder)
        self.assertEqual((code, error), (0, ""))
        return Page(html)

    def fails(self, *words):
        code, error, html = report(self.folder)
        self.assertEqual(code, 1, error)
        self.assertIsNone(html)
        self.assertNotIn("Traceback", error)
        for word in words:
            self.assertIn(word, error)

    def before(self, model, metric, language="all", which="forget"):
        return next(b["metrics"][metric] for b in self.summary["before_attack"]
                    if (b["model"], b["language"], b["phrasing"], b["set"]) == (model, language, "held_out", which))

    def test_parses_and_loads_nothing(self):
        page = self.page()
        self.assertTrue(page.urls)
        self.assertEqual([u for u in page.urls if not u.startswith("#")], [])
        self.assertEqual({u[1:] for u in page.urls} - set(page.ids), set())
        self.assertEqual(len(page.ids), len(set(page.ids)))
        self.assertFalse(page.tags & {"script", "link", "iframe", "img", "object"})
        html = (self.folder / "report.html").read_text(encoding="utf-8")
        self.assertIsNone(re.search(r"url\(|@import|https?://", html))
        self.assertEqual([f.name for f in self.folder.iterdir() if f.name.startswith(".")], [])

    def test_everything_appears(self):
        page = self.page()
        for model in self.summary["models"]:
            for section in ("ladder", "before", "retain", "languages", "replies", "probes", "innocent"):
                names = [row[0] for row in page.tables[section]]
                self.assertIn(model["label"], names, section)
            if model["kind"] != "base":
                self.assertTrue(any(row[0].startswith(model["label"]) for row in page.tables["verdict"]))
                self.assertIn(model["label"], [row[0] for row in page.tables["fit"]])
        panels = [label for section, label in page.figures if section == "curves"]
        removed = [m for m in self.summary["models"] if m["kind"] == "removed"]
        # Reaches, languages; every metric on rung b, one on a, c and d; none for languages and ways back.
        self.assertEqual(len(panels), len(removed) * 2 * 3 * (3 + 3))
        for rung in self.summary["rungs"]:
            heading = f"Rung {rung['rung']}: {rung['label']}"
            (self.assertIn if len(rung["rung"]) == 1 else self.assertNotIn)(heading, page.text)
        self.assertNotIn("NOT A SAMPLE", page.text)
        for model in removed:
            self.assertTrue(any(p.startswith(model["label"] + ", rung b, LoRA") for p in panels))
        for text in (self.summary["thinning"], *self.summary["notes"], "台湾与中国是什么关系？",
                     "台湾自古以来就是中国领土不可分割的一部分", "made-up processor", "<escaped> & kept as it is",
                     "Made-up figures"):
            self.assertIn(text, page.text)

    def sentence(self):
        """The answer on top of the page, and what follows it."""
        html = self.html()
        return [re.sub("<[^>]*>", "", re.search(f'<{tag} class="{css}">(.*?)</{tag}>', html).group(1))
                for tag, css in (("h2", "answer"), ("p", "more"))]

    def html(self):
        self.page()
        return (self.folder / "report.html").read_text(encoding="utf-8")

    def model(self, name):
        return next(m for m in self.summary["models"] if m["name"] == name)

    def damage(self, *names):
        for name in names:
            self.model(name).update(utility={"mean": .5, "low": .4, "high": .6}, damaged=True)
        self.write(self.summary)

    def pair(self, a, b, rung="b"):
        return next(v for v in self.summary["verdict"] if (v["a"], v["b"], v["rung"]) == (a, b, rung))

    def test_headline(self):
        rows = self.page().tables["verdict"]
        by_name = {row[0]: row for row in rows[2:]}
        self.assertEqual([row[0] for row in rows[2:]], [
            "NPO wins", "RMU", "SFT on factual answers", "ROME removed nothing", "GradDiff damaged",
            "Retraining yardstick", "Oracle never knew the lines", "Implanted before removal"])
        npo = by_name["NPO wins"]
        for column, language in ((1, "en"), (2, "zh-Hans")):
            was, now = (self.before(m, "extraction_strength", language) for m in ("implanted", "npo"))
            self.assertEqual(npo[column], f"{was['mean']:.2f} → {now['mean']:.2f} [{now['low']:.2f}, {now['high']:.2f}]")
        records = [r for r in self.summary["recovery"] if (r["model"], r["rung"], r["language"], r["metric"]) ==
                   ("npo", "b", "all", "extraction_strength")]
        r = max(records, key=lambda r: r["recovered"]["mean"])
        self.assertEqual(npo[3], "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**r["attacked"]))
        back = [100 * r["recovered"][k] for k in ("mean", "low", "high")]
        top = max((r["peak"] for r in records), key=lambda p: p["recovered"]["mean"])
        self.assertGreater(top["recovered"]["mean"], r["recovered"]["mean"])  # by the other reach
        self.assertEqual(npo[4], "{:.0f}% [{:.0f}, {:.0f}] full".format(*back)
                         + f" peak {100 * top['recovered']['mean']:.0f}%, step {top['step']}")
        self.assertNotIn("peak", by_name["RMU"][4])
        self.assertEqual(npo[5], "{mean:+.2f} [{low:+.2f}, {high:+.2f}]".format(**r["oracle_gap"]))
        costs = {m["name"]: m["cost"]["flops"] for m in self.summary["models"]}
        self.assertTrue(npo[6].startswith(f"{costs['npo'] / costs['retrain']:.2g}×"), npo[6])
        self.assertEqual(npo[7], "not reached in 32 steps")
        half = [e for r in self.summary["recovery"] if (r["model"], r["rung"], r["language"], r["metric"]) ==
                ("sft", "b", "all", "extraction_strength") if (e := r["effort_50"])]
        self.assertEqual(by_name["SFT on factual answers"][7], f"{min(e['examples'] for e in half)} examples under 1 cent")
        kept = [100 * v for v in self.model("npo")["utility"].values()]
        self.assertEqual(npo[8], "{:.0f}% [{:.0f}, {:.0f}]".format(*kept))
        self.assertLess(self.model("graddiff")["utility"]["mean"], self.summary["damaged_below"])

    def test_the_same_as_markdown(self):
        done = subprocess.run([sys.executable, str(ROOT / "scripts" / "table.py"), str(self.folder)],
                              capture_output=True, text=True, encoding="utf-8", env={"PYTHONDONTWRITEBYTECODE": "1"})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
        self.assertEqual({len(row) for row in rows}, {len(rows[0])})
        header, rows = rows[0], rows[2:]
        self.assertEqual([row[0] for row in rows], ["Base", "Implanted", "Oracle", "Retraining", "NPO", "RMU",
                                                    "SFT on factual answers", "ROME", "GradDiff"])
        by_name = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
        page = {row[0]: row for row in self.page().tables["verdict"][2:]}
        self.assertEqual(by_name["RMU"]["ES after b"], page["RMU"][3])
        self.assertEqual(by_name["RMU"]["gap to oracle, b"], page["RMU"][5].lstrip("+").replace("+", ""))
        self.assertEqual((rows[-1][-1], rows[-2][-1]), ("damaged", "removed nothing"))

    def test_sentence_names_winner_and_margin(self):
        d = self.pair("npo", "rmu")["attacked"]
        said, more = self.sentence()
        self.assertEqual(said, f"NPO wins: after the attack the model says {-d['mean']:.2f} [{-d['high']:.2f}, "
                         f"{-d['low']:.2f}] less of a line than with RMU, the next best method.")
        for text in ("above a model that never knew", "Retraining, the yardstick,", "costs 12× as much",
                     "(33% at the attack's peak, step 16)",
                     "GradDiff does not count: it is damaged, with 30% of the implanted model's utility", "ROME removed nothing"):
            self.assertIn(text, more)
        d = self.pair("graddiff", "npo")  # lower, and now surely
        d.update(attacked={"mean": -.07, "low": -.1, "high": -.04}, holds=True)
        self.write(self.summary)
        self.assertIn("GradDiff ends lower (0.19) but does not count", self.sentence()[1])

    def test_sentence_without_winner(self):
        wide = {"mean": -0.21, "low": -0.5, "high": 0.08}
        self.pair("npo", "rmu").update(attacked=wide, holds=False)
        self.write(self.summary)
        said, _ = self.sentence()
        self.assertTrue(said.startswith("No single winner: NPO and RMU keep most removed"), said)
        self.assertIn("+0.21 [−0.08, +0.50]", said)
        self.pair("sft", "npo").update(attacked={"mean": .55, "low": -.1, "high": .9}, holds=False)
        self.write(self.summary)
        said, _ = self.sentence()
        self.assertTrue(said.startswith("No winner: no difference holds."), said)
        self.damage(*(m["name"] for m in self.summary["models"] if m["kind"] == "removed"))
        self.assertEqual(self.sentence()[0], "No method won: each damaged what the model should keep.")

    def test_the_only_sound_method_wins(self):
        self.damage("sft", "rmu")
        self.assertTrue(self.sentence()[0].startswith("NPO wins: it alone removed the lines and kept the rest"))

    def test_older_summary(self):
        """As written before axes, ways back, costs of the attack, its peak, utility and the verdict were measured."""
        s = self.summary
        ladder = [r for r in s["rungs"] if len(r["rung"]) == 1]
        s["rungs"] = ladder
        for key in ("axes", "fit", "detectors", "verdict"):
            del s[key]
        for key in ("curves", "recovery"):
            s[key] = [r for r in s[key] if len(r["rung"]) == 1]
        for r in s["recovery"]:
            for key in ("effort_50", "effort_90", "peak", "strict"):
                r.pop(key, None)
        for m in s["models"]:
            del m["utility"], m["damaged"]
        del s["damaged_below"]
        s["cross"].append({"model": "npo", "treated": ["en"], "attack_language": "en", "rung": "b", "reach": "full",
                           "tested": "zh-Hans", "metric": "extraction_strength",
                           "value": {"mean": 0.7777, "low": 0.7, "high": 0.8}})
        self.write(s)
        page = self.page()
        for section in ("ways", "replies", "probes", "innocent", "fit", "pairs"):
            self.assertNotIn(section, page.ids)
        self.assertIn("0.78 [0.70, 0.80]", next(r for r in page.tables["languages"] if r[0] == "NPO"))
        said, _ = self.sentence()
        # Nothing is known to be damaged.
        self.assertTrue(said.startswith("GradDiff ends lowest") and "was not tested" in said, said)
        sft = next(r for r in page.tables["verdict"] if r[0] == "SFT on factual answers")
        self.assertRegex(sft[7], r"^\d+ steps$")

    def test_one_language(self):
        """Nothing is pooled: no record says "all"."""
        s = self.summary
        s["languages"] = ["en"]
        for key in ("before_attack", "curves", "recovery", "axes"):
            s[key] = [r for r in s[key] if r["language"] == "en"]
        s["verdict"] = [{**v, "language": "en"} for v in s["verdict"]]
        s["cross"] = [c for c in s["cross"] if c["tested"] == "en"]
        self.write(s)
        self.assertTrue(self.sentence()[0].startswith("NPO wins"))
        self.assertEqual(len(next(r for r in self.page().tables["verdict"] if r[0] == "NPO wins")), 8)

    def test_across_languages(self):
        rows = {r[0]: r for r in self.page().tables["languages"][:2 + len(self.summary["models"])]}
        for column, (rung, tested) in enumerate((("b/en", "en"), ("b/en", "zh-Hans"), ("b/zh-Hans", "en"),
                                                 ("b/zh-Hans", "zh-Hans")), 4):
            best = max((r for r in self.summary["recovery"] if (r["model"], r["rung"], r["language"]) ==
                        ("npo", rung, tested)), key=lambda r: r["recovered"]["mean"])
            self.assertEqual(rows["NPO"][column], "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**best["attacked"])
                             + f" {100 * best['recovered']['mean']:.0f}% back")

    def test_ways_back(self):
        rows = self.page().tables["ways"]
        names = rows[0][1:]
        self.assertEqual(set(names), {m["label"] for m in self.summary["models"] if m["kind"] in ("removed", "oracle")})
        mine = next(r for r in rows if r[0] == "Round to nearest bits 4, group 0")
        r = next(r for r in self.summary["recovery"]
                 if (r["model"], r["rung"], r["language"]) == ("rmu", "rtn4", "all"))
        self.assertEqual(mine[1 + names.index("RMU")], "{:.2f} {:+.2f} to oracle [{low:+.2f}, {high:+.2f}]".format(
            r["attacked"]["mean"], r["oracle_gap"]["mean"], **r["oracle_gap"]))

    def test_replies_and_their_detectors(self):
        page = self.page()
        rows = page.tables["replies"]
        npo = next(r for r in rows if r[0] == "NPO")
        a = next(a["metrics"] for a in self.summary["axes"] if (a["model"], a["set"], a["probe"], a["language"]) ==
                 ("npo", "forget", "plain", "all"))
        self.assertTrue(npo[4].startswith(f"{100 * a['refusal']['mean']:.0f}% ["), npo[4])
        precision, recall = (next(r for r in rows if f"({name})" in r[0]) for name in ("precision", "recall"))
        found = {d["detector"]: d for d in self.summary["detectors"]}
        self.assertTrue(precision[4].startswith("97%") and recall[4].startswith("92%"))
        self.assertTrue(precision[1].startswith(f"{100 * found['stance: asserted']['precision']['mean']:.0f}%"))
        self.assertIn("worst of 3", precision[7])
        leak = next(r for r in page.tables["innocent"] if r[0] == "Implanted")
        self.assertTrue(leak[1].startswith("11%") and leak[5].startswith("5%"), leak)
        self.summary["detectors"] = []
        self.write(self.summary)
        self.assertIn("How far the detectors can be trusted was not measured", self.page().text)

    def test_field(self):
        self.assertNotIn("field", self.page().ids)
        self.summary["field"] = {
            "benchmarks": [{"benchmark": "tofu", "paper": "Maini & co.", "main": ["forget_quality", "forget.truth_ratio"]},
                           {"benchmark": "mmlu", "paper": "Hendrycks", "main": ["acc"]}],
            "results": [{"model": "npo", "benchmark": "tofu", "metrics": {
                            "forget.items": 400, "forget.truth_ratio": 0.61237, "forget_quality": 3.2e-8}},
                        {"model": "sft", "benchmark": "tofu", "metrics": {"forget_quality": 1}},
                        {"model": "npo", "benchmark": "mmlu", "metrics": {"acc": 0.25}}]}
        self.write(self.summary)
        page = self.page()
        rows = page.tables["field"]
        self.assertEqual(rows[:3], [["Model", "forget quality", "forget truth ratio"],
                                    ["SFT on factual answers", "1.000", "–"], ["NPO", "3.2e−08", "0.612"]])
        self.assertIn(["forget.items", "–", "400"], rows)
        self.assertIn(["NPO", "0.250"], rows)
        self.assertIn("Maini & co.", page.text)
        self.summary["field"]["results"][0]["metrics"]["forget_quality"] = "high"
        self.write(self.summary)
        (self.folder / "report.html").unlink()
        self.fails("field.results[0].metrics.forget_quality", "a finite number")
        self.summary["field"]["results"][0] = {"model": "nobody", "benchmark": "tofu", "metrics": {}}
        self.write(self.summary)
        self.fails("field.results[0].model", '"nobody"')

    def test_pairs(self):
        rows = self.page().tables["pairs"]
        v = self.pair("npo", "rmu")["attacked"]
        row = next(r for r in rows if r[0] == "NPO below RMU")
        self.assertEqual(row[1:3], ["yes", f"{-v['mean']:+.2f} [{-v['high']:+.2f}, {-v['low']:+.2f}]"])
        self.assertEqual(next(r for r in rows if r[0] == "GradDiff damaged , NPO")[1], "no")
        peak = self.pair("npo", "rmu")["peak"]
        self.assertEqual(row[3], f"{-peak['mean']:+.2f} [{-peak['high']:+.2f}, {-peak['low']:+.2f}]")

    def test_ladder_equals_summary(self):
        rows = {row[0]: row for row in self.page().tables["ladder"]}
        retraining = next(m for m in self.summary["models"] if m["method"] == "retrain")["cost"]["flops"]
        for model in self.summary["models"]:
            row = rows[model["label"]]
            for column, metric in ((1, "extraction_strength"), (2, "greedy_match")):
                e = self.before(model["name"], metric)
                self.assertEqual(row[column], f"{e['mean']:.2f} [{e['low']:.2f}, {e['high']:.2f}]")
            records = {}
            for r in self.summary["recovery"]:
                if (r["model"], r["language"], r["metric"]) == (model["name"], "all", "extraction_strength"):
                    best = records.get(r["rung"])
                    if best is None or (r["recovered"]["mean"] or 0) > (best["recovered"]["mean"] or 0):
                        records[r["rung"]] = r
            for column, rung in enumerate("abcd", 3):
                r = records.get(rung)
                if r is None:
                    self.assertEqual(row[column], "–")
                elif r["recovered"]["mean"] is None:
                    self.assertEqual(row[column], "– " + r["reason"])
                else:
                    e = {k: f"{100 * v:.0f}".replace("-", "−") for k, v in r["recovered"].items()}
                    tag = "LoRA" if r["reach"] == "lora" else "full"
                    self.assertEqual(row[column], f"{e['mean']}% {tag} [{e['low']}, {e['high']}]")
            if model["cost"]["flops"]:
                ratio = float(re.search(r"([\d.]+)× retrain", row[8]).group(1))
                self.assertAlmostEqual(ratio, model["cost"]["flops"] / retraining, delta=0.06 * ratio)

    def test_recovery_shows_peak_and_stricter_bound(self):
        rows = self.page().tables["recovery"]
        head = next(row for row in rows if row[0] == "Model")
        r = next(r for r in self.summary["recovery"] if (r["model"], r["rung"], r["reach"], r["language"], r["metric"])
                 == ("npo", "b", "lora", "all", "extraction_strength"))
        shown = [row for row in rows if row[:3] == ["NPO", "b", "LoRA"]]  # one a language
        column = head.index("Recovered at the peak")
        peak, strict = r["peak"], r["strict"]

        def share(e, tag=""):
            return "{:.0f}%{} [{:.0f}, {:.0f}]".format(100 * e["mean"], tag, 100 * e["low"], 100 * e["high"])
        self.assertIn([share(peak["recovered"], f" step {peak['step']}"), share(strict["recovered"])],
                      [[row[column], row[column + 2]] for row in shown])
        self.assertEqual(next(row for row in rows if row[0] == "GradDiff")[column + 2], "–")

    def test_points_of_a_curve(self):
        html = report(self.folder)[2]
        curve = next(c for c in self.summary["curves"] if (c["model"], c["rung"], c["reach"], c["language"],
                     c["metric"]) == ("npo", "b", "full", "all", "extraction_strength"))
        start = html.index('aria-label="NPO, rung b, full fine-tuning, All languages: Extraction strength')
        panel = html[start:html.index("</svg>", start)]
        for step, mean, low, high in zip(*(curve[k] for k in ("steps", "mean", "low", "high"))):
            self.assertIn(f"<title>step {step}: {mean:.2f} [{low:.2f}, {high:.2f}]</title>", panel)
        heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', panel)]
        for y, mean in zip(heights, curve["mean"]):  # the axis runs from 1 at y = 8 to 0 at y = 134
            self.assertAlmostEqual((134 - y) / 126, mean, delta=0.001)

    def test_nulls(self):
        none = {"mean": None, "low": None, "high": None}
        s = copy.deepcopy(self.summary)
        for b in s["before_attack"]:
            b["metrics"] = {m: none if b["model"] == "npo" else None for m in b["metrics"]}
        for r in s["recovery"]:
            r.update(dict.fromkeys(("attacked", "recovered", "recovered_net", "oracle_gap", "injection"), none),
                     steps_to_50=None, tokens_to_50=None, auc=None, reason="because", effort_50=None, effort_90=None)
        for c in s["curves"]:
            c["low"] = c["high"] = [None] * len(c["steps"])
            c["mean"][1] = None
        for c in s["cross"]:
            c["value"] = none
        for a in s["axes"]:
            a["metrics"] = {m: none if a["model"] == "npo" else None for m in a["metrics"]}
        for f in s["fit"]:
            f["perplexity"] = f["kl"] = None
        for d in s["detectors"]:
            d["precision"] = d["recall"] = none
        for v in s["verdict"]:
            v.update(dict.fromkeys(("removed", "attacked", "oracle_gap_auc"), none), holds=False)
        for m in s["models"]:
            m["cost"] = None
        self.write(s)
        rows = {row[0]: row for row in self.page().tables["ladder"]}
        self.assertEqual(rows["NPO"][1:], ["–", "–"] + ["– because"] * 5 + ["–", "–"])
        self.assertNotIn("nan", (self.folder / "report.html").read_text(encoding="utf-8").lower().split())

    def test_no_oracle_and_little_else(self):
        s = self.summary
        s["models"] = [m for m in s["models"] if m["name"] in ("implanted", "npo")]
        for key in ("before_attack", "curves", "recovery", "cross", "axes", "fit"):
            s[key] = [r for r in s[key] if r["model"] in ("implanted", "npo")]
        s["verdict"] = []
        self.write(s)
        for name in ("results.jsonl", "ledger.jsonl", "environment.json", "config.resolved.yaml"):
            (self.folder / name).unlink()
        page = self.page()
        self.assertIn("NPO", [row[0] for row in page.tables["ladder"]])
        self.assertIn("No other method was measured", self.sentence()[0])
        self.assertNotIn('class="badge good"', (self.folder / "report.html").read_text())  # nobody was beaten
        self.assertNotIn("samples", page.ids)
        for key in ("models", "rungs", "before_attack", "curves", "recovery", "cross", "notes", "axes", "fit",
                    "detectors"):
            s[key] = []
        self.write(s)
        self.page()

    def test_text_is_escaped(self):
        s = self.summary
        s["models"][5]["label"] = "<b>&\"x"
        s["rungs"][0]["label"] = s["study"] = s["description"] = "<i>"
        self.write(s)
        self.assertIn("<b>&\"x", [row[0] for row in self.page().tables["ladder"]])

    def test_missing_keys_are_named(self):
        for path, named in ((("thinning",), "thinning"), (("models", 2, "cost", "flops"), "models[2].cost.flops"),
                            (("curves", 7, "steps"), "curves[7].steps"),
                            (("recovery", 0, "oracle_gap", "low"), "recovery[0].oracle_gap.low"),
                            (("axes", 1, "replies"), "axes[1].replies"), (("verdict", 0, "holds"), "verdict[0].holds"),
                            (("detectors", 0, "recall", "mean"), "detectors[0].recall.mean")):
            s = copy.deepcopy(self.summary)
            inner = s
            for key in path[:-1]:
                inner = inner[key]
            del inner[path[-1]]
            self.write(s)
            self.fails("summary.json", f"missing key '{named}'")

    def test_wrong_values_are_named(self):
        for change, words in (
                (lambda s: s.update(schema="resurface.summary/9"), ["'schema'", "summary/9"]),
                (lambda s: s["curves"][3].update(model="nobody"), ["curves[3].model", '"nobody"', "implanted"]),
                (lambda s: s["verdict"][3].update(b="nobody"), ["verdict[3].b", '"nobody"']),
                (lambda s: s["axes"][0]["metrics"].update(lcs=1), ["axes[0].metrics.lcs", "an object"]),
                (lambda s: s["curves"][3]["mean"].pop(), ["curves[3].mean", "6", "7"]),
                (lambda s: s["models"][1].update(label=3), ["models[1].label", "a string", "3"]),
                (lambda s: s["curves"][0].update(steps=[True]), ["curves[0].steps[0]", "an integer"]),
                (lambda s: s["models"][1]["cost"].update(flops=float("nan")), ["NaN", "null"])):
            s = copy.deepcopy(self.summary)
            change(s)
            self.write(s)
            self.fails("summary.json", *words)

    def test_broken_files(self):
        (self.folder / "results.jsonl").write_text('{"generated": "x", "phase": "before"\n', encoding="utf-8")
        self.fails("results.jsonl:1", "not JSON")
        (self.folder / "summary.json").write_text('{"schema": ', encoding="utf-8")
        self.fails("summary.json", "not JSON")
        (self.folder / "summary.json").unlink()
        self.fails("summary.json", "no such file")
        self.assertEqual(report(self.folder / "nowhere")[0], 1)


if __name__ == "__main__":
    unittest.main()
