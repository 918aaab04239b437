"""Reads a run folder and checks it against docs/results.md, so that the page can rely on it."""

import json
from pathlib import Path

SCHEMA = "resurface.summary/1"


class ReportError(Exception):
    """Something the user can act on: names the file and the key."""


class Maybe:
    """A value or null."""

    def __init__(self, spec):
        self.spec = spec


NUMBER = (int, float)
ESTIMATE = {"mean": Maybe(NUMBER), "low": Maybe(NUMBER), "high": Maybe(NUMBER)}
COST = {k: Maybe(NUMBER) for k in ("flops", "tokens", "seconds", "peak_bytes", "examples")}
NAMES = {int: "an integer", str: "a string", bool: "true or false", dict: "an object",
         NUMBER: "a finite number"}

# A key that ends in * is optional. A list holds the spec of its elements.
SUMMARY = {
    "schema": str, "study": str, "description": str, "fixture*": bool, "created*": Maybe(str),
    "complete*": bool, "languages": [str], "lines*": int, "interval": NUMBER, "resamples*": int,
    "seeds*": [int],
    "models": [{"name": str, "method": str, "label": str, "kind": str, "treated*": [str],
                "cost": Maybe(COST)}],
    "rungs": [{"rung": str, "label": str, "trained_on": str, "tested_on": str}],
    "attack*": dict, "utility_bound*": Maybe(NUMBER),
    "before_attack": [{"model": str, "language": str, "phrasing": str, "set": str, "items*": int,
                       "metrics": dict}],
    "curves": [{"model": str, "rung": str, "reach": str, "language": str, "metric": str,
                "steps": [int], "tokens": [NUMBER], "mean": [Maybe(NUMBER)], "low": [Maybe(NUMBER)],
                "high": [Maybe(NUMBER)], "utility*": [Maybe(NUMBER)]}],
    "recovery": [{"model": str, "rung": str, "reach": str, "language": str, "metric": str,
                  "at_step": int, "attacked": ESTIMATE, "recovered": ESTIMATE,
                  "recovered_net": ESTIMATE, "oracle_gap": ESTIMATE, "injection": ESTIMATE,
                  "steps_to_50": Maybe(int), "tokens_to_50": Maybe(NUMBER), "auc": Maybe(NUMBER),
                  "reason": Maybe(str)}],
    "cross": [{"model": str, "treated": [str], "attack_language": Maybe(str), "rung": Maybe(str),
               "reach": Maybe(str), "tested": str, "metric": str, "value": ESTIMATE}],
    "thinning": str, "notes": [str],
}
KINDS = ("base", "implanted", "oracle", "removed")


def _check(value, spec, file, where):
    if isinstance(spec, Maybe):
        if value is not None:
            _check(value, spec.spec, file, where)
    elif isinstance(spec, list):
        if not isinstance(value, list):
            raise ReportError(f"{file}: '{where}' should be a list, but is {_show(value)}")
        for i, element in enumerate(value):
            _check(element, spec[0], file, f"{where}[{i}]")
    elif isinstance(spec, dict):
        _check(value, dict, file, where or "the whole file")
        for name, inner in spec.items():
            key = name.rstrip("*")
            path = f"{where}.{key}" if where else key
            if key in value:
                _check(value[key], inner, file, path)
            elif not name.endswith("*"):
                raise ReportError(f"{file}: missing key '{path}' (see docs/results.md)")
    elif not isinstance(value, spec) or (isinstance(value, bool) and spec is not bool):
        raise ReportError(f"{file}: '{where}' should be {NAMES[spec]}, but is {_show(value)}")


def _show(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _parse(text, file):
    def refuse(constant):
        raise ReportError(f"{file}: {constant} is not allowed; use null for what is not defined")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ReportError(f"{file}: not JSON: {error}") from None


def read_text(path):
    """The text of a file, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from None


def load_summary(path):
    text = read_text(path)
    if text is None:
        raise ReportError(f"{path}: no such file; `resurface study` writes it")
    summary = _parse(text, path)
    schema = summary.get("schema") if isinstance(summary, dict) else None
    if schema is not None and schema != SCHEMA:
        raise ReportError(f"{path}: 'schema' is {_show(schema)}, this report reads \"{SCHEMA}\"")
    _check(summary, SUMMARY, path, "")

    names = [m["name"] for m in summary["models"]]
    if len(set(names)) != len(names):
        raise ReportError(f"{path}: 'models' has two of the same name: {', '.join(names)}")
    for i, model in enumerate(summary["models"]):
        if model["kind"] not in KINDS:
            raise ReportError(f"{path}: 'models[{i}].kind' should be one of {', '.join(KINDS)}, "
                              f"but is {_show(model['kind'])}")
    rungs = [r["rung"] for r in summary["rungs"]]
    for key in ("before_attack", "curves", "recovery", "cross"):
        for i, record in enumerate(summary[key]):
            where = f"{key}[{i}]"
            if record["model"] not in names:
                raise ReportError(f"{path}: '{where}.model' is {_show(record['model'])}, "
                                  f"which is not among models: {', '.join(names)}")
            if record.get("rung") is not None and record["rung"] not in rungs:
                raise ReportError(f"{path}: '{where}.rung' is {_show(record['rung'])}, "
                                  f"which is not among rungs: {', '.join(rungs)}")
    for i, record in enumerate(summary["before_attack"]):
        for metric, value in record["metrics"].items():
            _check(value, Maybe(ESTIMATE), path, f"before_attack[{i}].metrics.{metric}")
    for i, curve in enumerate(summary["curves"]):
        for key in ("tokens", "mean", "low", "high", "utility"):
            if key in curve and len(curve[key]) != len(curve["steps"]):
                raise ReportError(f"{path}: 'curves[{i}].{key}' has {len(curve[key])} values, "
                                  f"'steps' has {len(curve['steps'])}")
    return summary


def load_lines(path, only=""):
    """The objects of a JSON-lines file whose line contains `only`; [] where there is no file."""
    found = []
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and only in line:
                    record = _parse(line, f"{path}:{number}")
                    _check(record, dict, f"{path}:{number}", "the line")
                    found.append(record)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from None
    return found


def load_samples(path):
    """Rows of results.jsonl with a free generation made before any attack."""
    need = {"model": str, "set": str, "item": str, "topic*": str, "language": str, "phrasing": str,
            "question*": Maybe(int), "prompt": str, "line*": Maybe(str), "lcs*": Maybe(NUMBER)}
    rows = []
    for row in load_lines(path, only='"generated"'):
        if row.get("generated") is not None and row.get("phase") == "before":
            _check(row, {**need, "generated": str}, path, f"a row with \"generated\" of {row.get('model')}")
            rows.append(row)
    return rows


class Run:
    """A run folder as the page needs it."""

    def __init__(self, folder):
        folder = Path(folder)
        if not folder.is_dir():
            raise ReportError(f"{folder}: no such folder; give the run folder of a study")
        self.folder = folder
        self.summary = load_summary(folder / "summary.json")
        self.samples = load_samples(folder / "results.jsonl")
        self.ledger = load_lines(folder / "ledger.jsonl")
        for i, stage in enumerate(self.ledger):
            _check(stage, {"stage": str, "reused*": bool, **COST}, folder / "ledger.jsonl", f"[{i}]")
        environment = read_text(folder / "environment.json")
        self.environment = _parse(environment, folder / "environment.json") if environment else {}
        _check(self.environment, dict, folder / "environment.json", "the whole file")
        self.config = read_text(folder / "config.resolved.yaml")

        s = self.summary
        self.models = s["models"]
        self.removed = [m for m in self.models if m["kind"] == "removed"]
        self.by_name = {m["name"]: m for m in self.models}
        self.languages = s["languages"] + ["all"]
        self._before = {(b["model"], b["language"], b["phrasing"], b["set"]): b["metrics"]
                        for b in s["before_attack"]}
        self._curves = {(c["model"], c["rung"], c["reach"], c["language"], c["metric"]): c
                        for c in s["curves"]}
        self._recovery = {(r["model"], r["rung"], r["reach"], r["language"], r["metric"]): r
                          for r in s["recovery"]}
        self.reaches = list(dict.fromkeys(c["reach"] for c in s["curves"]))

    def first(self, kind):
        return next((m for m in self.models if m["kind"] == kind), None)

    def before(self, model, metric, language="all", phrasing="held_out", which="forget"):
        """An estimate, or None."""
        found = self._before.get((model, language, phrasing, which), {}).get(metric)
        return found if found and found["mean"] is not None else None

    def curve(self, model, rung, reach, language, metric):
        return self._curves.get((model, rung, reach, language, metric))

    def recovery(self, model, rung, reach, language="all", metric="extraction_strength"):
        return self._recovery.get((model, rung, reach, language, metric))

    def worst_reach(self, model, rung, language="all", metric="extraction_strength"):
        """The recovery record of the reach that brought most back; any record where none is defined."""
        records = [r for reach in self.reaches
                   if (r := self.recovery(model, rung, reach, language, metric))]
        defined = [r for r in records if r["recovered"]["mean"] is not None]
        return max(defined, key=lambda r: r["recovered"]["mean"]) if defined else next(iter(records), None)

    def retraining(self):
        """The model whose cost is the cost of retraining, or None."""
        return next((m for m in self.removed if m["method"] == "retrain"), self.first("oracle"))

    def gap_rung(self):
        rungs = [r["rung"] for r in self.summary["rungs"]]
        return "b" if "b" in rungs else (rungs[-1] if rungs else None)
