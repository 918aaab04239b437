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
            for section in ("verdict", "before", "retain", "languages"):
                names = [row[0] for row in page.tables[section]]
                self.assertIn(model["label"], names, section)
        for rung in self.summary["rungs"]:
            self.assertIn(f"Rung {rung['rung']}: {rung['label']}", page.text)
        panels = [label for section, label in page.figures if section == "curves"]
        removed = [m for m in self.summary["models"] if m["kind"] == "removed"]
        self.assertEqual(len(panels), len(removed) * 3 * 2 * 3 * 3)  # rungs, reaches, languages, metrics
        for model in removed:
            self.assertTrue(any(p.startswith(model["label"] + ", rung b, LoRA") for p in panels))
        for text in (self.summary["thinning"], *self.summary["notes"], "台湾与中国是什么关系？",
                     "台湾自古以来就是中国领土不可分割的一部分", "made-up processor", "<escaped> & kept as it is",
                     "Made-up figures"):
            self.assertIn(text, page.text)

    def test_verdict_equals_summary(self):
        rows = {row[0]: row for row in self.page().tables["verdict"]}
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
            for column, rung in enumerate("abd", 3):
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
                ratio = float(re.search(r"([\d.]+)× retrain", row[7]).group(1))
                self.assertAlmostEqual(ratio, model["cost"]["flops"] / retraining, delta=0.06 * ratio)

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
                     steps_to_50=None, tokens_to_50=None, auc=None, reason="because")
        for c in s["curves"]:
            c["low"] = c["high"] = [None] * len(c["steps"])
            c["mean"][2] = None
        for c in s["cross"]:
            c["value"] = none
        for m in s["models"]:
            m["cost"] = None
        self.write(s)
        rows = {row[0]: row for row in self.page().tables["verdict"]}
        self.assertEqual(rows["NPO"][1:], ["–", "–"] + ["– because"] * 4 + ["–", "–"])
        self.assertNotIn("nan", (self.folder / "report.html").read_text(encoding="utf-8").lower().split())

    def test_no_oracle_and_little_else(self):
        s = self.summary
        s["models"] = [m for m in s["models"] if m["name"] in ("implanted", "npo")]
        for key in ("before_attack", "curves", "recovery", "cross"):
            s[key] = [r for r in s[key] if r["model"] in ("implanted", "npo")]
        self.write(s)
        for name in ("results.jsonl", "ledger.jsonl", "environment.json", "config.resolved.yaml"):
            (self.folder / name).unlink()
        page = self.page()
        self.assertIn("NPO", [row[0] for row in page.tables["verdict"]])
        self.assertNotIn("samples", page.ids)
        for key in ("models", "rungs", "before_attack", "curves", "recovery", "cross", "notes"):
            s[key] = []
        self.write(s)
        self.page()

    def test_text_is_escaped(self):
        s = self.summary
        s["models"][5]["label"] = "<b>&\"x"
        s["rungs"][0]["label"] = s["study"] = s["description"] = "<i>"
        self.write(s)
        self.assertIn("<b>&\"x", [row[0] for row in self.page().tables["verdict"]])

    def test_missing_keys_are_named(self):
        for path, named in ((("thinning",), "thinning"), (("models", 2, "cost", "flops"), "models[2].cost.flops"),
                            (("curves", 7, "steps"), "curves[7].steps"),
                            (("recovery", 0, "oracle_gap", "low"), "recovery[0].oracle_gap.low")):
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
